"""Projected contours of a mesh, to draw over an image."""

import cv2
import numpy as np
import trimesh
from numpy.typing import ArrayLike

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import Plane, mm_to_px, px_to_mm
from veriserum_hf.rendering.rasteriser import path_length_window

_OVERSAMPLING = 8  # contours go through the outermost pixels of the shadow, so many times finer than the image's


def outline(mesh: trimesh.Trimesh, T_world_implant: ArrayLike, plane: Plane, size: int = 512) -> list[FloatArray]:
    """Contours of a mesh's shadow, holes included, in pixels of a corrected image.

    Parameters
    ----------
    mesh, T_world_implant, plane, size : see `veriserum_hf.rendering.rasteriser.path_length`.

    Returns
    -------
    Closed contours, each (n, 2) as (column, row), up to an eighth of a pixel inside the true ones; none where the
    mesh is outside the image.

    Raises
    ------
    ValueError
        As `path_length`.

    """
    window = path_length_window(mesh, T_world_implant, plane, _OVERSAMPLING * size)
    # A lit border, so that a contour that leaves the image closes along its edge.
    shadow = np.pad((window.values > 0).astype(np.uint8), 1)
    found, _ = cv2.findContours(shadow, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    first = np.array([window.column - 1, window.row - 1])
    return [mm_to_px(px_to_mm(c[:, 0] + first, _OVERSAMPLING * size), size) for c in found]
