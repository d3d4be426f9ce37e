"""Pixel grid of a corrected image of the Veriserum rig.

In an intensifier's own plane h points right and v up, seen in the corrected image. That image is N x N pixels over
360 mm. At N = 1600, index i lies at ``(i - 800) 0.225`` mm; every other N is the half-pixel-centred resize of that
grid, so index i at any N lies at

    mm = (i + 0.5) 360 / N - 180 - 0.1125          (columns: h; rows: -v)

Source: authors' repository and paper (arXiv 2509.05483).
"""

import numpy as np
from numpy.typing import ArrayLike

from veriserum_hf.core import FloatArray

FIELD_MM = 360.0
NATIVE_SIZE = 1600
# Index 800 of 1600, not 799.5, is 0 mm: the grid is half a native pixel off the centre of the image.
_GRID_ORIGIN_MM = FIELD_MM / 2 + FIELD_MM / NATIVE_SIZE / 2


def pixel_size_mm(size: float) -> float:
    """Edge of one pixel of a corrected image of ``size`` x ``size`` pixels, mm."""
    return FIELD_MM / size


def px_to_mm(column_row_px: ArrayLike, size: float) -> FloatArray:
    """Corrected-image pixels (..., 2) as (column, row) to intensifier mm (..., 2) as (h right, v up)."""
    px = np.asarray(column_row_px, dtype=np.float64)
    return ((px + 0.5) * pixel_size_mm(size) - _GRID_ORIGIN_MM) * (1.0, -1.0)


def mm_to_px(h_v_mm: ArrayLike, size: float) -> FloatArray:
    """Intensifier mm (..., 2) as (h right, v up) to corrected-image pixels (..., 2) as (column, row)."""
    mm = np.asarray(h_v_mm, dtype=np.float64)
    return (mm * (1.0, -1.0) + _GRID_ORIGIN_MM) / pixel_size_mm(size) - 0.5
