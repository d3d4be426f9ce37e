"""Solids and their meshes, which are the same to the last bit in every process."""

import numpy as np
import trimesh
from manifold3d import Error, Manifold, Mesh64

# Corners lie on this grid: the 32-bit numbers of an STL file hold it exactly within 128 mm of the origin.
_GRID_MM = 2.0**-14


def solid_of(mesh: trimesh.Trimesh) -> Manifold:
    """Solid inside a closed mesh, mm."""
    return Manifold(Mesh64(np.ascontiguousarray(mesh.vertices), np.asarray(mesh.faces).astype(np.uint64)))


def mesh_of(solid: Manifold, smallest_detail_mm: float) -> trimesh.Trimesh:
    """Closed mesh of a solid, mm, outward; the order of its corners and triangles depends on the shape alone.

    Parameters
    ----------
    solid : the solid, mm.
    smallest_detail_mm : edges that are shorter, and corners that stick out less, are merged.

    Raises
    ------
    RuntimeError
        If rounding to the grid leaves no solid.

    """
    rough = solid.simplify(smallest_detail_mm).to_mesh64()
    on_grid = np.round(np.asarray(rough.vert_properties)[:, :3] / _GRID_MM) * _GRID_MM
    rounded = Manifold(Mesh64(np.ascontiguousarray(on_grid), np.asarray(rough.tri_verts).copy()))
    if rounded.status() != Error.NoError:
        raise RuntimeError(f"rounded to {_GRID_MM} mm, the shape is not a solid: {rounded.status()}")
    mesh = rounded.simplify(smallest_detail_mm).to_mesh64()
    corners, faces = np.asarray(mesh.vert_properties)[:, :3], np.asarray(mesh.tri_verts).astype(np.int64)
    order = np.lexsort(corners.T)
    faces = order.argsort()[faces]
    first = faces.argmin(axis=1)[:, None]
    faces = np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1)
    return trimesh.Trimesh(corners[order] + 0.0, faces[np.lexsort(faces.T)], process=False)  # no -0.0
