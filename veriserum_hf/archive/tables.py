"""The lab's tables, from SQLite or CSV, as checked Arrow tables: columns by name, values of the right type."""

import csv
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.problems import Findings
from veriserum_hf.core import listed

Value = int | float | str | bytes | None  # of a column, as sqlite3 and csv read it
Row = dict[str, Any]  # values by column, each of the type of its column in an Arrow table

INTEGER, NUMBER, TEXT = pa.int64(), pa.float64(), pa.string()


@dataclass(frozen=True)
class TableSpec:
    """Columns of one table that are read, with their types; the optional ones may be absent."""

    required: dict[str, pa.DataType]
    optional: dict[str, pa.DataType]
    in_every_database: bool = True
    in_every_csv_folder: bool = False


_PHANTOM_TRIALS = {"calibration_trial_id_bs": INTEGER, "calibration_trial_id_fs": INTEGER}
SPECS: dict[str, TableSpec] = {
    "poses": TableSpec(
        {
            "id": INTEGER,
            "measurement_id": INTEGER,
            "anatomy_id": INTEGER,
            **dict.fromkeys(("tx", "ty", "tz"), NUMBER),
            "obsolete": INTEGER,
            "source_int_calibration_id": INTEGER,
            "distortion_calibration_id": INTEGER,
        },
        {"method": TEXT, **dict.fromkeys(("r0", "r1", "r2", "r3", "rz", "rx", "ry"), NUMBER)},
        in_every_csv_folder=True,
    ),
    "measurements": TableSpec({"id": INTEGER, "trials_id": INTEGER}, {}),
    "trials": TableSpec({"id": INTEGER, "task": TEXT, "subject_id": INTEGER}, {"path": TEXT, "vicon_path": TEXT}),
    "anatomies": TableSpec({"id": INTEGER, "category": TEXT}, {"description": TEXT, "subject_id": INTEGER}),
    "distortion_calibration": TableSpec(
        {"id": INTEGER, "distortion_result_bs": TEXT, "distortion_result_fs": TEXT},
        _PHANTOM_TRIALS,
        in_every_csv_folder=True,
    ),
    "source_int_calibration": TableSpec(
        {
            "id": INTEGER,
            **dict.fromkeys(
                ("principalp_h_bs", "principalp_v_bs", "sid_bs", "principalp_h_fs", "principalp_v_fs", "sid_fs"),
                NUMBER,
            ),
        },
        _PHANTOM_TRIALS,
        in_every_csv_folder=True,
    ),
    "inter_plane_calibration": TableSpec(
        {
            "id": INTEGER,
            "source_int_calibration_id": INTEGER,
            **dict.fromkeys(("tx", "ty", "tz", "r0", "r1", "r2", "r3"), NUMBER),
        },
        {},
        in_every_database=False,
    ),
    "calibration_trials": TableSpec(
        {"id": INTEGER, "phantom": TEXT, "target": TEXT},
        {"path": TEXT, "calibration_set_id": INTEGER},
        in_every_database=False,
    ),
    "calibration_measurements": TableSpec(
        {"id": INTEGER, "calibration_trials_id": INTEGER}, {}, in_every_database=False
    ),
    "subjects": TableSpec({"id": INTEGER}, {"path": TEXT}, in_every_database=False),
}


def read_tables(layout: Layout, findings: Findings) -> dict[str, pa.Table]:
    """Read every table that is there.

    Returns
    -------
    Table name to Arrow table with exactly the columns of ``SPECS`` that the file has.

    Raises
    ------
    ArchiveError
        If the file cannot be read or is being written to, a needed table or column is missing, or a value
        does not have its column's type.

    """
    try:
        if layout.database:
            return _read_database(layout.database, findings)
        return _read_csv_folder(layout, findings)
    except OSError as error:
        where = str(error.filename or layout.root)
        raise findings.stop("unreadable", where, str(error.strerror), "Grant yourself read permission.") from error


def _read_csv_folder(layout: Layout, findings: Findings) -> dict[str, pa.Table]:
    for name, spec in SPECS.items():
        if spec.in_every_csv_folder and name not in layout.csv_tables:
            raise findings.stop(
                "missing table",
                str(layout.root),
                f"there is no {name}_reloaded.csv next to the pose table",
                "Copy it here from the authors' repository.",
            )
    return {name: _read_csv(layout.csv_tables[name], name, findings) for name in SPECS if name in layout.csv_tables}


def _read_database(path: Path, findings: Findings) -> dict[str, pa.Table]:
    for suffix in ("-journal", "-wal"):
        journal = path.with_name(path.name + suffix)
        try:
            size = journal.stat().st_size
        except FileNotFoundError:  # queried only once: another program's commit may delete it at any moment
            continue
        if size > 0:
            raise _being_written(path, f"{journal.name} holds changes that are not in it yet", findings)
    before = path.stat()
    if before.st_size == 0:
        raise findings.stop("not a database", str(path), "the file has 0 bytes", "Download the database again.")
    try:
        with closing(_connect(path)) as connection:
            connection.execute("BEGIN")  # one consistent state for all tables
            tables = {
                name: table
                for name, spec in SPECS.items()
                if (table := _read_sqlite_table(connection, path, name, spec, findings)) is not None
            }
    except sqlite3.DatabaseError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise _being_written(path, str(error), findings) from error
        raise findings.stop(
            "not a database",
            str(path),
            f"SQLite cannot read it ({error}; {before.st_size} bytes)",
            "Download the database again and compare its size with the source.",
        ) from error
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _being_written(path, "it changed while it was read", findings)
    return tables


