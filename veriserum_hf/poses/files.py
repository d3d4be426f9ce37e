"""Files of poses: what `veriserum predict` and `veriserum register` write, and the truth of a simulated archive."""

from collections.abc import Iterable, Mapping
from math import hypot, isfinite
from pathlib import Path
from typing import Literal, TypeGuard, cast

import datasets
import numpy as np
import pyarrow as pa

from veriserum_hf.core import (
    COMPONENTS,
    IMAGE_OF,
    PLANES,
    Component,
    FloatArray,
    LabelRow,
    PoseRow,
    Poses,
    cameras_of,
    listed,
)
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import make_transform, quaternion_to_matrix
from veriserum_hf.poses.estimates import Estimates
from veriserum_hf.poses.formats import read_table
from veriserum_hf.poses.row_cameras import CheckedCameras, matrices

REQUIRED = ("measurement_id", "anatomy_id", "component", "translation_mm", "quaternion_xyzw")
FrameId = int
_Pair = tuple[LabelRow, Component, PoseRow, PoseRow]  # of a row and an implant, its pose and its label

_UNIT_TOLERANCE = 1e-3  # of a quaternion's length
_COVARIANCE_SIZE = 6
_ROWS_AT_ONCE = 10_000  # as Python values they take twenty times their size
_ROW_ONLY = ("measurement_id", "component")


def read_poses(path: Path) -> pa.Table:
    """Read and check a file of poses, one row per implant and frame: Parquet, or CSV where its suffix says so.

    Returns
    -------
    The file's table, unchanged: ``measurement_id``, ``anatomy_id``, ``component`` (``"femur"`` or ``"tibia"``),
    ``translation_mm`` [3], ``quaternion_xyzw`` [4], and whatever else the file has, such as ``verdict``,
    ``covariance``, ``confidence``, ``score`` and ``detail``.

    Raises
    ------
    TrainingError
        If the file cannot be read, lacks a column or has no row, or a row cannot be used: a value is missing or not
        finite, a quaternion has another length than 1, a covariance is not 6 x 6 with variances from 0 up, or the
        same implant of a frame occurs twice. The first such row is named.

    """
    poses = read_table(path)
    check_poses(poses, str(path))
    return poses


def check_poses(poses: pa.Table, where: str) -> None:
    """Check a table of poses as `read_poses` does that of a file.

    Parameters
    ----------
    poses : the table.
    where : its source, for messages.

    Raises
    ------
    TrainingError
        See `read_poses`.

    """
    if missing := [name for name in REQUIRED if name not in poses.column_names]:
        raise TrainingError(
            f"{where} has no column {listed(missing, 5)}; it has {listed(poses.column_names, 20)}. Expected what "
            "`veriserum predict` or `veriserum register` writes, or an archive's truth.parquet"
        )
    if not len(poses):
        raise TrainingError(f"{where} holds no pose")
    seen: dict[tuple[int, str], int] = {}
    rows = (row for batch in poses.to_batches(_ROWS_AT_ONCE) for row in batch.to_pylist())
    for number, row in enumerate(rows):
        name = f"{where}, row {number} (measurement {row['measurement_id']}, {row['component']})"
        if wrong := _fault(row):
            raise TrainingError(f"{name}: {wrong}")
        first = seen.setdefault((row["measurement_id"], row["component"]), number)
        if first != number:
            raise TrainingError(f"{name}: row {first} is of the same implant in the same frame; expected one of each")


def poses_by_frame(poses: pa.Table) -> dict[FrameId, dict[Component, PoseRow]]:
    """Poses by measurement id and component; a pose has the table's other columns as Python values."""
    frames: dict[FrameId, dict[Component, PoseRow]] = {}
    for row in (row for batch in poses.to_batches(_ROWS_AT_ONCE) for row in batch.to_pylist()):
        pose = {name: value for name, value in row.items() if name not in _ROW_ONLY}
        frames.setdefault(row["measurement_id"], {})[row["component"]] = cast(PoseRow, pose)
    return frames


def check_same_frame(poses: Poses, row: LabelRow, path: Path) -> None:
    """Refuse poses of a file that are of another data set, whose frame has the same measurement id by chance.

    Parameters
    ----------
    poses : by component, of `poses_by_frame`; ``trial_id`` and ``frame_index`` are compared where they have them.
    row : of the same measurement, with ``trial_id``, ``frame_index``, ``femur`` and ``tibia``; images are not needed.
    path : of the file, for the message.

    Raises
    ------
    TrainingError
        If a pose states another trial, frame index or implant than the row.

    """
    for component, pose in poses.items():
        if wrong := _what_differs(row, component, pose, row[component]):
            raise TrainingError(f"{path}, {wrong}")


def estimates_of(poses: pa.Table, rows: datasets.Dataset, labels: pa.Table | None = None) -> Estimates:
    """Pair poses with the labels and the cameras of a data set, in the order of its rows, femur first.

    Implants without a pose in the table, or without a label, are skipped.

    Parameters
    ----------
    poses : of `read_poses`.
    rows : a whole split of calibrated, manual or target; their images are not decoded.
    labels : poses to compare with, of `read_poses` too, such as an archive's truth; those of the rows if not given.

    Raises
    ------
    TrainingError
        If no pose is of these rows, one states another implant, trial or frame index than its row and its label, or
        a camera contradicts itself or its image.

    """
    estimated = poses_by_frame(poses)
    known = None if labels is None else poses_by_frame(labels)
    pairs: list[_Pair] = []
    cameras = CheckedCameras(rows)
    row: LabelRow
    for number, row in enumerate(rows.remove_columns(list(IMAGE_OF.values()))):
        of_frame = estimated.get(row["measurement_id"], {})
        other_labels = {} if known is None else known.get(row["measurement_id"], {})
        before = len(pairs)
        for component in COMPONENTS:
            pose, label = of_frame.get(component), row[component] if known is None else other_labels.get(component)
            if pose is not None and label is not None:
                for other in (pose, label):
                    if wrong := _what_differs(row, component, other, label):
                        raise TrainingError(wrong)
                pairs.append((row, component, pose, label))
        if len(pairs) > before:
            cameras.check(number, row)
    if not pairs:
        raise TrainingError(_nothing_in_common(estimated, known, rows["measurement_id"]))
    return _estimates(pairs)


