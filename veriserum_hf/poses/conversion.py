"""Between tables of poses, which have ids, and the poses of one implant, one a frame, which have none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from veriserum_hf.core import NOT_ASSESSED, Component, FloatArray, PoseRow, listed
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import matrix_to_quaternion
from veriserum_hf.poses.files import poses_by_frame, transforms
from veriserum_hf.poses.schema import POSE_FIELDS


@dataclass(frozen=True)
class FrameIds:
    """Ids of one frame; those of a trial are null where the frames are of no data set."""

    measurement_id: int
    trial_id: int | None = None
    frame_index: int | None = None


def poses_of_implant(
    poses: pa.Table, component: Component | None, anatomy_id: int | None, frames: Sequence[FrameIds] | None
) -> list[PoseRow | None]:
    """Poses of one implant of a table, one a frame; None where it has no pose.

    Parameters
    ----------
    poses : of `read_poses`.
    component, anatomy_id : of the implant; needed where the table holds several.
    frames : in the order of the result; those that the table has poses of, by their ids, if not given.

    Raises
    ------
    TrainingError
        If the table holds no such implant, or several, in these frames.

    """
    by_frame = poses_by_frame(poses)
    ids = sorted(by_frame) if frames is None else [frame.measurement_id for frame in frames]
    of_frames = [by_frame.get(measurement, {}) for measurement in ids]
    there = sorted({(name, pose["anatomy_id"]) for found in of_frames for name, pose in found.items()})
    wanted = [implant for implant in there if component in (None, implant[0]) and anatomy_id in (None, implant[1])]
    if len(wanted) != 1:
        found = listed(f"{name} {id}" for name, id in there) or "no implant"
        raise TrainingError(
            f"in these {len(ids)} frames are poses of {found}; expected one: choose it with --component and "
            "--anatomy, or the frames that the file is of"
        )
    ((name, id),) = wanted
    return [pose if (pose := each.get(name)) and pose["anatomy_id"] == id else None for each in of_frames]


def trajectory_of_poses(poses: Sequence[PoseRow | None]) -> FloatArray:
    """``T_world_implant`` (n, 4, 4) in mm of the poses of one implant, one a frame; NaN where there is none."""
    T_world_implant = np.full((len(poses), 4, 4), np.nan)
    T_world_implant[[pose is not None for pose in poses]] = transforms(pose for pose in poses if pose is not None)
    return T_world_implant


def poses_of_trajectory(
    T_world_implant: FloatArray, component: Component, anatomy_id: int, frames: Sequence[FrameIds] | None
) -> pa.Table:
    """Table of the poses of one implant, (n, 4, 4) in mm; a frame without one, which is NaN, has no row.

    Parameters
    ----------
    T_world_implant : one a frame.
    component, anatomy_id : of the implant.
    frames : as many; measurements 1, 2, ... if not given.

    Raises
    ------
    TrainingError
        If there are other numbers of poses and frames, or no frame has a pose.

    """
    frames = [FrameIds(id) for id in range(1, len(T_world_implant) + 1)] if frames is None else frames
    if len(frames) != len(T_world_implant):
        raise TrainingError(
            f"the file has {len(T_world_implant)} frames, but the data set {len(frames)}; expected one pose for each "
            "frame, in their order; choose the frames with --trial"
        )
    known: list[int] = np.flatnonzero(np.isfinite(T_world_implant).all(axis=(1, 2))).tolist()
    if not known:
        raise TrainingError(f"none of the {len(frames)} frames of the file has a pose")
    quaternions = matrix_to_quaternion(T_world_implant[known, :3, :3])
    rows = [
        {
            "measurement_id": frames[frame].measurement_id,
            "trial_id": frames[frame].trial_id,
            "frame_index": frames[frame].frame_index,
            "anatomy_id": anatomy_id,
            "component": component,
            "translation_mm": T_world_implant[frame, :3, 3].tolist(),
            "quaternion_xyzw": quaternion.tolist(),
            "verdict": NOT_ASSESSED,
        }
        for frame, quaternion in zip(known, quaternions, strict=True)
    ]
    return pa.Table.from_pylist(rows, pa.schema(POSE_FIELDS))
