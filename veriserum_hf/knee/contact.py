"""Lowest point of each condyle over the tray, and the pivot of a trial about the tibia's long axis."""

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import invert_transform, transform_points

_BETWEEN_MM = 4.0  # half of the width between the condyles, which bears nothing
_FRAMES_AT_ONCE = 500
_LEAST_SPREAD = 1e-4  # of the lines' directions, of a pivot


def condyle_points(mesh: trimesh.Trimesh, T_implant_axes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Corners that may be a condyle's lowest point, (n, 3) mm in the femur's axes: those at x > 0, and at x < 0."""
    points = transform_points(invert_transform(T_implant_axes), np.asarray(mesh.vertices))
    halves = []
    for side in (1.0, -1.0):
        half = points[side * points[:, 0] > _BETWEEN_MM]
        halves.append(np.asarray(trimesh.convex.convex_hull(half).vertices, dtype=np.float64))
    return halves[0], halves[1]


def lowest_points(points_mm: FloatArray, T_tibia_femur: FloatArray) -> FloatArray:
    """Lowest of these points of the femur in each frame, (n, 3) mm in the tibia's axes; NaN where a pose is.

    Parameters
    ----------
    points_mm : (k, 3) in the femur's axes.
    T_tibia_femur : (n, 4, 4) poses of the femur's axes in the tibia's.

    """
    lowest = np.full((len(T_tibia_femur), 3), np.nan)
    known = np.flatnonzero(np.isfinite(T_tibia_femur[:, 0, 0]))
    for start in range(0, len(known), _FRAMES_AT_ONCE):
        at = known[start : start + _FRAMES_AT_ONCE]
        T = T_tibia_femur[at]
        nearest = points_mm[(T[:, 1, :3] @ points_mm.T).argmin(axis=1)]
        lowest[at] = (T[:, :3, :3] @ nearest[:, :, None])[..., 0] + T[:, :3, 3]
    return lowest


def lowest_deviations(points_mm: FloatArray, T_tibia_femur: FloatArray, covariance: FloatArray) -> FloatArray:
    """Standard deviations (n, 3), mm, of `lowest_points`; NaN where unknown.

    Where a round condyle touches depends on its curvature, not on the motion of one of its points: the deviations are
    those of the lowest points of twelve poses that have this covariance (Julier & Uhlmann, Proc IEEE 92 (2004) 401).

    Parameters
    ----------
    points_mm : (k, 3) in the femur's axes.
    T_tibia_femur : (n, 4, 4).
    covariance : (n, 6, 6) of the position, mm, and the rotation vector, deg, in the tibia's axes.

    """
    found = np.full((len(T_tibia_femur), 3), np.nan)
    known = np.isfinite(covariance).all(axis=(1, 2)) & np.isfinite(T_tibia_femur).all(axis=(1, 2))
    if not known.any():
        return found
    T = T_tibia_femur[known]
    variance, axes = np.linalg.eigh(covariance[known])
    offsets = axes * np.sqrt(6 * variance.clip(0))[:, None]
    lowest = []
    for offset in (*np.moveaxis(offsets, 2, 0), *np.moveaxis(-offsets, 2, 0)):
        moved = T.copy()
        moved[:, :3, :3] = Rotation.from_rotvec(offset[:, 3:], degrees=True).as_matrix() @ T[:, :3, :3]
        moved[:, :3, 3] += offset[:, :3]
        lowest.append(lowest_points(points_mm, moved))
    found[known] = np.std(lowest, axis=0)
    return found


def pivot(first_mm: FloatArray, second_mm: FloatArray) -> FloatArray | None:
    """Average centre of rotation on the tray, (2,) mm: the point that lines between lowest points stay closest to.

    After Banks and Hodge (J Arthroplasty 19 (2004) 809). None where the lines do not rotate.

    Parameters
    ----------
    first_mm, second_mm : (n, 2) lowest points of the condyles on the tray; NaN where unknown.

    """
    known = np.isfinite(first_mm[:, 0]) & np.isfinite(second_mm[:, 0])
    start, along = first_mm[known], (first_mm - second_mm)[known]
    if not len(start):
        return None
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    normals = np.stack([-along[:, 1], along[:, 0]], axis=-1)
    A = normals.T @ normals / len(normals)
    if np.linalg.eigvalsh(A)[0] < _LEAST_SPREAD:
        return None
    return np.asarray(np.linalg.solve(A, normals.T @ (normals * start).sum(axis=1) / len(normals)))
