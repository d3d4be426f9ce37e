"""Poses that were found with stored cameras, carried over to refined ones.

Images do not change with their cameras: each pose takes the least-squares step that keeps the projections of the
mesh's vertices where they were, in the planes that the frame has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.spatial.transform import Rotation

from veriserum_hf.calibration import RefinedCameras
from veriserum_hf.core import CAMERA_OF, COMPONENTS, FloatArray, LabelRow, PlaneName, PoseRow, cameras_of, listed
from veriserum_hf.dataset import Frames, Rows
from veriserum_hf.errors import CalibrationError, RegistrationError
from veriserum_hf.geometry import (
    Camera,
    angle_between_deg,
    make_transform,
    matrix_to_quaternion,
    transform_points,
)
from veriserum_hf.poses import check_same_frame, transforms

MOVED_MM, MOVED_DEG, LEFT_PX = "cameras_moved_mm", "cameras_moved_deg", "cameras_left_px"
_VERTICES = 300
_STEPS, _CONVERGED_MM = 20, 1e-7
_FIELDS = ("measurement_id", "trial_id", "frame_index", *CAMERA_OF.values(), *COMPONENTS)


def move_poses(poses: pa.Table, name: str, source: Rows[Frames], cameras: RefinedCameras) -> pa.Table:
    """Carry poses over from the cameras of a data set to refined ones.

    Parameters
    ----------
    poses : of `veriserum_hf.poses.read_poses`.
    name : of their file, for messages.
    source : rows of the frames, with their stored cameras.
    cameras : the refined ones.

    Returns
    -------
    The table with other ``translation_mm`` and ``quaternion_xyzw``, and three further columns: by how much the mesh's
    centre has moved, mm, and the implant rotated, deg, and the root mean square of the distances of the projections
    to where they were, px.

    Raises
    ------
    RegistrationError
        If a pose is of no frame of the data set, of an implant without mesh, or reaches behind an X-ray source.
    CalibrationError
        If a trial has no refined cameras, or the stored ones are not those that are replaced.
    TrainingError
        If a pose is of another data set.

    """
    rows: dict[int, LabelRow] = {
        row["measurement_id"]: row for frames in source.splits.values() for row in frames.table(*_FIELDS).to_pylist()
    }
    given = poses.to_pylist()
    ids = {pose["measurement_id"] for pose in given}
    if missing := sorted(ids - rows.keys()):
        raise RegistrationError(
            f"{name} has poses of measurement {listed(missing)}, which {source.name} does not have; expected poses "
            "of this data set"
        )
    for pose in given:
        row = rows[pose["measurement_id"]]
        check_same_frame({pose["component"]: pose}, {**row, "femur": None, "tibia": None}, Path(name))
        if pose["anatomy_id"] not in source.meshes:
            raise RegistrationError(
                f"{name}: measurement {pose['measurement_id']} has {pose['component']} {pose['anatomy_id']}; "
                f"{source.dataset} has no mesh of it, only of {listed(sorted(source.meshes), 20) or 'none'}"
            )
    points = {id: _sampled(source.meshes[id].vertices) for id in {pose["anatomy_id"] for pose in given}}
    pairs = {id: _cameras(rows[id], cameras) for id in sorted(ids)}  # before any is moved
    moved = [_moved(pose, points[pose["anatomy_id"]], pairs[pose["measurement_id"]], name) for pose in given]
    T = np.array([each.T_world_implant for each in moved])
    changed: dict[str, object] = {
        "translation_mm": T[:, :3, 3].tolist(),
        "quaternion_xyzw": matrix_to_quaternion(T[:, :3, :3]).tolist(),
        MOVED_MM: [each.mm for each in moved],
        MOVED_DEG: [each.deg for each in moved],
        LEFT_PX: [each.left_px for each in moved],
    }
    for column, values in changed.items():
        if column in poses.column_names:
            place = poses.column_names.index(column)
            field = poses.schema.field(place)
            poses = poses.set_column(place, field, pa.array(values, field.type))
        else:
            poses = poses.append_column(column, pa.array(values, pa.float64()))
    return poses


@dataclass(frozen=True, eq=False)
class _Moved:
    T_world_implant: FloatArray
    mm: float
    deg: float
    left_px: float


_Pairs = Sequence[tuple[Camera, Camera]]  # of a frame's planes: before and after


def _sampled(vertices: FloatArray) -> FloatArray:
    """Return some hundred vertices, evenly over the mesh's list."""
    chosen = np.unique(np.linspace(0, len(vertices) - 1, _VERTICES).astype(int))
    sampled: FloatArray = np.asarray(vertices, dtype=np.float64)[chosen]
    return sampled


