"""The field of an image: all of it but the corners outside a round or collimated one, whatever its grey values.

Where an encoder has made all that is outside the field one level, only this level is outside: under another scale of
grey values, tissue near the rim may be nearly as dark. Where glare or noise is outside, all that is dark is.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from veriserum_hf.core.arrays import BoolArray

# Only beyond this share of the radius of the largest circle in the image can a dark corner be outside the field;
# within it, it may be an implant.
_RIM = 150 / 180
_DARK = 0.08  # of the range of levels, from the level outside the field
_FLAT = 1.5 / 255
# Of what is beyond the largest circle, the least that is on one level: at least 0.59 in real 8-bit images, whatever
# their gamma, at most 0.15 in simulated ones with glare; and the least number of corners.
_COVERED, _CORNERS = 0.3, 3
_STEP_PX = 5  # within which the inverted level of the outside ends; saturated background fades into tissue


def round_field(
    image: NDArray[np.float32],
    pixel_mm: ArrayLike = (1.0, 1.0),
    center_px: ArrayLike | None = None,
    diameter_mm: float | None = None,
) -> BoolArray:
    """Field of an image, (rows, columns): all but dark regions that touch a corner, outside the circle of the object.

    In an inverted image these are bright.

    Parameters
    ----------
    image : (rows, columns), 1 is the brightest pixel.
    pixel_mm : width and height of a pixel; in any unit, if all of the image is in it.
    center_px, diameter_mm : of a round field, (column, row) and in the unit of ``pixel_mm``; not given: the largest
        circle in the image.

    """
    size = np.array(image.shape[::-1])
    center = (size - 1) / 2 if center_px is None else np.asarray(center_px)
    edges = np.asarray(pixel_mm)
    diameter = float((size * edges).min()) if diameter_mm is None else diameter_mm
    x, y = ((np.arange(n) - at) * edge for n, at, edge in zip(size, center, edges, strict=True))
    radius = np.hypot(y[:, None], x[None, :])
    rim, beyond = radius > _RIM * diameter / 2, radius > diameter / 2
    levels = cv2.blur(image, (3, 3))
    low, high = float(image.min()), float(image.max())
    if not high > low:
        return np.ones(image.shape, np.bool_)
    flat, apart = _FLAT * (high - low), _DARK * (high - low)
    black = _at_corners((levels <= low + flat) & rim, beyond)
    if black is not None:
        return ~_with_edge(black, image <= low + flat)
    for margin in (flat, apart):
        white = _at_corners((levels >= high - margin) & rim, beyond)
        if white is not None and _ends_in_a_step(white, levels < high - apart):
            return ~_with_edge(white, image >= high - flat)
    return ~_touching_corners((levels < _DARK) & rim)[0]


def _touching_corners(region: BoolArray) -> tuple[BoolArray, int]:
    """Connected parts of a region that touch corners of the image, and how many corners they touch."""
    labels = cv2.connectedComponents(region.astype(np.uint8))[1]
    at_corners = labels[[0, 0, -1, -1], [0, -1, 0, -1]]
    parts = at_corners[at_corners > 0]
    return np.isin(labels, parts), len(parts)


def _at_corners(region: BoolArray, beyond: BoolArray) -> BoolArray | None:
    """Parts of a region that touch corners, if they cover most of what is beyond the circle; else None."""
    found, corners = _touching_corners(region)
    covers = np.count_nonzero(found & beyond) >= _COVERED * np.count_nonzero(beyond)
    return found if corners >= _CORNERS and covers else None


def _with_edge(region: BoolArray, on_level: BoolArray) -> BoolArray:
    """A region and those pixels next to it that are on its level: the mean of their neighbours is not."""
    grown: BoolArray = cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return region | (grown & on_level)


def _ends_in_a_step(region: BoolArray, different: BoolArray) -> bool:
    """Whether most of the pixels next to a region have clearly different levels."""
    reach = np.ones((2 * _STEP_PX + 1, 2 * _STEP_PX + 1), np.uint8)
    next_to = (cv2.dilate(region.astype(np.uint8), reach) > 0) & ~region
    return bool(next_to.any() and different[next_to].mean() > 0.5)
