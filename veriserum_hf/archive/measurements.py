"""Frames and phantom frames as tables: measurement, trial, and the files of both planes."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from veriserum_hf.archive.frame_names import name_frames
from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.pose_rows import integers
from veriserum_hf.archive.problems import Findings
from veriserum_hf.core import PLANES, PlaneName

FRAME_SCHEMA = pa.schema(
    {
        "measurement_id": pa.int64(),
        "trial_id": pa.int64(),
        "frame_index": pa.int64(),
        "task": pa.string(),
        "subject": pa.int64(),
        "path_bs": pa.string(),
        "path_fs": pa.string(),
    }
)
CALIBRATION_FRAME_SCHEMA = pa.schema(
    {
        "calibration_measurement_id": pa.int64(),
        "calibration_trial_id": pa.int64(),
        "phantom": pa.string(),
        "plane": pa.string(),
        "path": pa.string(),
    }
)

Tables = dict[str, pa.Table]


def read_frames_table(tables: Tables, poses: pa.Table, layout: Layout, findings: Findings) -> pa.Table:
    """One row a measurement, by ``FRAME_SCHEMA``, in ascending order; its files are checked by name and size.

    Raises
    ------
    ArchiveError
        If there are no frames, or which id names them cannot be determined.

    """
    measurement_ids, trial_ids = _trials(tables, poses, layout, findings)
    pose_measurements = np.asarray(poses["measurement_id"])
    numbers_of = name_frames(layout, measurement_ids, np.asarray(poses["pose_id"]), pose_measurements, findings)
    trials = tables.get("trials")
    by_trial = {row["id"]: row for row in trials.to_pylist()} if trials else {}
    own_trials, trial_number = np.unique(trial_ids, return_inverse=True)
    details = [by_trial.get(trial, {}) for trial in own_trials.tolist()]
    numbers = [numbers_of.get(measurement, -1) for measurement in measurement_ids.tolist()]
    paths = {
        plane: [file.path if (file := files.get(number)) else None for number in numbers]
        for plane, files in layout.frames.items()
    }
    _check_files(layout, poses, findings, measurement_ids.tolist(), paths)
    columns = {
        "measurement_id": pa.array(measurement_ids),
        "trial_id": pa.array(trial_ids),
        "frame_index": pa.array(_places(trial_number)),
        "task": pa.array([row.get("task") for row in details], pa.string()).take(pa.array(trial_number)),
        "subject": pa.array([row.get("subject_id") for row in details], pa.int64()).take(pa.array(trial_number)),
        **{f"path_{plane}": pa.array(of_plane, pa.string()) for plane, of_plane in paths.items()},
    }
    return pa.table({field.name: columns[field.name] for field in FRAME_SCHEMA})


def _places(trial_number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of every frame within its trial, from 0, in the order given."""
    order = np.argsort(trial_number, kind="stable")
    counts = np.bincount(trial_number)
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


def _trials(
    tables: Tables, poses: pa.Table, layout: Layout, findings: Findings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Measurement ids in ascending order, and the trial of each."""
    measurements, trials = tables.get("measurements"), tables.get("trials")
    if measurements is None:
        return _trials_by_poses(poses, findings)
    order = np.argsort(ids := integers(measurements, "id"), kind="stable")
    ids, trial_ids = ids[order], integers(measurements, "trials_id")[order]
    _check_order(measurements.take(order), ids, trial_ids, layout, findings)
    if trials is not None:
        current = poses.filter(pc.invert(poses["obsolete"]))
        needed = np.isin(ids, np.asarray(current["measurement_id"]))
        for row in np.flatnonzero(~np.isin(trial_ids, integers(trials, "id"))):
            findings.problem(
                "dangling id",
                f"{layout.where('measurements')}, id {ids[row]}",
                f"refers to trials id {trial_ids[row] if trial_ids[row] >= 0 else 'NULL'}, which is not there",
                "Add the row to trials, or mark the poses of this measurement obsolete.",
                structural=bool(needed[row]),
            )
    return ids, trial_ids


def _check_order(
    measurements: pa.Table, ids: NDArray[np.int64], trial_ids: NDArray[np.int64], layout: Layout, findings: Findings
) -> None:
    """Report trials in which the time of a frame is before that of a frame with a lower id."""
    if "datetime" not in measurements.column_names:
        return
    where, times = layout.where("measurements"), measurements["datetime"]
    moments = _moments(times)
    unread = np.flatnonzero(np.isnan(moments) & times.is_valid().to_numpy())
    if 2 * len(unread) > len(ids):
        findings.decide(
            "frame_order",
            "In which order do the frames of a trial follow each other?",
            "by their measurement ids",
            f"their times could not be read: {times[int(unread[0])].as_py()!r} is not like 2023-04-14 09:30:00.033",
        )
        return
    if len(unread):
        findings.problem(
            "order of frames",
            f"{where}, id {ids[unread[0]]}",
            f"datetime is {times[int(unread[0])].as_py()!r}, expected a time as in the other rows "
            f"({len(unread)} rows in all)",
            "Correct the value; frames of a trial are ordered by their ids.",
        )
    timed = np.flatnonzero(~np.isnan(moments))
    timed = timed[np.argsort(trial_ids[timed], kind="stable")]
    first, second = timed[:-1], timed[1:]
    back = (trial_ids[first] == trial_ids[second]) & (moments[second] < moments[first])
    for trial in np.unique(trial_ids[second[back]]).tolist():
        of_trial = np.flatnonzero(back & (trial_ids[second] == trial))
        before, after = int(first[of_trial[0]]), int(second[of_trial[0]])
        findings.problem(
            "order of frames",
            f"{where}, trial {trial}",
            f"measurement {ids[after]} was taken at {times[after].as_py()}, before measurement {ids[before]} at "
            f"{times[before].as_py()}, expected later; the trial has {len(of_trial)} such places",
            "Check the ids, or the clock; frames of a trial are ordered by their ids.",
        )


def _moments(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Times in seconds, (rows,); NaN where there is none, or what is there is neither a time nor a number."""
    try:
        microseconds = column.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64())
        return np.asarray(pc.fill_null(microseconds, np.nan), dtype=np.float64) / 1e6
    except pa.ArrowInvalid:  # some are written in another way, with a time zone, or as a number
        return np.array([_moment(text or "") for text in column.to_pylist()], dtype=np.float64)


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        try:
            return float(text)
        except ValueError:
            return float("nan")


