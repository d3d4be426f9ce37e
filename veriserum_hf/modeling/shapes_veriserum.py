"""Shapes of implants as points of their surfaces, for models that are given the mesh of an implant."""

import numpy as np
import torch
from numpy.typing import ArrayLike

from .geometry_veriserum import farthest_first

POINTS = 256
_CANDIDATES = 16 * POINTS
_SIZES_MM = (10.0, 500.0)  # a dot, as a mesh in metres has it, would be given any pose with confidence


def surface_points(vertices_mm: ArrayLike, faces: ArrayLike) -> np.ndarray:
    """Points spread evenly over a mesh, with outward normals: (POINTS, 6) float32, the same wherever they are made.

    Parameters
    ----------
    vertices_mm : (n, 3) in the implant's own frame.
    faces : (m, 3) indices of vertices. Where they enclose a negative volume, the normals are turned.

    Returns
    -------
    Position (mm) and normal of each point. They depend on the surface, hardly on its triangles.

    Raises
    ------
    ValueError
        If it is not a mesh of triangles, has no area, or is not of the size of an implant in mm.

    """
    vertices, triangles = np.asarray(vertices_mm, dtype=np.float64), np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(
            f"a mesh needs vertices (n, 3) and faces (m, 3), got shapes {vertices.shape} and {triangles.shape}"
        )
    corners = vertices[triangles]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled_area = np.linalg.norm(cross, axis=1)
    if not len(triangles) or not 0 < doubled_area.sum() < np.inf:
        area = f"{doubled_area.sum() / 2:.3g} mm^2"
        raise ValueError(f"a mesh needs faces with an area, got {len(triangles)} of {area}")
    size_mm, (low, high) = np.ptp(corners.reshape(-1, 3), axis=0).max(), _SIZES_MM
    if not low <= size_mm <= high:
        raise ValueError(
            f"the mesh is {size_mm:.3g} mm large, expected {low:g} to {high:g} mm; is it in another unit, such as "
            "metres?"
        )
    centred = corners - vertices.mean(axis=0)
    if np.einsum("ni,ni->", centred[:, 0], np.cross(centred[:, 1], centred[:, 2])) < 0:
        cross = -cross
    # As many candidates on a face as its share of the area asks for; golden ratios spread them over it.
    ends = np.cumsum(doubled_area) / doubled_area.sum()
    number = np.arange(_CANDIDATES)
    face = np.minimum(np.searchsorted(ends, (number + 0.5) / _CANDIDATES), len(triangles) - 1)
    one, other = (number * 0.7548776662466927) % 1, (number * 0.5698402909980532) % 1
    root = np.sqrt(one)
    weights = np.stack([1 - root, root * (1 - other), root * other], axis=1)
    positions = np.einsum("nc,nci->ni", weights, corners[face])
    chosen = farthest_first(torch.from_numpy(positions), POINTS)
    normals = cross[face[chosen]] / doubled_area[face[chosen], None]
    return np.concatenate([positions[chosen], normals], axis=1).astype(np.float32)
