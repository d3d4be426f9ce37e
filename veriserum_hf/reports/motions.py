"""Six coordinates of the knee in every trial, as numbers that the script of a page draws."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from veriserum_hf.core import FloatArray
from veriserum_hf.knee import COORDINATE_NAMES, COORDINATES, JointPairs, KneeAxes, counted, kinematics
from veriserum_hf.reports.sources import PoseSource, Reference

_USED = (
    *("measurement_id", "anatomy_id", "component", "translation_mm", "quaternion_xyzw"),
    *("covariance", "cross_covariance", "verdict"),
)
_UNKNOWN = (np.full(6, np.nan), np.full(6, np.nan), False)
Frame = tuple[FloatArray, FloatArray, bool]  # coordinates, their deviations, whether they have converged

Columns = list[list[float | None]]  # of the six coordinates, in frames


class SourceMotion(TypedDict):
    """Coordinates by a source, with deviations, and the numbers of frames that have not converged."""

    value: Columns
    sd: Columns
    open: list[int]


class TrialMotion(TypedDict):
    """A trial, with the coordinates by the labels and by each source."""

    id: int
    task: str
    frame: list[int]
    label: Columns
    sources: list[SourceMotion]


class Motions(TypedDict):
    """What the script of a page draws."""

    names: list[str]
    label: str
    sources: list[dict[str, str]]
    trials: list[TrialMotion]


def source_frames(reference: Reference, source: PoseSource, axes: KneeAxes) -> dict[int, Frame]:
    """Coordinates of a source by measurement.

    Raises
    ------
    KinematicsError
        If the axes do not fit its poses.

    """
    rows = reference.rows
    of_split = {name: pa.array(rows[name][:], pa.int64()) for name in ("measurement_id", "trial_id", "frame_index")}
    poses = source.table.select([name for name in _USED if name in source.table.column_names])
    place = pc.index_in(poses["measurement_id"].cast(pa.int64()), of_split["measurement_id"])
    there = pc.and_(pc.is_valid(place), pc.is_in(poses["anatomy_id"], pa.array(axes.implants, pa.int64())))
    poses, place = poses.filter(there), place.filter(there)
    for name in ("trial_id", "frame_index"):  # those of the data set: files need not have them
        poses = poses.append_column(name, of_split[name].take(place))
    table = kinematics(poses, axes).table
    values, deviations = (
        np.stack([table[f"{name}{end}"].to_numpy() for name in COORDINATES], axis=-1) for end in ("", "_sd")
    )
    good = counted(table["verdict"].to_pylist()).tolist()
    ids = table["measurement_id"].to_pylist()
    return dict(zip(ids, zip(values, deviations, good, strict=True), strict=True))


def motions(
    reference: Reference,
    labels: Sequence[JointPairs],
    sources: Mapping[str, Mapping[int, Frame]],
    colors: Mapping[str, str],
) -> Motions:
    """Numbers of all trials in which a source has both components, for the script of the page.

    Parameters
    ----------
    reference : data set.
    labels : pairs of sources and labels.
    sources : of `source_frames`, by their names.
    colors : of the sources.

    """
    label: dict[int, FloatArray] = {}
    for each in labels:
        label |= dict(zip(each.measurement_id.tolist(), each.second, strict=True))
    known = {id for frames in sources.values() for id, frame in frames.items() if np.isfinite(frame[0]).all()}
    trials: dict[int, list[tuple[int, int]]] = {}
    tasks: dict[int, str] = {}
    columns = [reference.rows[name][:] for name in ("measurement_id", "trial_id", "frame_index", "task")]
    for measurement, trial, frame, task in zip(*columns, strict=True):
        if measurement in known:
            trials.setdefault(trial, []).append((frame, measurement))
            tasks[trial] = task or "unknown task"
    return {
        "names": [COORDINATE_NAMES[name] for name in COORDINATES],
        "label": reference.kind,
        "sources": [{"name": name, "color": colors[name]} for name in sources],
        "trials": [
            _trial(trial, tasks[trial], sorted(trials[trial]), label, list(sources.values()))
            for trial in sorted(trials)
        ],
    }


def _trial(
    trial: int,
    task: str,
    frames: Sequence[tuple[int, int]],
    label: Mapping[int, FloatArray],
    sources: Sequence[Mapping[int, Frame]],
) -> TrialMotion:
    ids = [measurement for _, measurement in frames]
    drawn: list[SourceMotion] = []
    for source in sources:
        values, deviations, good = zip(*(source.get(id, _UNKNOWN) for id in ids), strict=True)
        open_frames = np.flatnonzero(~np.array(good) & np.isfinite(np.array(values)[:, 0]))
        drawn.append({"value": _columns(values), "sd": _columns(deviations), "open": open_frames.tolist()})
    return {
        "id": trial,
        "task": task,
        "frame": [frame for frame, _ in frames],
        "label": _columns([label.get(id, _UNKNOWN[0]) for id in ids]),
        "sources": drawn,
    }


def _columns(rows: Sequence[FloatArray]) -> Columns:
    """Six lists of numbers, to 0.001 mm or degrees."""
    columns = np.round(np.array(rows).T, 3)
    return [[None if value != value else value for value in column] for column in columns.tolist()]
