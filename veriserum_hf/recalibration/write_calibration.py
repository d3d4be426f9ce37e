"""Add a calibration to an archive: one new row under a new id, in SQLite or in the CSV files.

No row that is there is ever changed, so every pose keeps its meaning: it names its calibrations by id. A new id is
higher than any that a pose names, as obsolete poses may name calibrations that are not there. Either all that belongs
to the new calibration is in the archive afterwards, or nothing: one transaction in SQLite; new CSV files are written
next to the old ones, begin with their bytes, and replace them.

The lab's schema has no place for a measured pose of the ``fs`` intensifier. It goes into a table of its own,
``inter_plane_calibration`` (centre tx, ty, tz in the world, mm; quaternion r0, r1, r2, r3 = x, y, z, w of
``T_world_fs``), made if absent, and holds for the one source calibration that its row names; all others keep the
nominal pose.
"""

import csv
import io
import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from veriserum_hf.archive import INTER_PLANE, VeriserumArchive
from veriserum_hf.calibration import GridFit
from veriserum_hf.core import PLANES, PlaneName, __version__, listed
from veriserum_hf.errors import ArchiveError, CalibrationError
from veriserum_hf.geometry import NOMINAL_T_WORLD_FS, DualPlaneRig, matrix_to_quaternion

Row = dict[str, float | str | None]
PathsByPlane = Mapping[PlaneName, Sequence[str | os.PathLike[str]]]

METHOD = "veriserum_hf"
_INTER_PLANE_COLUMNS = {
    "id": "INTEGER PRIMARY KEY",
    "source_int_calibration_id": "INTEGER NOT NULL UNIQUE",
    **dict.fromkeys(("tx", "ty", "tz", "r0", "r1", "r2", "r3"), "REAL NOT NULL"),
    "method": "TEXT",
    "update_timestamp": "TEXT",
}
_BUSY_S = 3.0  # for which another program may hold the database


def write_distortion(path: str | os.PathLike[str], fits: Mapping[PlaneName, GridFit], frames: PathsByPlane) -> int:
    """Add a row to ``distortion_calibration``.

    Parameters
    ----------
    path : the archive's folder, database or pose CSV.
    fits : of both planes.
    frames : files that each plane's fit was made from; those of the archive determine the calibration trial.

    Returns
    -------
    The new row's id.

    Raises
    ------
    CalibrationError
        If a plane is missing, its phantom was not upright, or its distortion folds over in the raw frame.
    ArchiveError
        If the archive cannot be used or written to. Nothing was changed then.

    """
    for plane in PLANES:
        if plane not in fits:
            raise CalibrationError(f"a row of distortion_calibration needs both planes; there is no fit of {plane}")
        if not fits[plane].upright:
            raise CalibrationError(
                f"{plane}: the phantom is rotated by {fits[plane].rotation_deg:.1f} degrees in the frame, so its mm "
                "are not those of the intensifier: it was mounted rotated or back to front, or the frame is stored "
                "rotated or mirrored. Nothing was written; take a frame with the orientation bead at the upper left"
            )
        if fits[plane].distortion.folds():
            raise CalibrationError(
                f"{plane}: the distortion folds over inside the raw frame. Nothing was written; take a frame whose "
                "beads fill the field"
            )
    archive = VeriserumArchive(path)
    row = _stamped(archive, frames)
    row |= {f"distortion_result_{plane}": fits[plane].distortion.to_string() for plane in PLANES}
    return _add(archive, "distortion_calibration", row)


