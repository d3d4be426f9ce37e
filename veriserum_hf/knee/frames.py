"""Frames of a joint: the poses of both components, with covariances, verdicts and times."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from veriserum_hf.core import (
    COMPONENTS,
    CONVERGED,
    FAILED,
    MANUAL,
    NOT_ASSESSED,
    BoolArray,
    Component,
    FloatArray,
    IndexArray,
    listed,
)
from veriserum_hf.errors import KinematicsError
from veriserum_hf.geometry import make_transform, quaternion_to_matrix

EXACT = "exact"  # verdict of the truth of a simulated archive
# The best first; the verdict of a joint is the worse one of its components.
_VERDICTS = (EXACT, CONVERGED, NOT_ASSESSED, "ambiguous", FAILED)
_NO_TRIAL = -1
_FULLY = 1.001  # correlated, but for rounding


@dataclass(frozen=True, eq=False)
class JointFrames:
    """Frames in the order of their trials and times; those with one component only have NaN.

    Attributes
    ----------
    measurement_id, trial_id, frame_index : (n,) int64; -1 where a trial or an index is unknown.
    time_s : (n,), NaN where unknown.
    anatomy_id : by component, (n,) int64; -1 where a frame has none.
    T_world_implant : by component, (n, 4, 4), mm.
    covariance : by component, (n, 6, 6) of x, y, z, mm, and the rotation vector, deg, in the world; NaN: unknown.
    image_covariance : the part of it that the images of a frame leave, not errors of cameras and meshes.
    cross_covariance : (n, 6, 6) of the femur's pose (rows) with the tibia's; 0 where unknown.
    verdict : (n,) the worse one of both components; None with one of them only.

    """

    measurement_id: NDArray[np.int64]
    trial_id: NDArray[np.int64]
    frame_index: NDArray[np.int64]
    time_s: FloatArray
    anatomy_id: Mapping[Component, NDArray[np.int64]]
    T_world_implant: Mapping[Component, FloatArray]
    covariance: Mapping[Component, FloatArray]
    image_covariance: Mapping[Component, FloatArray]
    cross_covariance: FloatArray
    verdict: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.measurement_id)

    @property
    def complete(self) -> BoolArray:
        """Which frames have both components, (n,)."""
        return np.asarray((self.anatomy_id["femur"] >= 0) & (self.anatomy_id["tibia"] >= 0))

    def usable(self, all_verdicts: bool) -> BoolArray:
        """Which frames count in averages, (n,): those that have converged or are exact, or all with a joint."""
        return self.complete if all_verdicts else np.asarray(self.complete & counted(self.verdict))

    def trials(self) -> list[slice]:
        """Frames of each trial."""
        edges = np.flatnonzero(np.diff(self.trial_id)) + 1
        bounds = [0, *edges.tolist(), len(self)]
        return [slice(start, end) for start, end in pairwise(bounds)]


def counted(verdicts: Iterable[str | None]) -> BoolArray:
    """Which frames count in averages by their verdicts, (n,): those that have converged or are exact."""
    return np.array([verdict in (EXACT, CONVERGED) for verdict in verdicts], dtype=bool)


def joint_frames(poses: pa.Table, where: str, frame_rate_hz: float | None = None) -> JointFrames:
    """Pair the poses of femur and tibia in each frame.

    Parameters
    ----------
    poses : of `veriserum_hf.poses.read_poses`; a column ``time_s`` is used where there is one.
    where : origin of the poses, for messages.
    frame_rate_hz : otherwise the time of a frame is its index divided by this.

    Raises
    ------
    KinematicsError
        If no frame has both components, or the frames of a trial contradict one another or do not rise in time.

    """
    component = np.array(poses["component"].to_pylist())
    ids, row_of = np.unique(_whole(poses, "measurement_id"), return_inverse=True)
    rows = {}
    for name in COMPONENTS:
        rows[name] = np.full(len(ids), -1)
        rows[name][row_of[component == name]] = np.flatnonzero(component == name)
    if not ((rows["femur"] >= 0) & (rows["tibia"] >= 0)).any():
        counts = " and ".join(f"{(component == name).sum()} poses of a {name}" for name in COMPONENTS)
        raise KinematicsError(
            f"{where} holds {counts}, and no frame with both; kinematics of a joint need both components of a "
            "frame in one file"
        )
    common = {name: _common(poses, name, rows, ids, where) for name in ("trial_id", "frame_index", "time_s")}
    time_s = common["time_s"]
    if "time_s" not in poses.column_names and frame_rate_hz is not None:
        time_s = common["frame_index"] / frame_rate_hz
    trial_id = np.nan_to_num(common["trial_id"], nan=_NO_TRIAL).astype(np.int64)
    frame_index = np.nan_to_num(common["frame_index"], nan=-1).astype(np.int64)
    order = np.lexsort((ids, frame_index, trial_id))
    _check_rising(where, ids[order], trial_id[order], frame_index[order], time_s[order])
    rows = {name: row[order] for name, row in rows.items()}
    anatomy, T, covariance, image_covariance = {}, {}, {}, {}
    every_id, every_T = _whole(poses, "anatomy_id"), _transforms(poses)
    every_covariance, every_image = _covariances(poses, "covariance"), _covariances(poses, "image_covariance")
    for name, row in rows.items():
        there = row >= 0
        anatomy[name] = np.where(there, every_id[row], -1)
        T[name] = np.where(there[:, None, None], every_T[row], np.nan)
        covariance[name] = np.where(there[:, None, None], every_covariance[row], np.nan)
        image_covariance[name] = np.where(there[:, None, None], every_image[row], np.nan)
    cross = _cross_covariance(poses, rows)
    _check_cross(where, ids[order], cross, covariance)
    return JointFrames(
        ids[order],
        trial_id[order],
        frame_index[order],
        time_s[order],
        anatomy,
        T,
        covariance,
        image_covariance,
        cross,
        _verdicts(poses, rows, where),
    )


def _whole(poses: pa.Table, name: str) -> NDArray[np.int64]:
    return np.array(poses[name].to_pylist(), dtype=np.int64)


def _common(
    poses: pa.Table, name: str, rows: Mapping[Component, IndexArray], ids: NDArray[np.int64], where: str
) -> FloatArray:
    """Values (n,) that both components of a frame state; NaN where neither does."""
    if name not in poses.column_names:
        return np.full(len(ids), np.nan)
    try:
        values = np.array([np.nan if v in (None, "") else float(v) for v in poses[name].to_pylist()])
    except (TypeError, ValueError) as error:
        raise KinematicsError(f"{where}: {name} holds a value that is no number ({error})") from error
    both = np.array([np.where(rows[part] >= 0, values[rows[part]], np.nan) for part in COMPONENTS])
    if (apart := both[0] != both[1]).any() and (known := np.isfinite(both).all(axis=0) & apart).any():
        first = int(np.flatnonzero(known)[0])
        raise KinematicsError(
            f"{where}, measurement {ids[first]}: {name} of the femur's pose is {both[0, first]:g}, of the tibia's "
            f"{both[1, first]:g}; expected the same"
        )
    return np.asarray(np.where(np.isnan(both[0]), both[1], both[0]))


def _check_rising(
    where: str,
    ids: NDArray[np.int64],
    trial_id: NDArray[np.int64],
    frame_index: NDArray[np.int64],
    time_s: FloatArray,
) -> None:
    """Raise KinematicsError unless indices and times rise from frame to frame of a trial."""
    same = trial_id[1:] == trial_id[:-1]
    known = (frame_index[1:] >= 0) & (frame_index[:-1] >= 0)
    for name, values, at in (("frame_index", frame_index, same & known), ("time_s", time_s, same)):
        # Unknown times compare as false.
        wrong = np.flatnonzero(at & (values[1:] <= values[:-1]))
        if len(wrong):
            k = int(wrong[0])
            raise KinematicsError(
                f"{where}, trial {trial_id[k]}: {name} does not rise: {values[k]:g} of measurement {ids[k]} is "
                f"followed by {values[k + 1]:g} of measurement {ids[k + 1]}"
            )


def _transforms(poses: pa.Table) -> FloatArray:
    rotation = quaternion_to_matrix(poses["quaternion_xyzw"].to_pylist())
    return make_transform(rotation, poses["translation_mm"].to_pylist())


def _covariances(poses: pa.Table, name: str) -> FloatArray:
    unknown = np.full((6, 6), np.nan)
    if name not in poses.column_names:
        return np.broadcast_to(unknown, (len(poses), 6, 6))
    found = [unknown if value is None else value for value in poses[name].to_pylist()]
    covariances: FloatArray = np.array(found, dtype=np.float64)
    return covariances


def _cross_covariance(poses: pa.Table, rows: Mapping[Component, IndexArray]) -> FloatArray:
    """Covariance (n, 6, 6) of the femur's pose with the tibia's, as the row of the femur states it."""
    there = (rows["femur"] >= 0) & (rows["tibia"] >= 0)
    stated = _covariances(poses, "cross_covariance")[rows["femur"]]
    return np.asarray(np.where(there[:, None, None], np.nan_to_num(stated), 0.0))


def _check_cross(
    where: str, ids: NDArray[np.int64], cross: FloatArray, covariance: Mapping[Component, FloatArray]
) -> None:
    """Raise KinematicsError where femur and tibia would be correlated by more than 1."""
    femur, tibia = (np.diagonal(covariance[name], axis1=1, axis2=2) for name in COMPONENTS)
    # Unknown covariances compare as false.
    too_large = (np.abs(cross) > _FULLY * np.sqrt(femur[:, :, None] * tibia[:, None, :])).any(axis=(1, 2))
    if len(wrong := np.flatnonzero(too_large)):
        raise KinematicsError(
            f"{where}, measurement {ids[wrong[0]]}: the cross_covariance of femur and tibia is larger than the "
            "covariances of both allow; expected those of one registration. Leave the column out where a pose was "
            "replaced"
        )


def _verdicts(poses: pa.Table, rows: Mapping[Component, IndexArray], where: str) -> list[str | None]:
    """Worse verdict of both components in each frame; a pose without one is not assessed.

    A pose that a person has accepted counts as converged, whatever the registration made of it.
    """
    every = poses["verdict"].to_pylist() if "verdict" in poses.column_names else [None] * len(poses)
    if "kind" in poses.column_names:
        kinds = poses["kind"].to_pylist()
        every = [CONVERGED if kind == MANUAL else verdict for verdict, kind in zip(every, kinds, strict=True)]
    if unknown := sorted({value for value in every if value is not None and value not in _VERDICTS}):
        raise KinematicsError(
            f"{where}: there is no verdict {listed(unknown)}; expected {', '.join(_VERDICTS)}, or none"
        )
    rank = np.array([_VERDICTS.index(NOT_ASSESSED if value is None else value) for value in every])
    worse = np.maximum(rank[rows["femur"]], rank[rows["tibia"]])
    complete = (rows["femur"] >= 0) & (rows["tibia"] >= 0)
    return [_VERDICTS[k] if there else None for k, there in zip(worse, complete, strict=True)]