def _trials_by_poses(poses: pa.Table, findings: Findings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Trials where no table states them: runs of frames of the same implants and calibrations.

    Such a run may hold several trials, never a part of one, so splits by it leak nothing. A frame without a pose
    of one implant ends no run.
    """
    current = poses.filter(pc.invert(poses["obsolete"])).sort_by("measurement_id")
    columns = ("measurement_id", "component", "anatomy_id", "source_calibration_id", "distortion_calibration_id")
    trial_of: dict[int, int] = {}
    last: dict[str, tuple[int, ...]] = {}
    trial = 0
    for measurement, component, *setting in zip(*(current[c].to_pylist() for c in columns), strict=True):
        if not trial_of:
            trial = measurement
        if last.get(component, tuple(setting)) != tuple(setting):
            trial, last = measurement, {}
        last[component] = tuple(setting)
        trial_of[measurement] = trial
    ids = np.array(sorted(trial_of), dtype=np.int64)
    trial_ids = np.array([trial_of[id] for id in ids.tolist()], dtype=np.int64)
    findings.decide(
        "trials",
        "Which frames belong to one trial?",
        f"runs of frames with the same implants and calibrations, {len(set(trial_of.values()))} in all",
        "there is no table of measurements; a trial's id is the first measurement of its run",
    )
    return ids, trial_ids


def _check_files(
    layout: Layout,
    poses: pa.Table,
    findings: Findings,
    measurement_ids: list[int],
    paths: dict[PlaneName, list[str | None]],
) -> None:
    """Report frames that are missing, empty or of one plane only."""
    with_pose = set(np.asarray(poses["measurement_id"]).tolist())
    empty = {file.path for file in layout.every_file() if file.size_bytes == 0}
    restore = "Restore the file from the download; until then the frame is rejected."
    for measurement, *of_frame in zip(measurement_ids, *paths.values(), strict=True):
        if None not in of_frame and not empty:
            continue
        missing = [plane for plane, path in zip(paths, of_frame, strict=True) if path is None]
        where = f"measurement {measurement}"
        if len(missing) == 2 and measurement in with_pose:
            findings.problem("missing", where, "neither plane has a frame", restore)
        elif len(missing) == 1:
            findings.problem("one plane only", where, f"there is no {missing[0]} frame", restore)
        for path in of_frame:
            if path is not None and path in empty:
                findings.problem("zero bytes", layout.relative(path), "the file is empty", restore)


def read_calibration_frames(tables: Tables, layout: Layout) -> pa.Table:
    """One row a phantom frame that has a file, by ``CALIBRATION_FRAME_SCHEMA``."""
    measurements, trials = (tables.get(f"calibration_{name}") for name in ("measurements", "trials"))
    phantoms = dict(zip(*(trials[c].to_pylist() for c in ("id", "phantom")), strict=True)) if trials else {}
    rows = [
        {
            "calibration_measurement_id": row["id"],
            "calibration_trial_id": row["calibration_trials_id"],
            "phantom": phantoms.get(row["calibration_trials_id"]),
            "plane": plane,
            "path": layout.calibration_frames[plane][row["id"]].path,
        }
        for row in (measurements.to_pylist() if measurements else [])
        for plane in PLANES
        if row["id"] in layout.calibration_frames[plane]
    ]
    return pa.Table.from_pylist(rows, CALIBRATION_FRAME_SCHEMA)