def write_source(
    path: str | os.PathLike[str], rig: DualPlaneRig, frames: PathsByPlane, *, copied_from: int | None = None
) -> int:
    """Add a row to ``source_int_calibration``, and one to ``inter_plane_calibration`` if the pose is not nominal.

    Parameters
    ----------
    path : the archive's folder, database or pose CSV.
    rig : sources of both planes and the pose of the ``fs`` intensifier.
    frames : files that each plane's source was found from; those of the archive determine the calibration trial.
    copied_from : source calibration that the plane without frames, and its calibration trial, are copied from.

    Returns
    -------
    The new id in ``source_int_calibration``.

    Raises
    ------
    ArchiveError
        If the archive cannot be used or written to. Nothing was changed then.

    """
    archive = VeriserumArchive(path)
    row = _stamped(archive, frames)
    for plane in PLANES:
        if copied_from is not None and not frames.get(plane):
            row[f"calibration_trial_id_{plane}"] = archive.source_trials.get(copied_from, {}).get(plane)
        h_mm, v_mm = rig[plane].principal_point_mm.tolist()
        row |= {f"principalp_h_{plane}": h_mm, f"principalp_v_{plane}": v_mm}
        row[f"sid_{plane}"] = float(rig[plane].sid_mm)
    T_world_fs = rig["fs"].T_world_intensifier
    pose: Row | None = None
    if not np.array_equal(T_world_fs, NOMINAL_T_WORLD_FS):
        pose = dict(zip(("tx", "ty", "tz"), T_world_fs[:3, 3].tolist(), strict=True))
        pose |= dict(zip(("r0", "r1", "r2", "r3"), matrix_to_quaternion(T_world_fs[:3, :3]).tolist(), strict=True))
        pose |= {"method": METHOD, "update_timestamp": row["update_timestamp"]}
    return _add(archive, "source_int_calibration", row, pose)


def _stamped(archive: VeriserumArchive, frames: PathsByPlane) -> Row:
    """Columns of every new row that state its origin; times are UTC.

    A trial is known where all frames are the archive's own and of one trial.
    """
    trial_of = {
        Path(row["path"]).resolve(): row["calibration_trial_id"] for row in archive.calibration_frames.to_pylist()
    }
    row: Row = {}
    for plane in PLANES:
        found = {trial_of.get(Path(frame).resolve()) for frame in frames.get(plane, ())}
        row[f"calibration_trial_id_{plane}"] = found.pop() if len(found) == 1 else None
    return row | {
        "update_timestamp": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "obsolete": 0,
        "method": METHOD,
        "git_hash": f"{METHOD} {__version__}",
    }


def _add(archive: VeriserumArchive, table: str, row: Row, pose: Row | None = None) -> int:
    layout, named = archive.layout, archive.highest_id_of_poses(table)
    try:
        if layout.database:
            return _add_to_database(layout.database, table, row, pose, named)
        return _add_to_csv(layout.root, layout.csv_tables, table, row, pose, named)
    except OSError as error:
        where = error.filename or layout.root
        raise ArchiveError(
            f"{where}: {error.strerror or error}. Nothing was changed; grant yourself write permission, or free "
            "disk space"
        ) from error


def _check_columns(where: str, present: Iterable[str], row: Row) -> dict[str, str]:
    """Columns by their name in lower case."""
    columns = {name.strip().lower(): name for name in present}
    if missing := [name for name in row if name not in columns]:
        raise ArchiveError(
            f"{where}: there is no column {listed(missing, 12)}; found {listed(sorted(columns), 30)}. Nothing was "
            "changed; use the tables of the download unchanged"
        )
    return columns


def _next_id(ids: Iterable[float | str | None]) -> int:
    return 1 + max((int(id) for id in ids if id is not None), default=0)


def _add_to_database(path: Path, table: str, row: Row, pose: Row | None, named: int) -> int:
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_S, isolation_level=None)
        with closing(connection):
            connection.execute("BEGIN EXCLUSIVE")  # so that it fails before anything is touched
            ids = [named, *_ids(connection, table, "id")]
            if pose is not None:
                columns = ", ".join(f"{name} {type}" for name, type in _INTER_PLANE_COLUMNS.items())
                connection.execute(f"CREATE TABLE IF NOT EXISTS {INTER_PLANE} ({columns})")
                # A row that refers to nothing yet must not become part of this one.
                ids += _ids(connection, INTER_PLANE, "source_int_calibration_id")
                pose = {"id": _next_id(_ids(connection, INTER_PLANE, "id"))} | pose
                pose["source_int_calibration_id"] = _next_id(ids)
                _insert(connection, path, INTER_PLANE, pose)
            _insert(connection, path, table, {"id": _next_id(ids)} | row)
            connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        raise ArchiveError(f"{path}: {_reason(error)} ({error}). Nothing was changed") from error
    return _next_id(ids)