def _fault(row: Mapping[str, object]) -> str | None:
    """Why a row cannot be used, what was found and expected; None where it can."""
    for name in ("measurement_id", "anatomy_id"):
        if not isinstance(row[name], int):
            return f"{name} is {row[name]!r}, expected a whole number"
    if row["component"] not in COMPONENTS:
        return f"component is {row['component']!r}, expected {' or '.join(COMPONENTS)}"
    if not _are_finite(row["translation_mm"], 3):
        return f"translation_mm is {row['translation_mm']}, expected three finite numbers"
    quaternion = row["quaternion_xyzw"]
    if not _are_finite(quaternion, 4) or abs(hypot(*quaternion) - 1) > _UNIT_TOLERANCE:
        return f"quaternion_xyzw is {quaternion}, expected four finite numbers of length 1, scalar last"
    for name in ("covariance", "image_covariance"):
        covariance = row.get(name)
        if covariance is not None and not _is_covariance(covariance):
            return f"{name} is {covariance}, expected 6 x 6 finite numbers, those on the diagonal not negative"
    cross = row.get("cross_covariance")
    if cross is not None and not _is_6_x_6(cross):
        return f"cross_covariance is {cross}, expected 6 x 6 finite numbers"
    return None


def _are_finite(values: object, count: int) -> TypeGuard[list[float]]:
    """Whether this is a list of so many finite numbers."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, (int, float)) and isfinite(value) for value in values)
    )


def _is_covariance(values: object) -> bool:
    return _is_6_x_6(values) and all(row[number] >= 0 for number, row in enumerate(values))


def _is_6_x_6(values: object) -> TypeGuard[list[list[float]]]:
    return (
        isinstance(values, list)
        and len(values) == _COVARIANCE_SIZE
        and all(_are_finite(row, _COVARIANCE_SIZE) for row in values)
    )


def _what_differs(row: LabelRow, component: Component, pose: PoseRow, label: PoseRow | None) -> str | None:
    """How a pose states another trial, frame or implant than its row and label do; None where it does not."""
    names: tuple[Literal["trial_id", "frame_index"], ...] = ("trial_id", "frame_index")
    for name in names:
        stated = pose.get(name)
        if stated is not None and stated != row[name]:
            return (
                f"measurement {row['measurement_id']}: {name} of the {component}'s pose is {stated}, the data "
                f"set's is {row[name]}; expected poses of this data set"
            )
    if label is not None and pose["anatomy_id"] != label["anatomy_id"]:
        return (
            f"measurement {row['measurement_id']}: the pose is of {component} {pose['anatomy_id']}, the label of "
            f"{component} {label['anatomy_id']}; expected poses of this data set"
        )
    return None


def _nothing_in_common(
    estimated: Iterable[FrameId], known: Iterable[FrameId] | None, of_rows: Iterable[FrameId]
) -> str:
    found = [f"poses of measurements {_span(estimated)}"]
    found += [f"labels of {_span(known)}"] if known is not None else []
    return (
        f"nothing to compare: {', '.join(found)}, and frames of {_span(of_rows)} have no implant with both a pose "
        "and a label. Expected poses of this data set and of this split"
    )


def _span(ids: Iterable[FrameId]) -> str:
    ordered = sorted(ids)
    return f"{ordered[0]} to {ordered[-1]} ({len(ordered)} frames)" if ordered else "none"


def _estimates(pairs: list[_Pair]) -> Estimates:
    rows, components, poses, labels = zip(*pairs, strict=True)
    confidence = [pose.get("confidence") for pose in poses]
    trusted = [pose.get("trusted") for pose in poses]
    cameras = [cameras_of(row) for row in rows]
    return Estimates(
        measurement_id=np.array([row["measurement_id"] for row in rows], dtype=np.int64),
        trial_id=np.array([row["trial_id"] for row in rows], dtype=np.int64),
        task=np.array([row["task"] or "unknown" for row in rows]),
        anatomy_id=np.array([pose["anatomy_id"] for pose in poses], dtype=np.int64),
        component=np.array(components),
        T_world_implant=transforms(poses),
        T_world_label=transforms(labels),
        cameras={
            plane: matrices([each.get(plane) for each in cameras])
            for plane in PLANES
            if any(plane in each for each in cameras)
        },
        confidence=np.array([np.nan if value is None else value for value in confidence]),
        trusted=np.array([np.nan if value is None else float(value) for value in trusted]),
    )


def transforms(poses: Iterable[PoseRow]) -> FloatArray:
    """``T_world_implant`` (n, 4, 4) in mm of rows with translation_mm and quaternion_xyzw."""
    listed_poses = list(poses)
    if not listed_poses:
        return np.empty((0, 4, 4))
    rotation = quaternion_to_matrix([pose["quaternion_xyzw"] for pose in listed_poses])
    return make_transform(rotation, [pose["translation_mm"] for pose in listed_poses])
