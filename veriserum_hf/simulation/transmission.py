"""Transmission of the beam through solids, on the canvas.

The canvas is the grid of a corrected image with a margin: there the plane's camera is a plain pinhole.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from veriserum_hf.core import ImageArray
from veriserum_hf.geometry import Plane, pixel_size_mm
from veriserum_hf.rendering import path_length_window
from veriserum_hf.simulation.imaging import Imaging, Part

RAYS_PER_PIXEL = 2  # along each axis
# Raw frames show more than the 360 mm of a corrected image: their field reaches some 200 mm from the centre.
_MARGIN_MM = 27.0


def canvas_margin_px(size: int) -> int:
    """Pixels that a canvas has on every side beyond the corrected image of ``size`` px."""
    return int(np.ceil(_MARGIN_MM / pixel_size_mm(size)))


def transmission(parts: Sequence[Part], plane: Plane, imaging: Imaging, size: int) -> ImageArray:
    """Transmission without scatter, exp(-sum of mu L), on the canvas of a ``size`` px image.

    Raises
    ------
    ValueError
        If a material has no attenuation, or a mesh cannot be rendered (see `path_length`).

    """
    margin = canvas_margin_px(size)
    shape = (size + 2 * margin, size + 2 * margin)
    # Takes memory only where something is added.
    exponent = np.zeros(np.multiply(shape, RAYS_PER_PIXEL), np.float32)
    seen = []
    for part in parts:
        if part.material not in imaging.attenuation_per_mm:
            known = ", ".join(imaging.attenuation_per_mm)
            raise ValueError(f"no attenuation is known for {part.material!r}, expected one of {known}")
        per_mm = imaging.attenuation_scale * imaging.attenuation_per_mm[part.material]
        fine = path_length_window(part.mesh, part.T_world_part, plane, RAYS_PER_PIXEL * size, RAYS_PER_PIXEL * margin)
        if fine.values.size:
            where = fine.slices(RAYS_PER_PIXEL * margin)
            cv2.scaleAdd(fine.values.astype(np.float32), -per_mm, exponent[where], exponent[where])
            seen.append(where)
    canvas = np.ones(shape, np.float32)
    if seen:
        rows, columns = (_pixels_around([where[axis] for where in seen]) for axis in (0, 1))
        through = exponent[_rays(rows), _rays(columns)]
        cv2.exp(through, through)
        width, height = columns.stop - columns.start, rows.stop - rows.start
        canvas[rows, columns] = cv2.resize(through, (width, height), interpolation=cv2.INTER_AREA)
    return canvas


def _pixels_around(rays: Sequence[slice]) -> slice:
    """The fewest canvas pixels in a row that hold all these rays."""
    return slice(min(s.start for s in rays) // RAYS_PER_PIXEL, -(-max(s.stop for s in rays) // RAYS_PER_PIXEL))


def _rays(pixels: slice) -> slice:
    """The rays of so many canvas pixels."""
    return slice(pixels.start * RAYS_PER_PIXEL, pixels.stop * RAYS_PER_PIXEL)