def _connect(path: Path) -> sqlite3.Connection:
    """Open read-only; nothing is created next to the database, so that a read-only folder is enough."""
    with path.open("rb") as file:
        write_ahead = file.read(20)[18:] == b"\2\2"
    # In write-ahead mode SQLite creates files next to a database even to read it. Without a journal it is complete.
    immutable = "&immutable=1" if write_ahead else ""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro{immutable}", uri=True, timeout=1.0)
    connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
    return connection


def _being_written(path: Path, why: str, findings: Findings) -> Exception:
    return findings.stop(
        "being written",
        str(path),
        f"another program is writing to this database: {why}",
        "Close that program, then run again; if there is none, run VACUUM in it once with sqlite3, which cleans up.",
    )


def _read_sqlite_table(
    connection: sqlite3.Connection, path: Path, name: str, spec: TableSpec, findings: Findings
) -> pa.Table | None:
    present = {row[1].lower(): row[1] for row in connection.execute("SELECT * FROM pragma_table_info(?)", (name,))}
    if not present:
        if not spec.in_every_database:
            return None
        tables = [
            row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        ]
        raise findings.stop(
            "missing table",
            f"{path.name}",
            f"there is no table {name}; found {listed(sorted(tables), 12) or 'no table at all'}",
            "Use the database of the download unchanged.",
        )
    wanted = _wanted_columns(f"{path.name}, table {name}", set(present), spec, findings)
    # Names come from the database's own list of columns.
    columns = ", ".join('"' + present[column].replace('"', '""') + '"' for column in wanted)
    rows = connection.execute(f'SELECT {columns} FROM "{name}" ORDER BY "{present["id"]}"').fetchall()  # noqa: S608
    return _table(list(zip(*rows, strict=True)) or [()] * len(wanted), wanted, f"{path.name}, table {name}", findings)


def _read_csv(path: Path, name: str, findings: Findings) -> pa.Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise findings.stop(
            "not a table", str(path), f"this is not CSV text ({error})", "Download the file again."
        ) from error
    names = [column.strip().lower() for column in header]
    wanted = _wanted_columns(path.name, set(names), SPECS[name], findings)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise findings.stop(
                "not a table",
                f"{path.name}, line {number}",
                f"found {len(row)} values, expected {len(header)}",
                "Download the file again.",
            )
    by_column = list(zip(*rows, strict=True)) or [()] * len(header)
    columns = [[value if value not in ("", "NULL") else None for value in by_column[names.index(c)]] for c in wanted]
    return _table(columns, wanted, path.name, findings)


def _wanted_columns(where: str, present: set[str], spec: TableSpec, findings: Findings) -> dict[str, pa.DataType]:
    if missing := [column for column in spec.required if column not in present]:
        raise findings.stop(
            "missing column",
            where,
            f"there is no column {listed(missing)}; found {listed(sorted(present), 30)}",
            "Use the tables of the download unchanged.",
        )
    return {column: type for column, type in (spec.required | spec.optional).items() if column in present}


def _table(
    columns: Sequence[Sequence[Value]], wanted: dict[str, pa.DataType], where: str, findings: Findings
) -> pa.Table:
    return pa.table(
        {
            name: _column(values, type, columns[0], f"{where}, column {name}", findings)
            for (name, type), values in zip(wanted.items(), columns, strict=True)
        }
    )


def _column(
    values: Sequence[Value], type: pa.DataType, ids: Sequence[object], where: str, findings: Findings
) -> pa.Array:
    """One checked column; numbers kept as text are read, anything else of another type is refused."""
    try:
        if type != INTEGER or not any(isinstance(value, float) for value in values):  # Arrow would cut 1.5 to 1
            return pa.array(values, type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass  # some are of another type; each is looked at
    converted = []
    for row, (value, id) in enumerate(zip(values, ids, strict=True), start=1):
        try:
            converted.append(_as_type(value, type))
        except (ValueError, TypeError, OverflowError):
            expected = {INTEGER: "a whole number", NUMBER: "a number", TEXT: "text"}[type]
            raise findings.stop(
                "wrong type",
                f"{where}, row {row} (id {id})",
                f"found {value!r}, expected {expected}",
                "Correct the value, or remove the row.",
            ) from None
    return pa.array(converted, type)


def _as_type(value: Value, type: pa.DataType) -> int | float | str | None:
    if value is None:
        return None
    if type == TEXT:
        return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
    if isinstance(value, bytes):
        raise TypeError("bytes are not a number")
    if type == INTEGER and isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        value = int(value)  # exact, where a float is not
    number = value if isinstance(value, int) and type == INTEGER else float(value)
    if type == NUMBER:
        return number
    if number != int(number) or abs(number) >= 2**63:
        raise ValueError("not whole, or too large")
    return int(number)