def _cameras(row: LabelRow, cameras: RefinedCameras) -> _Pairs:
    found: Mapping[PlaneName, object] = cameras_of(row)
    if not found:
        raise CalibrationError(f"measurement {row['measurement_id']} has no camera")
    pairs = []
    for plane in found:
        before, after = row[CAMERA_OF[plane]], cameras.replaced(row, plane)
        if before is not None and after is not None:
            pairs.append((Camera.from_row(before), Camera.from_row(after)))
    return pairs


def _moved(pose: PoseRow, points_mm: FloatArray, pairs: _Pairs, name: str) -> _Moved:
    T = transforms([pose])[0]
    world = transform_points(T, points_mm)
    if any((before.depths_mm(world) <= 0).any() for before, _ in pairs):
        raise RegistrationError(
            f"{name}: {pose.get('component')} {pose['anatomy_id']} of measurement {pose.get('measurement_id')} "
            "reaches behind an X-ray source, expected all of it in front; is the pose in mm and in the world frame?"
        )
    px = [before.project(world) for before, _ in pairs]
    new = carried_over(T, points_mm, px, [after for _, after in pairs])
    left = [after.project(transform_points(new, points_mm)) - old for (_, after), old in zip(pairs, px, strict=True)]
    center_mm = points_mm.mean(axis=0, keepdims=True)
    shift = transform_points(new, center_mm) - transform_points(T, center_mm)
    return _Moved(
        new,
        float(np.linalg.norm(shift)),
        float(angle_between_deg(T[:3, :3], new[:3, :3])),
        float(np.sqrt((np.concatenate(left) ** 2).sum(axis=1).mean())),
    )


def carried_over(
    T_world_implant: FloatArray, points_mm: FloatArray, px: Sequence[FloatArray], cameras: Sequence[Camera]
) -> FloatArray:
    """Pose (4, 4) at which cameras project points of an implant closest to given pixels (Gauss-Newton).

    Parameters
    ----------
    T_world_implant : (4, 4) mm, to begin from.
    points_mm : (n, 3) of the implant.
    px : of each camera, (n, 2).
    cameras : with all points in front of them. Distances are compared in mm at the implant.

    """
    T = T_world_implant
    for _ in range(_STEPS):
        world = transform_points(T, points_mm)
        center = world.mean(axis=0)
        lever = world - center
        radius = float(np.sqrt((lever**2).sum(axis=1).mean()))
        x, y, z = (lever / radius).T
        zero = np.zeros_like(x)
        # Of points by a rotation vector w times the radius: w x lever.
        by_rotation = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], axis=1).reshape(-1, 3, 3)
        jacobians, residuals = [], []
        for camera, target in zip(cameras, px, strict=True):
            focal, depth = camera.intrinsics.diagonal()[:2], camera.depths_mm(world)
            found = camera.project(world)
            by_camera = np.zeros((len(world), 2, 3))
            by_camera[:, 0, 0], by_camera[:, 1, 1] = focal[0] / depth, focal[1] / depth
            by_camera[:, :, 2] = -(found - camera.intrinsics[:2, 2]) / depth[:, None]
            by_world = by_camera @ camera.world_to_camera[:3, :3]
            mm_per_px = depth.mean() / np.sqrt(focal.prod())
            jacobians.append(mm_per_px * np.concatenate([by_world, by_world @ by_rotation], axis=2).reshape(-1, 6))
            residuals.append(mm_per_px * (target - found).ravel())
        step = np.linalg.lstsq(np.concatenate(jacobians), np.concatenate(residuals), rcond=None)[0]
        R = Rotation.from_rotvec(step[3:] / radius).as_matrix()
        T = make_transform(R, center + step[:3] - R @ center) @ T
        if np.abs(step).max() < _CONVERGED_MM:
            break
    return T
