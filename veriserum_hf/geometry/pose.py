"""Rigid transforms: Euler ZXY, quaternion, 6-D, rotation matrix and 4x4.

Every function takes one rotation or a stack of them: ``...`` in a shape is any number of leading axes.
Rotations are active and map implant points to the world: ``x_world = R @ x_implant + t``.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from veriserum_hf.core import FloatArray


def _stacked(values: ArrayLike, *core: int) -> tuple[FloatArray, tuple[int, ...]]:
    """Values as ``(n, *core)`` and their leading axes."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape[array.ndim - len(core) :] != core:
        raise ValueError(f"expected an array of shape (..., {', '.join(map(str, core))}), got {array.shape}")
    leading = array.shape[: array.ndim - len(core)]
    return array.reshape(-1, *core), leading


def euler_zxy_to_matrix(rz_rx_ry_deg: ArrayLike) -> FloatArray:
    """Rotation matrix of the intrinsic Euler angles of the Veriserum tables, ``R = Rz Rx Ry``.

    Parameters
    ----------
    rz_rx_ry_deg : (..., 3) degrees, in the order rz, rx, ry.

    Returns
    -------
    (..., 3, 3) rotation matrices.

    """
    angles, leading = _stacked(rz_rx_ry_deg, 3)
    matrices: FloatArray = Rotation.from_euler("ZXY", angles, degrees=True).as_matrix()
    return matrices.reshape(*leading, 3, 3)


def matrix_to_euler_zxy(matrix: ArrayLike) -> FloatArray:
    """Angles (rz, rx, ry) in degrees, (..., 3), of rotation matrices (..., 3, 3); rx lies in [-90, 90]."""
    matrices, leading = _stacked(matrix, 3, 3)
    angles: FloatArray = Rotation.from_matrix(matrices).as_euler("ZXY", degrees=True)
    return angles.reshape(*leading, 3)


def quaternion_to_matrix(quaternion_xyzw: ArrayLike) -> FloatArray:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4), scalar last, normalised on the way.

    Raises
    ------
    ValueError
        If a quaternion has no length.

    """
    quaternions, leading = _stacked(quaternion_xyzw, 4)
    matrices: FloatArray = Rotation.from_quat(quaternions).as_matrix()
    return matrices.reshape(*leading, 3, 3)


def matrix_to_quaternion(matrix: ArrayLike) -> FloatArray:
    """Unit quaternions (x, y, z, w), w >= 0, (..., 4), of rotation matrices (..., 3, 3)."""
    matrices, leading = _stacked(matrix, 3, 3)
    quaternions: FloatArray = Rotation.from_matrix(matrices).as_quat(canonical=True)
    return quaternions.reshape(*leading, 4)


def canonical_quaternion(quaternion_xyzw: ArrayLike) -> FloatArray:
    """Return the same rotations, (..., 4), with unit length and w >= 0."""
    quaternions, leading = _stacked(quaternion_xyzw, 4)
    canonical: FloatArray = Rotation.from_quat(quaternions).as_quat(canonical=True)
    return canonical.reshape(*leading, 4)


def matrix_to_6d(matrix: ArrayLike) -> FloatArray:
    """First two columns of rotation matrices (..., 3, 3), one after the other: (..., 6).

    Source: Zhou et al., On the Continuity of Rotation Representations in Neural Networks, CVPR 2019.
    """
    matrices, leading = _stacked(matrix, 3, 3)
    return matrices[:, :, :2].swapaxes(1, 2).reshape(*leading, 6)


def matrix_from_6d(columns: ArrayLike) -> FloatArray:
    """Rotation matrices (..., 3, 3) of two columns (..., 6), made orthonormal by Gram-Schmidt.

    Raises
    ------
    ValueError
        If the two columns are parallel or one has no length.

    """
    flat, leading = _stacked(columns, 6)
    a, b = flat[:, :3], flat[:, 3:]
    length_a = np.linalg.norm(a, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = a / length_a
        across = b - (x * b).sum(axis=1, keepdims=True) * x
        length_across = np.linalg.norm(across, axis=1, keepdims=True)
        y = across / length_across
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("6-D rotation: its two columns are parallel or one has no length")
    return np.stack([x, y, np.cross(x, y)], axis=2).reshape(*leading, 3, 3)


def make_transform(rotation: ArrayLike, translation_mm: ArrayLike) -> FloatArray:
    """Build 4x4 transforms, (..., 4, 4), from rotation matrices (..., 3, 3) and translations (..., 3) in mm."""
    rotation = np.asarray(rotation, dtype=np.float64)
    translation_mm = np.asarray(translation_mm, dtype=np.float64)
    leading = np.broadcast_shapes(rotation.shape[:-2], translation_mm.shape[:-1])
    transform = np.zeros((*leading, 4, 4))
    transform[..., :3, :3] = rotation
    transform[..., :3, 3] = translation_mm
    transform[..., 3, 3] = 1.0
    return transform


def invert_transform(transform: ArrayLike) -> FloatArray:
    """Inverse of rigid transforms (..., 4, 4)."""
    transform = np.asarray(transform, dtype=np.float64)
    rotation_t = transform[..., :3, :3].swapaxes(-1, -2)
    return make_transform(rotation_t, -(rotation_t @ transform[..., :3, 3:])[..., 0])


def transform_points(transform: ArrayLike, points_mm: ArrayLike) -> FloatArray:
    """Map points (..., n, 3) in mm by rigid transforms (..., 4, 4)."""
    transform = np.asarray(transform, dtype=np.float64)
    points = np.asarray(points_mm, dtype=np.float64)
    mapped: FloatArray = points @ transform[..., :3, :3].swapaxes(-1, -2) + transform[..., None, :3, 3]
    return mapped


def angle_between_deg(matrix_a: ArrayLike, matrix_b: ArrayLike) -> FloatArray:
    """Geodesic angle in degrees, (...), between rotation matrices (..., 3, 3)."""
    relative = np.asarray(matrix_a, dtype=np.float64).swapaxes(-1, -2) @ np.asarray(matrix_b, dtype=np.float64)
    matrices, leading = _stacked(relative, 3, 3)
    angle: FloatArray = np.degrees(Rotation.from_matrix(matrices).magnitude())
    return angle.reshape(leading)
