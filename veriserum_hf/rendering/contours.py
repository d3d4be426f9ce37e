"""Projected contours of a mesh, to draw over an image."""

import cv2
import numpy as np
import trimesh
from numpy.typing import ArrayLike

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import Camera, Plane, Size, rows_columns
from veriserum_hf.rendering.rasteriser import camera_of, path_length_window

_OVERSAMPLING = 8  # contours go through the outermost pixels of the shadow, so many times finer than the image's


def outline(
    mesh: trimesh.Trimesh, T_world_implant: ArrayLike, camera: Camera | Plane, size: Size = 512
) -> list[FloatArray]:
    """Contours of a mesh's shadow, holes included, in pixels of an image.

    Parameters
    ----------
    mesh, T_world_implant, camera, size : see `veriserum_hf.rendering.rasteriser.path_length`.

    Returns
    -------
    Closed contours, each (n, 2) as (column, row), up to an eighth of a pixel inside the true ones; none where the
    mesh is outside the image.

    Raises
    ------
    ValueError
        As `path_length`.

    """
    fine = tuple(_OVERSAMPLING * edge for edge in rows_columns(size))
    window = path_length_window(mesh, T_world_implant, camera_of(camera, size).resized(size, fine), fine)
    # A lit border, so that a contour that leaves the image closes along its edge.
    shadow = np.pad((window.values > 0).astype(np.uint8), 1)
    found, _ = cv2.findContours(shadow, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    first = np.array([window.column - 1, window.row - 1])
    return [(c[:, 0] + first + 0.5) / _OVERSAMPLING - 0.5 for c in found]
