"""How an implant moves under the hand: in the plane of an image, along its rays, and about its axes.

All functions take and return poses ``T_world_implant``, (4, 4) mm, and rotate about ``center_mm``, the centre of the
mesh in its own coordinates: what is under the pointer stays there.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import Camera, transform_points


def shifted(T: FloatArray, shift_mm: ArrayLike) -> FloatArray:
    """Pose after a translation in the world, (3,) mm."""
    moved = T.copy()
    moved[:3, 3] += np.asarray(shift_mm)
    return moved


def rotated(T: FloatArray, center_mm: FloatArray, axis_world: ArrayLike, angle_deg: float) -> FloatArray:
    """Pose after a rotation about an axis of the world, (3,) of length 1, through the implant's centre."""
    R = Rotation.from_rotvec(np.radians(angle_deg) * np.asarray(axis_world)).as_matrix()
    center_world_mm = center_in_world(T, center_mm)
    moved = T.copy()
    moved[:3, :3] = R @ T[:3, :3]
    moved[:3, 3] = center_world_mm - moved[:3, :3] @ center_mm
    return moved


def dragged(T: FloatArray, center_mm: FloatArray, camera: Camera, from_px: ArrayLike, to_px: ArrayLike) -> FloatArray:
    """Pose after the pointer moved: shifted parallel to the image, so that the centre moves by the same in it."""
    return shifted(T, _in_world(camera, _drag_mm(T, center_mm, camera, from_px, to_px)))


def turned(T: FloatArray, center_mm: FloatArray, camera: Camera, from_px: ArrayLike, to_px: ArrayLike) -> FloatArray:
    """Pose after the pointer moved around the implant's centre: rotated about the camera's axis by the same angle."""
    focal_px = camera.intrinsics.diagonal()[:2]
    center_px = camera.project(center_in_world(T, center_mm))
    before, after = ((np.asarray(px) - center_px) / focal_px for px in (from_px, to_px))
    angle_deg = np.degrees(np.arctan2(after[1], after[0]) - np.arctan2(before[1], before[0]))
    return rotated(T, center_mm, camera.world_to_camera[2, :3], float(angle_deg))


def tilted(
    T: FloatArray, center_mm: FloatArray, radius_mm: float, camera: Camera, from_px: ArrayLike, to_px: ArrayLike
) -> FloatArray:
    """Pose after the pointer moved: rolled as a ball of that radius, whose side towards the source follows it."""
    x_mm, y_mm, _ = _drag_mm(T, center_mm, camera, from_px, to_px)
    angle_deg = float(np.degrees(np.hypot(x_mm, y_mm) / radius_mm))
    if not angle_deg:
        return T
    return rotated(T, center_mm, _in_world(camera, np.array([y_mm, -x_mm, 0.0]) / np.hypot(x_mm, y_mm)), angle_deg)


def along_ray(T: FloatArray, center_mm: FloatArray, camera: Camera, away_mm: float) -> FloatArray:
    """Pose after a shift along the ray of the implant's centre, away from the source."""
    ray = center_in_world(T, center_mm) - camera.source_mm
    return shifted(T, away_mm * ray / np.linalg.norm(ray))


def in_image(T: FloatArray, camera: Camera, right_down_mm: ArrayLike) -> FloatArray:
    """Pose after a shift parallel to the image, (2,) mm to the right and down in it."""
    return shifted(T, _in_world(camera, np.array([*np.asarray(right_down_mm), 0.0])))


def center_in_world(T: FloatArray, center_mm: FloatArray) -> FloatArray:
    """Centre of the implant in the world, (3,) mm."""
    center_world_mm: FloatArray = transform_points(T, center_mm[None])[0]
    return center_world_mm


def _drag_mm(
    T: FloatArray, center_mm: FloatArray, camera: Camera, from_px: ArrayLike, to_px: ArrayLike
) -> FloatArray:
    """Way of the pointer at the depth of the implant's centre, (3,) mm along the camera's axes; the last is 0."""
    depth_mm = camera.depths_mm(center_in_world(T, center_mm))
    right_down = (np.asarray(to_px, dtype=np.float64) - np.asarray(from_px)) / camera.intrinsics.diagonal()[:2]
    return np.array([*(depth_mm * right_down), 0.0])


def _in_world(camera: Camera, direction: FloatArray) -> FloatArray:
    """Direction along the camera's axes, (3,), in the world."""
    along: FloatArray = camera.world_to_camera[:3, :3].T @ direction
    return along
