"""Local refinement of coarse poses: the outline of the silhouette moves to the edges near it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from veriserum_hf.core import FloatArray
from veriserum_hf.registration.from_images.edge_maps import EdgeMap
from veriserum_hf.registration.from_images.templates import ReducedMesh
from veriserum_hf.rendering import compiled

_POINTS = 128  # of an outline
_STEP_PX = 0.5  # between samples along a normal
_ON_EDGE_PX = 1.5  # an outline is on an edge that is so near
_WEAK = 0.02  # weight of the prior that keeps a pose, against that of its outline: depth in one plane is weak
_MIN_IN_FIELD = 0.3
CHANCE = 0.6  # score of the best outline where there is no implant


@dataclass(frozen=True, eq=False)
class CoarseFit:
    """Outline of one implant in the edge maps of all planes, at one scale.

    Attributes
    ----------
    mesh : of the implant.
    planes : edge maps.
    sign : 1 where implants are darker than what surrounds them, else -1.

    """

    mesh: ReducedMesh
    planes: Sequence[EdgeMap]
    sign: float

    def refined(
        self, rotation: FloatArray, center_mm: FloatArray, windows_px: Sequence[float]
    ) -> tuple[FloatArray, FloatArray]:
        """Refine a pose by one Gauss-Newton step for each search window, half its width in px.

        Poses are the rotation (3, 3) and the centre of the implant in the world, (3,) mm.
        """
        reach_mm = self.mesh.reach_mm
        for window in windows_px:
            normal, right = np.zeros((6, 6)), np.zeros(6)
            for plane in self.planes:
                J, offset, weight = self._rows(plane, rotation, center_mm, window)
                normal += (J.T * weight) @ J
                right += J.T @ (weight * offset)
            trace = float(np.trace(normal))
            if not trace > 0:
                break
            step = np.linalg.solve(normal + _WEAK * trace / 6 * np.eye(6), right)
            center_mm = center_mm + step[:3]
            rotation = Rotation.from_rotvec(step[3:] / reach_mm).as_matrix() @ rotation
        return rotation, center_mm

    def score(self, rotation: FloatArray, center_mm: FloatArray) -> float:
        """Mean agreement, 0 to 1, of the outline with edges at it; a plane that does not show it counts as chance."""
        scores = []
        for plane in self.planes:
            px, normals, _ = self._outline(plane, rotation, center_mm)
            responses = _along_normals(plane.edges, px, self.sign, normals, _ON_EDGE_PX, _STEP_PX)
            column, row = np.rint(px).astype(int).T
            rows, columns = plane.in_field.shape
            inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            inside[inside] = plane.in_field[row[inside], column[inside]]
            shown = inside.mean() >= _MIN_IN_FIELD
            scores.append(float(responses.max(axis=1)[inside].mean()) if shown else CHANCE)
        return float(np.mean(scores)) if max(scores) > CHANCE else min(scores)

    def _outline(
        self, plane: EdgeMap, rotation: FloatArray, center: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Outline in the image of a plane: pixels, outward normals, and points in the camera's axes."""
        T, K = plane.camera.world_to_camera, plane.camera.intrinsics
        focal_px = K.diagonal()[:2]
        seen = self.mesh.outline(T[:3, :3] @ rotation, T[:3, :3] @ center + T[:3, 3], focal_px, _POINTS)
        in_camera = np.concatenate([seen.px / focal_px, np.ones((len(seen.px), 1))], axis=1) * seen.depths_mm[:, None]
        return seen.px + K[:2, 2], seen.normals, in_camera

    def _rows(
        self, plane: EdgeMap, rotation: FloatArray, center: FloatArray, window: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Jacobian (n, 6) of the offsets along normals, px, for steps in mm, the offsets, and their weights."""
        px, normals, in_camera = self._outline(plane, rotation, center)
        responses = _along_normals(plane.edges, px, self.sign, normals, window, _STEP_PX) ** 2
        at = (np.arange(responses.shape[1]) - responses.shape[1] // 2) * _STEP_PX
        responses *= np.exp(-0.5 * (at / (0.6 * window)) ** 2)
        total = responses.sum(axis=1)
        offset = responses @ at / np.maximum(total, 1e-9)
        weight = np.sqrt(responses.max(axis=1)) / (1 + (offset / (0.5 * window)) ** 2) ** 2 / len(px)
        T, focal_px = plane.camera.world_to_camera, plane.camera.intrinsics.diagonal()[:2]
        along = normals * focal_px / in_camera[:, 2:]
        direction = np.concatenate(
            [along, -(along * in_camera[:, :2]).sum(axis=1, keepdims=True) / in_camera[:, 2:]], axis=1
        )
        direction = direction @ T[:3, :3]
        arm = (in_camera - T[:3, 3]) @ T[:3, :3] - center
        return np.concatenate([direction, np.cross(arm, direction) / self.mesh.reach_mm], axis=1), offset, weight


@compiled
def _along_normals(
    edges: NDArray[np.float32], px: FloatArray, sign: float, normals: FloatArray, window_px: float, step_px: float
) -> FloatArray:
    """Edge along the normals (n, 2) at offsets up to the window, (n, samples), bilinear; 0 where the sign differs."""
    rows, columns = edges.shape[1:]
    half = math.ceil(window_px / step_px)
    found = np.zeros((len(px), 2 * half + 1))
    for n in range(len(px)):
        for s in range(2 * half + 1):
            x = px[n, 0] + normals[n, 0] * (s - half) * step_px
            y = px[n, 1] + normals[n, 1] * (s - half) * step_px
            column, row = math.floor(x), math.floor(y)
            if 0 <= column < columns - 1 and 0 <= row < rows - 1:
                u, v = x - column, y - row
                along = 0.0
                for axis in range(2):
                    upper = edges[axis, row, column] * (1 - u) + edges[axis, row, column + 1] * u
                    lower = edges[axis, row + 1, column] * (1 - u) + edges[axis, row + 1, column + 1] * u
                    along += normals[n, axis] * (upper * (1 - v) + lower * v)
                found[n, s] = min(max(sign * along, 0.0), 1.0)
    return found
