"""The field of an image: all of it but the dark corners outside a round one."""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from veriserum_hf.core.arrays import BoolArray

# Only beyond this share of the radius of the largest circle in the image can a dark corner be outside the field;
# within it, it may be an implant.
_RIM = 150 / 180
_DARK = 0.08  # of the brightest pixel


def round_field(
    image: NDArray[np.float32],
    pixel_mm: ArrayLike = (1.0, 1.0),
    center_px: ArrayLike | None = None,
    diameter_mm: float | None = None,
) -> BoolArray:
    """Field of an image, (rows, columns): all but dark regions that touch a corner, outside the circle of the object.

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
    rim = np.hypot(y[:, None], x[None, :]) > _RIM * diameter / 2
    dark = (cv2.blur(image, (3, 3)) < _DARK) & rim
    labels = cv2.connectedComponents(dark.astype(np.uint8))[1]
    corners = {int(labels[row, column]) for row in (0, -1) for column in (0, -1)} - {0}
    return ~np.isin(labels, list(corners))
