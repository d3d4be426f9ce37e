"""The lab's tables, every column of them, and how they are written: one SQLite file, or the authors' CSV files."""

import csv
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from veriserum_hf.calibration import DistortionMap
from veriserum_hf.core import PLANES, FloatArray, PlaneName
from veriserum_hf.geometry import matrix_to_euler_zxy, matrix_to_quaternion

Row = dict[str, object]
Tables = dict[str, list[Row]]

DATABASE_NAME = "veriserumSqlite3_refined.db"
FRAMES_FOLDER, ANATOMIES_FOLDER = "veriserum_collection_compressed", "veriserum_anatomies"
CALIBRATION_FOLDER = "veriserum_calibration"
CSV_NAMES = {
    "poses": "veriserum_pose_reloaded_refined_all.csv",
    "distortion_calibration": "distortion_calibration_reloaded.csv",
    "source_int_calibration": "source_int_calibration_reloaded.csv",
}
_POSE_CSV_HEADER = (
    "id,measurement_id,anatomy_id,tx,ty,tz,rz,rx,ry,update_timestamp,obsolete,git_hash,git_repo,"
    "source_int_calibration_id,distortion_calibration_id"
)
_STARTED = datetime(2023, 4, 14, 9, 30)
_UPDATED: Row = {"update_timestamp": "2023-06-01 12:00:00"}
_STAMP: Row = {"git_hash": "0" * 40, "git_repo": "https://example.org/simulated"}
_OPERATOR = "simulated@example.org"
_PROTOCOL: Row = {"protocol_id": 1, **_UPDATED}
_FILES = r"D:\Veriserum\simulated"
_SETTING: Row = {"magnification": "m0", "exp_sid": 1860.0}


@dataclass(frozen=True)
class TrialRow:
    """A trial as the tables need it: the day (calibration set) it was made on, its measurements' ids in order."""

    id: int
    task: str
    calibration_set_id: int
    measurement_ids: Sequence[int]


@dataclass(frozen=True)
class CalibrationRows:
    """The calibrations of one day: ids, distortion by plane, columns of the source-intensifier calibration.

    ``marker_frames`` is how many dual-plane frames of the marker phantom were taken.
    """

    distortion_id: int
    source_id: int
    distortions: Mapping[PlaneName, DistortionMap]
    source: Mapping[str, float]
    marker_frames: int


class CalibrationTables(NamedTuple):
    """Tables of calibrations, and the ids of ``calibration_measurements`` that name the phantoms' frames.

    Attributes
    ----------
    tables : by name.
    grids : id of a bead grid by distortion calibration and plane.
    markers : ids of the marker phantom's frames, the same in both planes, by source-intensifier calibration.

    """

    tables: Tables
    grids: dict[tuple[int, PlaneName], int]
    markers: dict[int, list[int]]


def session_tables(
    trials: Sequence[TrialRow], anatomies: Mapping[int, tuple[str, str]], sampling_hz: float
) -> Tables:
    """Subjects, studies, anatomies (id to component and description), trials and measurements."""
    rows: Tables = {
        "subjects": [{"id": 1, "gender": "phantom", "birthdate": None, **_PROTOCOL, "path": _FILES}],
        "studies": [{"id": 1, "name": "Veriserum", "description": "simulated by veriserum-hf", **_UPDATED}],
        "anatomies": [
            {"id": id, "subject_id": 1, "category": f"{component}_implant", "description": text}
            | {**_PROTOCOL, "filetype": "stl"}
            for id, (component, text) in anatomies.items()
        ],
        "trials": [],
        "measurements": [],
    }
    for n, trial in enumerate(trials):
        started = _STARTED + timedelta(days=trial.calibration_set_id, minutes=2 * n)
        exposure = _exposure(kV=70.0 + 2 * (n % 6), mA=60.0 + 10 * (n % 4), sampling_freq=sampling_hz)
        dose = round(5e-7 * exposure["mA_bs"] * len(trial.measurement_ids), 7)  # mSv
        path = rf"{_FILES}\trial_{trial.id:06d}"
        row: Row = {"id": trial.id, "study_id": 1, "subject_id": 1, "calibration_set_id": trial.calibration_set_id}
        row |= {"task": trial.task, **exposure, "radiation_fs": dose, "radiation_bs": dose}
        row |= {"path": path, "vicon_path": rf"{path}\vicon", "protocol_id": 1, **_SETTING, **_UPDATED}
        rows["trials"].append(row)
        for k, measurement_id in enumerate(trial.measurement_ids):
            moment = (started + timedelta(seconds=k / sampling_hz)).isoformat(" ", "milliseconds")
            row = {"id": measurement_id, "trials_id": trial.id, "datetime": moment, **_PROTOCOL}
            rows["measurements"].append(row)
    return rows


def _exposure(**changed: float) -> dict[str, float]:
    """Setting of both tubes: tube current mA, tube voltage kV, exposure time ms, frames a second."""
    setting = {"mA": 80.0, "kV": 80.0, "exposure_time": 8.0, "sampling_freq": 30.0} | changed
    return {f"{name}_{plane}": value for name, value in setting.items() for plane in ("fs", "bs")}


