"""Estimates with labels inside the field of both planes."""

import numpy as np
from scipy.spatial.transform import Rotation

from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry.pose import make_transform
from veriserum_hf.geometry.rig import DualPlaneRig
from veriserum_hf.poses.estimates import Estimates

RIG = DualPlaneRig.from_calibration(
    principal_point_bs_mm=(3.0, -5.0), sid_bs_mm=1850.0, principal_point_fs_mm=(-4.0, 2.0), sid_fs_mm=1840.0
)
TASKS = ("gait", "stair_descent")
POINTS_MM = {id: np.random.default_rng(id).uniform(-30, 30, (200, 3)) for id in (1, 2, 3, 4)}


def poses(count, rng):
    """Random implant poses near the crossing of the central rays, (count, 4, 4)."""
    rotations = Rotation.random(count, rng=rng).as_matrix()
    return make_transform(rotations, (0.0, 0.0, 380.0) + rng.uniform(-60, 60, (count, 3)))


def estimates_of(T_world_implant, T_world_label, *, trials=3, frames_per_trial=4, planes=PLANES, **replaced):
    """Rows femur, tibia, femur, ...; frames go through the trials, these through tasks and implants."""
    count = len(T_world_label)
    frame = np.arange(count) // 2
    trial = frame // frames_per_trial % trials
    is_tibia = np.arange(count) % 2
    columns = {
        "measurement_id": 1000 + frame,
        "trial_id": 70 + trial,
        "task": np.array(TASKS)[trial % len(TASKS)],
        "anatomy_id": 1 + trial % 2 + 2 * is_tibia,
        "component": np.array(("femur", "tibia"))[is_tibia],
        "T_world_implant": T_world_implant,
        "T_world_label": T_world_label,
        "cameras": {
            plane: (
                np.broadcast_to(RIG[plane].intrinsics(512), (count, 3, 3)),
                np.broadcast_to(RIG[plane].world_to_camera, (count, 4, 4)),
            )
            for plane in planes
        },
        "confidence": np.full(count, 0.5),
    }
    return Estimates(**columns | replaced)


def noisy(count, seed=0, *, rotation_deg=1.0, translation_mm=1.0, **options):
    """Estimates with normally distributed errors."""
    rng = np.random.default_rng(seed)
    labels = poses(count, rng)
    errors = make_transform(
        Rotation.from_rotvec(rng.normal(0, np.radians(rotation_deg) / 3**0.5, (count, 3))).as_matrix(),
        rng.normal(0, translation_mm / 3**0.5, (count, 3)),
    )
    return estimates_of(labels @ errors, labels, **options)


def in_some_frames(count, rows, planes=("fs",)):
    """Cameras of rows of which only some have these planes."""
    cameras = {}
    for plane in PLANES:
        matrices = (RIG[plane].intrinsics(512), RIG[plane].world_to_camera)
        cameras[plane] = tuple(np.repeat(matrix[None], count, axis=0) for matrix in matrices)
        if plane in planes:
            for matrix in cameras[plane]:
                matrix[np.setdiff1d(np.arange(count), rows)] = np.nan
    return cameras


def own_pose(row, part):
    """A data set row's own pose of an implant, as a row of a pose file."""
    ids = {name: row[name] for name in ("measurement_id", "trial_id")}
    return (
        ids
        | {"component": part}
        | {name: row[part][name] for name in ("anatomy_id", "translation_mm", "quaternion_xyzw")}
    )
