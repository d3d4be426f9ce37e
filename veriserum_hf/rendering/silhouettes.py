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
        return ContourPieces(*_taken(chosen, self.points_mm, self.px, self.normals, self.length_px))


class ContourGenerator:
    """Edges of a closed mesh, prepared once for contours at many poses."""

    def __init__(self, mesh: trimesh.Trimesh) -> None:
        self._vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float64)
        self._normals = np.ascontiguousarray(mesh.face_normals, dtype=np.float64)
        self._heights_mm = (self._normals * self._vertices[mesh.faces[:, 0]]).sum(axis=1)
        convex = mesh.face_adjacency_convex
        self._pairs = np.ascontiguousarray(mesh.face_adjacency[convex], dtype=np.int64)
        ends = mesh.face_adjacency_edges[convex]
        third = mesh.faces[self._pairs[:, 0]].sum(axis=1) - ends.sum(axis=1)
        self._corners = np.ascontiguousarray(np.column_stack([ends, third]), dtype=np.int64)

    def pieces(self, T_world_implant: FloatArray, camera: Camera, step_px: float = 1.0) -> ContourPieces:
        """Pieces of the contours at a pose (4, 4) mm, none longer than ``step_px``; hidden ones too."""
        T = camera.world_to_camera @ T_world_implant
        towards = _towards(self._normals, self._heights_mm, -T[:3, :3].T @ T[:3, 3])
        corners_mm = self._vertices[_contour_corners(self._pairs, self._corners, towards)]
        points, normals, length = _pieces(corners_mm, _projected(corners_mm, T, camera.intrinsics), step_px)
        return ContourPieces(points, _projected(points, T, camera.intrinsics), normals, length)


@compiled
def _taken(
    chosen: BoolArray, points_mm: FloatArray, px: FloatArray, normals: FloatArray, length_px: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    count = 0
    for n in range(len(chosen)):
        count += chosen[n]
    points, at, across, length = np.empty((count, 3)), np.empty((count, 2)), np.empty((count, 2)), np.empty(count)
    m = 0
    for n in range(len(chosen)):
        if chosen[n]:
            points[m, 0], points[m, 1], points[m, 2] = points_mm[n, 0], points_mm[n, 1], points_mm[n, 2]
            at[m, 0], at[m, 1] = px[n, 0], px[n, 1]
            across[m, 0], across[m, 1] = normals[n, 0], normals[n, 1]
            length[m] = length_px[n]
            m += 1
    return points, at, across, length


@compiled
def _towards(normals: FloatArray, heights_mm: FloatArray, source_mm: FloatArray) -> BoolArray:
    """Whether the source is above the plane of each face, so that it sees it."""
    seen = np.empty(len(normals), np.bool_)
    x, y, z = source_mm
    for f in range(len(normals)):
        seen[f] = normals[f, 0] * x + normals[f, 1] * y + normals[f, 2] * z > heights_mm[f]
    return seen


@compiled
def _contour_corners(pairs: NDArray[np.int64], corners: NDArray[np.int64], towards: BoolArray) -> NDArray[np.int64]:
    """Corners, three for each, of edges between a face towards the source and one away from it."""
    found, count = np.empty(3 * len(pairs), np.int64), 0
    for e in range(len(pairs)):
        if towards[pairs[e, 0]] != towards[pairs[e, 1]]:
            for corner in range(3):
                found[count + corner] = corners[e, corner]
            count += 3
    return found[:count].copy()


@compiled
def _projected(points_mm: FloatArray, T: FloatArray, K: FloatArray) -> FloatArray:
    """Points in the mesh's coordinates to (column, row)."""
    px = np.empty((len(points_mm), 2))
    for n in range(len(points_mm)):
        x, y, z = points_mm[n, 0], points_mm[n, 1], points_mm[n, 2]
        depth_mm = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
        px[n, 0] = (T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]) / depth_mm * K[0, 0] + K[0, 2]
        px[n, 1] = (T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]) / depth_mm * K[1, 1] + K[1, 2]
    return px


@compiled
def _pieces(corners_mm: FloatArray, px: FloatArray, step_px: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centres in mm, outward normals and lengths in px of all pieces of edges.

    Three corners for each edge, (3 n, 3) mm and (3 n, 2) px: its ends, and the third of one of its faces. Both faces
    of a convex contour edge lie on one side of it in the image.
    """
    parts = np.empty(len(px) // 3, np.int64)
    for e in range(len(parts)):
        a, b = 3 * e, 3 * e + 1
        parts[e] = max(1, int(np.ceil(np.hypot(px[b, 0] - px[a, 0], px[b, 1] - px[a, 1]) / step_px)))
    points, normals, length = np.empty((parts.sum(), 3)), np.empty((parts.sum(), 2)), np.empty(parts.sum())
    n = 0
    for e in range(len(parts)):
        a, b, c = 3 * e, 3 * e + 1, 3 * e + 2
        dx, dy = px[b, 0] - px[a, 0], px[b, 1] - px[a, 1]
        edge_px = np.hypot(dx, dy)
        side = dx * (px[c, 1] - px[a, 1]) - dy * (px[c, 0] - px[a, 0])
        sign = 1.0 if side > 0 else -1.0
        for part in range(parts[e]):
            share = (part + 0.5) / parts[e]
            for axis in range(3):
                points[n, axis] = corners_mm[a, axis] * (1 - share) + corners_mm[b, axis] * share
            normals[n, 0] = sign * dy / max(edge_px, 1e-12)
            normals[n, 1] = -sign * dx / max(edge_px, 1e-12)
            length[n] = edge_px / parts[e]
            n += 1
    return points, normals, length
