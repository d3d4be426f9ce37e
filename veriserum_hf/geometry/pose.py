"""Rigid transforms: Euler ZXY, quaternion, rotation matrix and 4x4.

Every function takes one rotation or a stack of them: ``...`` in a shape is any number of leading axes.
Rotations are active and map implant points to the world: ``x_world = R @ x_implant + t``.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from veriserum_hf.core import FloatArray


def _checked(values: ArrayLike, *core: int) -> FloatArray:
    """Values as an array of shape ``(..., *core)``."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape[array.ndim - len(core) :] != core:
        raise ValueError(f"expected an array of shape (..., {', '.join(map(str, core))}), got {array.shape}")
    return array


def euler_zxy_to_matrix(rz_rx_ry_deg: ArrayLike) -> FloatArray:
    """Rotation matrix of the intrinsic Euler angles of the Veriserum tables, ``R = Rz Rx Ry``.

    Parameters
    ----------
    rz_rx_ry_deg : (..., 3) degrees, in the order rz, rx, ry.

    Returns
    -------
    (..., 3, 3) rotation matrices.

    """
    matrices: FloatArray = Rotation.from_euler("ZXY", _checked(rz_rx_ry_deg, 3), degrees=True).as_matrix()
    return matrices


def matrix_to_euler_zxy(matrix: ArrayLike) -> FloatArray:
    """Angles (rz, rx, ry) in degrees, (..., 3), of rotation matrices (..., 3, 3); rx lies in [-90, 90]."""
    angles: FloatArray = Rotation.from_matrix(_checked(matrix, 3, 3)).as_euler("ZXY", degrees=True)
    return angles


def quaternion_to_matrix(quaternion_xyzw: ArrayLike) -> FloatArray:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4), scalar last, of any nonzero length.

    Raises
    ------
    ValueError
        If a quaternion has zero length.

    """
    matrices: FloatArray = Rotation.from_quat(_checked(quaternion_xyzw, 4)).as_matrix()
    return matrices


def matrix_to_quaternion(matrix: ArrayLike) -> FloatArray:
    """Unit quaternions (x, y, z, w), w >= 0, (..., 4), of rotation matrices (..., 3, 3)."""
    quaternions: FloatArray = Rotation.from_matrix(_checked(matrix, 3, 3)).as_quat(canonical=True)
    return quaternions


def canonical_quaternion(quaternion_xyzw: ArrayLike) -> FloatArray:
    """Return the same rotations, (..., 4), with unit length and w >= 0."""
    canonical: FloatArray = Rotation.from_quat(_checked(quaternion_xyzw, 4)).as_quat(canonical=True)
    return canonical


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


def mirror_pose(transform: ArrayLike, axis: ArrayLike, center_mm: ArrayLike, ray: ArrayLike) -> FloatArray:
    """Pose (4, 4) in which a body that is symmetric across ``axis`` has nearly the same shadow.

    The body's mirror image behind a plane across the ray has the shadow of the body; so has a symmetric body there,
    turned. One plane cannot distinguish them.

    Parameters
    ----------
    transform : (4, 4) pose of the body.
    axis, center_mm : (3,) unit vector and the point that stays, mm, in the coordinates of the body.
    ray : (3,) unit vector from the source to the body.

    """
    transform, center_mm = np.asarray(transform, dtype=np.float64), np.asarray(center_mm, dtype=np.float64)
    across_ray, across_axis = (np.eye(3) - 2 * np.outer(each, each) for each in np.asarray([ray, axis]))
    rotation = across_ray @ transform[:3, :3] @ across_axis
    return make_transform(rotation, transform_points(transform, center_mm[None])[0] - rotation @ center_mm)


def transform_points(transform: ArrayLike, points_mm: ArrayLike) -> FloatArray:
    """Map points (..., n, 3) in mm by rigid transforms (..., 4, 4)."""
    transform = np.asarray(transform, dtype=np.float64)
    points = np.asarray(points_mm, dtype=np.float64)
    mapped: FloatArray = points @ transform[..., :3, :3].swapaxes(-1, -2) + transform[..., None, :3, 3]
    return mapped


def angle_between_deg(matrix_a: ArrayLike, matrix_b: ArrayLike) -> FloatArray:
    """Geodesic angle in degrees, (...), between rotation matrices (..., 3, 3)."""
    relative = np.asarray(matrix_a, dtype=np.float64).swapaxes(-1, -2) @ np.asarray(matrix_b, dtype=np.float64)
    angle: FloatArray = np.degrees(Rotation.from_matrix(_checked(relative, 3, 3)).magnitude())
    return angle
