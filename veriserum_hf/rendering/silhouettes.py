"""Points of a mesh that its outline in an image comes from (contour generator).

An outline is the image of edges between a face towards the source and a face away from it. Where such a point of the
mesh moves, the outline moves by the same along its normal, to first order: this gives derivatives with respect to a
pose. Concave edges are never on an outline; others may be hidden by the mesh itself: whoever uses them decides in an
image.
"""

from dataclasses import dataclass

import numpy as np
import trimesh
from numpy.typing import NDArray

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.geometry import Camera
from veriserum_hf.rendering.compilation import compiled


@dataclass(frozen=True, eq=False)
class ContourPieces:
    """Short straight pieces of a mesh's contours in an image.

    Attributes
    ----------
    points_mm : (n, 3) their centres, in the mesh's coordinates.
    px : (n, 2) projected, (column, row).
    normals : (n, 2) unit vectors in the image, away from the mesh's shadow.
    length_px : (n,).

    """

    points_mm: FloatArray
    px: FloatArray
    normals: FloatArray
    length_px: FloatArray

    def taken(self, chosen: BoolArray) -> "ContourPieces":
        """Pieces that are chosen, (n,) bool."""
        return ContourPieces(self.points_mm[chosen], self.px[chosen], self.normals[chosen], self.length_px[chosen])


class ContourGenerator:
    """Edges of a closed mesh, prepared once for contours at many poses."""

    def __init__(self, mesh: trimesh.Trimesh) -> None:
        self._vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float64)
        self._faces = np.ascontiguousarray(mesh.faces, dtype=np.int64)
        self._normals = np.ascontiguousarray(mesh.face_normals, dtype=np.float64)
        convex = mesh.face_adjacency_convex
        self._pairs = np.ascontiguousarray(mesh.face_adjacency[convex], dtype=np.int64)
        self._edges = np.ascontiguousarray(mesh.face_adjacency_edges[convex], dtype=np.int64)

    def pieces(self, T_world_implant: FloatArray, camera: Camera, step_px: float = 1.0) -> ContourPieces:
        """Pieces of the contours at a pose (4, 4) mm, none longer than ``step_px``; hidden ones too."""
        T = camera.world_to_camera @ T_world_implant
        source_mm = -T[:3, :3].T @ T[:3, 3]
        in_camera = self._vertices @ T[:3, :3].T + T[:3, 3]
        K = camera.intrinsics
        px = in_camera[:, :2] / in_camera[:, 2:] * (K[0, 0], K[1, 1]) + K[:2, 2]
        towards = _towards(self._vertices, self._faces, self._normals, source_mm)
        points, normals, length = _pieces(self._vertices, self._faces, self._pairs, self._edges, towards, px, step_px)
        in_camera = points @ T[:3, :3].T + T[:3, 3]
        return ContourPieces(
            points, in_camera[:, :2] / in_camera[:, 2:] * (K[0, 0], K[1, 1]) + K[:2, 2], normals, length
        )


@compiled
def _towards(vertices: FloatArray, faces: NDArray[np.int64], normals: FloatArray, source_mm: FloatArray) -> BoolArray:
    """Whether each face is seen from the source."""
    seen = np.empty(len(faces), np.bool_)
    for f in range(len(faces)):
        along = 0.0
        for axis in range(3):
            along += normals[f, axis] * (source_mm[axis] - vertices[faces[f, 0], axis])
        seen[f] = along > 0
    return seen


@compiled
def _pieces(
    vertices: FloatArray,
    faces: NDArray[np.int64],
    pairs: NDArray[np.int64],
    edges: NDArray[np.int64],
    towards: BoolArray,
    px: FloatArray,
    step_px: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centres in mm, outward normals and lengths in px of all pieces."""
    count = 0
    for e in range(len(pairs)):
        if towards[pairs[e, 0]] != towards[pairs[e, 1]]:
            a, b = edges[e, 0], edges[e, 1]
            count += max(1, int(np.ceil(np.hypot(px[b, 0] - px[a, 0], px[b, 1] - px[a, 1]) / step_px)))
    points, normals, length = np.empty((count, 3)), np.empty((count, 2)), np.empty(count)
    n = 0
    for e in range(len(pairs)):
        if towards[pairs[e, 0]] == towards[pairs[e, 1]]:
            continue
        a, b = edges[e, 0], edges[e, 1]
        dx, dy = px[b, 0] - px[a, 0], px[b, 1] - px[a, 1]
        edge_px = np.hypot(dx, dy)
        parts = max(1, int(np.ceil(edge_px / step_px)))
        # Both faces of a convex contour edge lie on one side of it in the image.
        face = faces[pairs[e, 0]]
        third = face[0] + face[1] + face[2] - a - b
        side = dx * (px[third, 1] - px[a, 1]) - dy * (px[third, 0] - px[a, 0])
        sign = 1.0 if side > 0 else -1.0
        for part in range(parts):
            share = (part + 0.5) / parts
            for axis in range(3):
                points[n, axis] = vertices[a, axis] * (1 - share) + vertices[b, axis] * share
            normals[n, 0] = sign * dy / max(edge_px, 1e-12)
            normals[n, 1] = -sign * dx / max(edge_px, 1e-12)
            length[n] = edge_px / parts
            n += 1
    return points, normals, length
