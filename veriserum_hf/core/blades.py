"""What straight blades of a collimator hide: beyond one, an image is dark out to its border.

The light that blades leave is convex. So a blade is a long side of the convex hull of all light, along which levels
fall in a step. A skin line is no step, and an implant or a block that the border cuts leaves no such side.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from veriserum_hf.core.arrays import BoolArray, FloatArray

_SIZE_PX = 512  # of the image in which they are looked for, where that is larger
_LIGHT = 0.08  # of the range of levels, above the darkest
_SPECK_PX = 5  # what is smaller is noise
_STRAIGHT_MM = 1.5  # by which the end of the light departs from a straight line
_LEAST = 0.15  # of the image's shorter edge, the length of a blade's side
_REACH_MM = 3.0  # on either side of it, where levels are compared: its edge is blurred
_STEP = 4.0  # factor between these levels, above the darkest; metal in front leaves 0.08 to 0.35 of the light
# Of a side, the least that is a step, since implants may reach beyond it; and of its bright part, of which levels are
# at least half of the side's highest.
_LEAST_STEP, _LEAST_BRIGHT, _BRIGHT = 0.3, 0.8, 0.5


def beyond_blades(image: NDArray[np.float32], pixel_mm: ArrayLike = (1.0, 1.0)) -> BoolArray:
    """Pixels beyond the straight blades of a collimator, (rows, columns); none in an inverted image.

    Parameters
    ----------
    image : (rows, columns), brighter where there is more light.
    pixel_mm : width and height of a pixel.

    """
    whole = np.array(image.shape[::-1])
    size = np.maximum(np.rint(whole * min(_SIZE_PX / whole.max(), 1)), 1).astype(int)
    small = np.asarray(cv2.resize(image, size.tolist(), interpolation=cv2.INTER_AREA), np.float32)
    beyond = _beyond(small, np.asarray(pixel_mm) * whole / size)
    found = cv2.resize(beyond.astype(np.uint8), whole.tolist(), interpolation=cv2.INTER_NEAREST) > 0
    # In an inverted image, it is the blades that are bright: then all that they leave would be hidden.
    return np.zeros_like(found) if found[len(found) // 2, found.shape[1] // 2] else found


def _beyond(image: NDArray[np.float32], edges: FloatArray) -> BoolArray:
    """The same in an image of few pixels, ``edges`` wide and high, mm; of an inverted one, all but its blades."""
    levels = np.asarray(cv2.blur(image, (3, 3)), np.float32)
    levels -= levels.min()
    beyond: BoolArray = np.zeros(image.shape, np.bool_)
    light = (levels > _LIGHT * levels.max()).astype(np.uint8)
    light = np.asarray(cv2.morphologyEx(light, cv2.MORPH_OPEN, np.ones((_SPECK_PX, _SPECK_PX), np.uint8)))
    if not light.any():
        return beyond
    hull = cv2.convexHull(cv2.findNonZero(light)).astype(np.float32) * edges.astype(np.float32)  # mm
    corners = cv2.approxPolyDP(hull, _STRAIGHT_MM, closed=True)[:, 0].astype(float)
    middle = corners.mean(axis=0)
    x, y = (np.arange(n) * edge for n, edge in zip(image.shape[::-1], edges, strict=True))
    least_mm = _LEAST * float((np.array(image.shape[::-1]) * edges).min())
    for first, last in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        side = last - first
        length_mm = float(np.hypot(*side))
        if length_mm < least_mm:
            continue
        outward = np.array([side[1], -side[0]]) / length_mm
        outward *= np.sign(outward @ (first - middle))
        if _is_step(levels, first + np.linspace(0.02, 0.98, 100)[:, None] * side, outward, edges):
            beyond |= x * outward[0] + y[:, None] * outward[1] > (hull[:, 0] @ outward).max()
    return beyond


def _is_step(levels: NDArray[np.float32], at_mm: FloatArray, outward: FloatArray, edges: FloatArray) -> bool:
    """Whether levels fall in a step at places (n, 2) of a side; not at a border of the image."""
    rows, columns = levels.shape
    found = []
    for reach_mm in (-_REACH_MM, _REACH_MM):
        column, row = np.rint((at_mm + reach_mm * outward) / edges).astype(int).T
        shown = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        found.append(np.where(shown, levels[row.clip(0, rows - 1), column.clip(0, columns - 1)], np.nan))
    inside, outside = found
    if np.isnan(inside).all():
        return False
    bright = inside >= max(_BRIGHT * float(np.nanmax(inside)), _LIGHT * float(levels.max()))
    steps = int((bright & (inside > _STEP * outside)).sum())
    return steps > max(_LEAST_STEP * len(bright), _LEAST_BRIGHT * int(bright.sum()))