def calibration_tables(days: Sequence[CalibrationRows]) -> CalibrationTables:
    """Calibrations by day with their phantom recordings."""
    tables: Tables = defaultdict(list)
    grids: dict[tuple[int, PlaneName], int] = {}
    markers: dict[int, list[int]] = {}
    tables["calibration_set"] = [{"id": day} for day in range(1, 1 + len(days))]

    def recorded(phantom: str, target: str, day: int, frames: int) -> tuple[int, list[int]]:
        """Id of a recording of single frames, one a second, and the ids of these."""
        trial_id = 3 + 4 * len(tables["calibration_trials"])
        row: Row = {"id": trial_id, "phantom": phantom, "target": target, **_exposure(sampling_freq=1.0)}
        row |= {"path": rf"{_FILES}\{phantom}_{trial_id:06d}", **_SETTING, "protocol_id": 1}
        tables["calibration_trials"].append(row | {"calibration_set_id": day, **_UPDATED})
        ids = [155 + 4 * (len(tables["calibration_measurements"]) + k) for k in range(frames)]
        for second, id in enumerate(ids):
            moment = (_STARTED + timedelta(days=day, minutes=-trial_id, seconds=second)).isoformat(" ")
            row = {"id": id, "calibration_trials_id": trial_id, "datetime": moment, **_PROTOCOL}
            tables["calibration_measurements"].append(row | {"type": target})
        return trial_id, ids

    for day, calibration in enumerate(days, start=1):
        row: Row = {"id": calibration.distortion_id}
        for plane in PLANES:
            trial_id, (grids[calibration.distortion_id, plane],) = recorded("sipla_grid", plane, day, 1)
            row[f"calibration_trial_id_{plane}"] = trial_id
        row |= _UPDATED | {"obsolete": 0}
        row |= {f"distortion_result_{plane}": calibration.distortions[plane].to_string() for plane in ("fs", "bs")}
        row |= {"method": "polynomial", **_STAMP}
        row |= {f"pixel_size_{axis}_{plane}": 0.225 for axis in "hv" for plane in ("fs", "bs")}
        tables["distortion_calibration"].append(row | {"operator": _OPERATOR})
    for day, calibration in enumerate(days, start=1):
        trial_id, ids = recorded("sipla_cylinder", "both", day, calibration.marker_frames)
        markers[calibration.source_id] = ids
        row = {"id": calibration.source_id}
        row |= {f"calibration_trial_id_{plane}": trial_id for plane in ("fs", "bs")}
        row |= _UPDATED | dict(calibration.source) | {"obsolete": 0, "method": "cylinder", **_STAMP}
        tables["source_int_calibration"].append(row | {"operator": _OPERATOR})
    return CalibrationTables(dict(tables), grids, markers)


def pose_row(
    pose_id: int,
    measurement_id: int,
    anatomy_id: int,
    T_world_implant: FloatArray,
    *,
    method: str,
    obsolete: bool,
    rotation: str,
    source_id: int,
    distortion_id: int,
) -> Row:
    """One row of ``poses``; ``rotation`` is ``"quaternion"`` (r0 to r3, scalar last), ``"euler"`` or ``"both"``."""
    row: Row = {"id": pose_id, "measurement_id": measurement_id, "anatomy_id": anatomy_id, **_UPDATED}
    row |= dict(zip(("tx", "ty", "tz"), T_world_implant[:3, 3].tolist(), strict=True))
    R = T_world_implant[:3, :3]
    if rotation != "euler":
        row |= dict(zip(("r0", "r1", "r2", "r3"), matrix_to_quaternion(R).tolist(), strict=True))
    if rotation != "quaternion":
        row |= dict(zip(("rz", "rx", "ry"), matrix_to_euler_zxy(R).tolist(), strict=True))
    row |= {"method": method, "obsolete": int(obsolete), **_STAMP}
    row |= {"source_int_calibration_id": source_id, "distortion_calibration_id": distortion_id}
    return row | {"operator": _OPERATOR}


def write_database(path: Path, tables: Mapping[str, Iterable[Row]]) -> None:
    """Write every table into a new SQLite file; a column has the type of its first row's value."""
    types = {int: "INTEGER", float: "REAL"}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("BEGIN")
        for table, rows in tables.items():
            values = [list(row.values()) for row in rows]
            first = next(iter(rows))
            columns = [f"{name} {types.get(type(value), 'TEXT')}" for name, value in first.items()]
            columns[0] += " PRIMARY KEY"
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608 - our own names


def write_csv(folder: Path, tables: Mapping[str, Iterable[Row]]) -> None:
    """Write the authors' three CSV files; their pose table holds refined poses only."""
    for table, name in CSV_NAMES.items():
        rows = list(tables[table])
        columns = _POSE_CSV_HEADER.split(",") if table == "poses" else list(rows[0])
        with (folder / name).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in rows if table != "poses" or row["method"] == "REFINED")