def _ids(connection: sqlite3.Connection, table: str, column: str) -> list[float | str | None]:
    return [id for (id,) in connection.execute(f"SELECT {column} FROM {table}")]  # noqa: S608 - our own names


def _insert(connection: sqlite3.Connection, path: Path, table: str, row: Row) -> None:
    present = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    columns = _check_columns(f"{path}, table {table}", present, row)
    names = ", ".join('"' + columns[name].replace('"', '""') + '"' for name in row)
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))  # noqa: S608 - its own


def _reason(error: sqlite3.DatabaseError) -> str:
    message = str(error)
    if "locked" in message or "busy" in message:
        return "another program is using this database; close that program, then run again"
    if "readonly" in message or "unable to open" in message:
        return "the database or its folder cannot be written to; grant yourself write permission, or use a copy"
    return "the database does not take the new row"


def _add_to_csv(root: Path, files: Mapping[str, Path], table: str, row: Row, pose: Row | None, named: int) -> int:
    with ExitStack() as stack:
        target = files[table].resolve()
        staged = [stack.enter_context(_Staged(target))]
        content = _read(target)
        ids = [named, *_csv_ids(content, "id")]
        if pose is not None:
            pose_file = files.get(INTER_PLANE, root / f"{INTER_PLANE}.csv").resolve()
            staged.insert(0, stack.enter_context(_Staged(pose_file)))  # first: alone no calibration uses it
            poses = _read(pose_file) if pose_file.exists() else (",".join(_INTER_PLANE_COLUMNS) + "\n").encode()
            ids += _csv_ids(poses, "source_int_calibration_id")
            pose = {"id": _next_id(_csv_ids(poses, "id")), "source_int_calibration_id": _next_id(ids)} | pose
            staged[0].write(_with_row(poses, pose_file, pose))
        staged[-1].write(_with_row(content, target, {"id": _next_id(ids)} | row))
        for file in staged:
            file.put_in_place()
    return _next_id(ids)


class _Staged:
    """The next content of a file, next to it; while it is there no other process writes to the file."""

    def __init__(self, target: Path) -> None:
        self.target, self.partial = target, target.with_name(target.name + ".partial")
        self.placed = False

    def __enter__(self) -> "_Staged":
        try:
            self.partial.touch(exist_ok=False)
        except FileExistsError:
            raise ArchiveError(
                f"{self.partial} is there: another process is writing to {self.target.name}, or was killed while it "
                "did. Nothing was changed; wait for that process, or remove the file if there is none"
            ) from None
        return self

    def __exit__(self, *error: object) -> None:
        if not self.placed:  # else it may be another process's by now
            self.partial.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        with self.partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if self.target.exists():
            shutil.copymode(self.target, self.partial)

    def put_in_place(self) -> None:
        self.partial.replace(self.target)
        self.placed = True


def _read(path: Path) -> bytes:
    if not os.access(path, os.W_OK):  # replacing it would circumvent that
        raise PermissionError(13, "the file is read-only", str(path))
    return path.read_bytes()


def _table(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def _csv_ids(content: bytes, column: str) -> list[int]:
    header, *rows = _table(content)
    index = [name.strip().lower() for name in header].index(column)
    return [int(float(row[index])) for row in rows if row[index] not in ("", "NULL")]


def _with_row(content: bytes, path: Path, row: Row) -> bytes:
    """Content with a row at its end, ended as its first line is."""
    header = _table(content)[0]
    columns = _check_columns(path.name, header, row)
    by_column = {columns[name]: "" if value is None else value for name, value in row.items()}
    end = "\r\n" if content.split(b"\n", 1)[0].endswith(b"\r") else "\n"
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator=end).writerow([by_column.get(name, "") for name in header])
    gap = b"" if content.endswith(b"\n") else end.encode()
    return content + gap + line.getvalue().encode()
