"""The rig of real frames in two planes, refined from the implants: from its own cameras, and from wrong ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from tests.benchmarks.real_frames import IMPLANTS, TWO_PLANES, Array, Poses, placed, study
from tests.benchmarks.real_runs import Bench
from veriserum_hf.calibration import RefinedRig
from veriserum_hf.geometry import invert_transform, make_transform, matrix_to_quaternion
from veriserum_hf.registration.cameras.refine import refined_rig, registered_frame
from veriserum_hf.registration.cameras.unknowns import Tolerances
from veriserum_hf.registration.implant import Implant

WRONG_MM, WRONG_DEG = 2.0, 0.5


def refined(bench: Bench, seeds: Sequence[int | None]) -> dict[int | None, RefinedRig]:
    """The rig refined from its own cameras, None, or from those that an error of a seed gives."""
    of, initial = study(bench.folder, TWO_PLANES), bench.initial()
    implants = {id: Implant(id, of.meshes[name]) for name, id in IMPLANTS.items()}
    centers_mm = [
        placed(implants[IMPLANTS[name]].center_mm, T) for poses in initial.values() for name, T in poses.items()
    ]
    found = {}
    for seed in seeds:
        move = np.eye(4) if seed is None else _error(np.mean(centers_mm, axis=0), seed)
        rows = [_moved(of.rows[number], move) | {"trial_id": 0} for number in bench.frames(TWO_PLANES)]
        poses = [_stated(initial[number]) for number in bench.frames(TWO_PLANES)]
        observed = [registered_frame(row, own, implants) for row, own in zip(rows, poses, strict=True) if own]
        found[seed] = refined_rig(f"from {seed}", [0], observed, ("fs-pose",), Tolerances())
    return found


def apart(one: RefinedRig, other: RefinedRig) -> tuple[Array, float]:
    """Shift of the second camera (3,) mm at the implants, along the world's axes, and angle in deg, by estimates.

    A verdict may leave the stored camera in its place.
    """
    T = invert_transform(_estimated(one)) @ _estimated(other)
    angle_deg = np.degrees(Rotation.from_matrix(T[:3, :3]).magnitude())
    return placed(one.center_mm, T) - one.center_mm, float(angle_deg)


def _estimated(rig: RefinedRig) -> Array:
    """``world_to_camera`` of the second camera by the estimate."""
    R = Rotation.from_rotvec(rig.estimate[3:6], degrees=True).as_matrix()
    move = make_transform(R, rig.center_mm + rig.estimate[:3] - R @ rig.center_mm)
    found: Array = rig.before["fs"].world_to_camera @ invert_transform(move)
    return found


def _error(center_mm: Array, seed: int) -> Array:
    """Motion of a camera in a random direction, about the implants."""
    shift, axis = (vector / np.linalg.norm(vector) for vector in np.random.default_rng(seed).normal(size=(2, 3)))
    R = Rotation.from_rotvec(WRONG_DEG * axis, degrees=True).as_matrix()
    return make_transform(R, center_mm + WRONG_MM * shift - R @ center_mm)


def _moved(row: Mapping[str, Any], T: Array) -> dict[str, Any]:
    camera = dict(row["camera_fs"])
    camera["world_to_camera"] = (np.array(camera["world_to_camera"]) @ invert_transform(T)).tolist()
    return {**row, "camera_fs": camera}


def _stated(poses: Poses) -> dict[str, Any]:
    return {
        name: {
            "anatomy_id": IMPLANTS[name],
            "translation_mm": T[:3, 3].tolist(),
            "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist(),
        }
        for name, T in poses.items()
    }
