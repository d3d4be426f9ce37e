"""Meshes with fewer triangles, whose surface is the same to a stated distance.

A coarse image does not show what a fine one does, but renders as many triangles: below some 500 px they, not the
pixels, are what rendering costs.
"""

from functools import lru_cache

import numpy as np
import trimesh
from manifold3d import Error, Manifold, Mesh64

_KEPT = 256  # meshes; a data set has tens of implants, at some levels of detail each


@lru_cache(maxsize=_KEPT)
def simplified(mesh: trimesh.Trimesh, within_mm: float) -> trimesh.Trimesh:
    """Closed mesh with fewer triangles, no place of whose surface has moved by more than ``within_mm``.

    It is the mesh itself where that is not simpler, or where more than two triangles share an edge (no solid).
    Results are kept by the content of the mesh: do not change them.
    """
    solid = Manifold(Mesh64(np.ascontiguousarray(mesh.vertices), np.asarray(mesh.faces).astype(np.uint64)))
    if solid.status() != Error.NoError:
        return mesh
    found = solid.simplify(within_mm).to_mesh64()
    # Copies: memory of manifold3d that is alive when Python ends is reported as a leak.
    vertices, faces = np.array(found.vert_properties)[:, :3].copy(), np.array(found.tri_verts, dtype=np.int64)
    if not 0 < len(faces) < len(mesh.faces):
        return mesh
    coarse = trimesh.Trimesh(vertices, faces, process=False)
    return coarse if coarse.is_watertight and coarse.volume > 0 else mesh
