"""Projection of a phantom's markers, and the poses of the phantom that fit their projections best.

Projection in an intensifier's frame (h, v, n), source at (pp, SID): (h, v) = pp + SID / (SID - n) ((x, y) - pp).
Everything is done for many frames at once: f frames with n markers each.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.geometry import Plane, make_transform

_CONVERGED_STEP = 1e-6  # radians, or of the lever below; the error after such a step is about its square
_LEVER_MM = 100.0  # a rotation of one radian counts as much as a translation of so many mm


class PlaneMarkers(NamedTuple):
    """Markers of all frames of one plane, padded to the same number; ``seen`` is False for padding.

    Attributes
    ----------
    marker_mm : (f, n, 3) in the phantom.
    detector_mm : (f, n, 2) on the intensifier.
    seen : (f, n).

    """

    marker_mm: FloatArray
    detector_mm: FloatArray
    seen: BoolArray


class Projection(NamedTuple):
    """Projections of markers, and their derivatives.

    Attributes
    ----------
    detector_mm : (f, n, 2) on the intensifier.
    by_point : (f, n, 2, 3) by a shift of the marker in the world.
    by_pose : (f, n, 2, 6) by a rotation of the phantom about its origin (radians, world axes), and a shift (mm).
    by_plane : (f, n, 2, 3) by principal point h, v and SID.
    from_center_mm : (f, n, 3) from the intensifier's centre to the marker, along the world's axes.

    """

    detector_mm: FloatArray
    by_point: FloatArray
    by_pose: FloatArray
    by_plane: FloatArray
    from_center_mm: FloatArray


def linearised(plane: Plane, T_world_phantom: FloatArray, marker_mm: FloatArray) -> Projection:
    """Projection of markers (f, n, 3), or of the same (n, 3) in every pose (f, 4, 4), with its derivatives."""
    R_world_intensifier = plane.T_world_intensifier[:3, :3]
    lever_mm = marker_mm @ T_world_phantom[:, :3, :3].swapaxes(1, 2)
    from_center_mm = lever_mm + (T_world_phantom[:, None, :3, 3] - plane.T_world_intensifier[:3, 3])
    local_mm = from_center_mm @ R_world_intensifier
    height_mm = local_mm[..., 2]
    depth_mm = plane.sid_mm - height_mm
    across_mm = local_mm[..., :2] - plane.principal_point_mm
    magnification = plane.sid_mm / depth_mm
    h_v, n = R_world_intensifier[:, :2].T, R_world_intensifier[:, 2]
    slope = (magnification / depth_mm)[..., None] * across_mm
    by_point = magnification[..., None, None] * h_v + slope[..., None] * n
    by_plane = np.zeros((*height_mm.shape, 2, 3))
    by_plane[..., 0, 0] = by_plane[..., 1, 1] = 1 - magnification
    by_plane[..., 2] = (-height_mm / depth_mm**2)[..., None] * across_mm
    detector_mm = plane.principal_point_mm + magnification[..., None] * across_mm
    by_pose = np.concatenate([by_rotation(lever_mm, by_point), by_point], axis=-1)
    return Projection(detector_mm, by_point, by_pose, by_plane, from_center_mm)


def by_rotation(lever_mm: FloatArray, by_point: FloatArray) -> FloatArray:
    """Derivative by a rotation, (f, n, 2, 3), of what moves by ``by_point`` at the end of a lever (f, n, 3)."""
    x, y, z = (lever_mm[..., None, axis] for axis in range(3))
    a, b, c = (by_point[..., axis] for axis in range(3))
    return np.stack([y * c - z * b, z * a - x * c, x * b - y * a], axis=-1)


def initial_poses(affine: FloatArray, plane: Plane) -> FloatArray:
    """Poses of the phantom in the world, (f, 4, 4), nearest to affine projections of it.

    Parameters
    ----------
    affine : (f, 2, 4) that map (x, y, z, 1) of the phantom to (h, v) mm, as a distant source would.
    plane : its principal point and distance are kept.

    """
    length = np.linalg.norm(affine[:, :, :3], axis=2)
    scale = np.sqrt(length.prod(axis=1))
    x = affine[:, 0, :3] / length[:, :1]
    y = affine[:, 1, :3] - (affine[:, 1, :3] * x).sum(axis=1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    R_intensifier_phantom = np.stack([x, y, np.cross(x, y)], axis=1)
    across_mm = plane.principal_point_mm + (affine[:, :, 3] - plane.principal_point_mm) / scale[:, None]
    center_mm = np.column_stack([across_mm, plane.sid_mm * (1 - 1 / scale)])
    T_world_phantom: FloatArray = plane.T_world_intensifier @ make_transform(R_intensifier_phantom, center_mm)
    return T_world_phantom


def fit_poses(
    measured: Sequence[PlaneMarkers],
    planes: Sequence[Plane],
    T_world_phantom: FloatArray,
    huber_mm: float = np.inf,
    most_steps: int = 12,
) -> tuple[FloatArray, list[Projection]]:
    """Poses (f, 4, 4) that bring every frame's markers nearest to where they were seen, and their projections.

    Gauss-Newton in all frames at once, from approximate poses (f, 4, 4); Huber's loss from ``huber_mm`` on.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the markers of a frame do not determine its pose.

    """
    for _ in range(most_steps):
        projections = _projections(measured, planes, T_world_phantom)
        frames = len(T_world_phantom)
        normal, gradient = np.zeros((frames, 6, 6)), np.zeros((frames, 6, 1))
        for markers, projection in zip(measured, projections, strict=True):
            residual_mm = projection.detector_mm - markers.detector_mm
            weight = huber_weight(residual_mm, markers.seen, huber_mm)
            by_pose = projection.by_pose.reshape(frames, -1, 6)
            weighted = (by_pose * weight.reshape(frames, -1, 1)).swapaxes(1, 2)
            normal += weighted @ by_pose
            gradient += weighted @ residual_mm.reshape(frames, -1, 1)
        normal += (
            1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(6)
        )  # a poor initial pose may be singular
        step = -np.linalg.solve(normal, gradient)[..., 0]
        rotation = Rotation.from_rotvec(np.clip(step[:, :3], -0.5, 0.5)).as_matrix()
        R, t_mm = T_world_phantom[:, :3, :3], T_world_phantom[:, :3, 3]
        T_world_phantom = make_transform(rotation @ R, t_mm + step[:, 3:])
        if max(np.abs(step[:, :3]).max(), np.abs(step[:, 3:]).max() / _LEVER_MM) < _CONVERGED_STEP:
            break
    return T_world_phantom, _projections(measured, planes, T_world_phantom)


def _projections(
    measured: Sequence[PlaneMarkers], planes: Sequence[Plane], T_world_phantom: FloatArray
) -> list[Projection]:
    return [
        linearised(plane, T_world_phantom, markers.marker_mm) for plane, markers in zip(planes, measured, strict=True)
    ]


def huber_weight(residual_mm: FloatArray, seen: BoolArray, huber_mm: float) -> FloatArray:
    """Huber's weights (f, n, 2) of residuals (f, n, 2), 0 where no marker is seen (f, n)."""
    weight: FloatArray = np.minimum(1.0, huber_mm / np.maximum(np.abs(residual_mm), 1e-12)) * seen[..., None]
    return weight
