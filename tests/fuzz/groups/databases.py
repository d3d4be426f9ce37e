"""The SQLite database: values, ids, schema, and the file itself."""

import sqlite3
from datetime import datetime, timedelta
from typing import Any

from tests.fuzz.cases import DATABASE, HARMLESS, NOTICED, OPEN, SAFE, Case, Group
from tests.fuzz.commands import check_archive

values = Group("database-values", "jpeg", check_archive, times=10)
ids = Group("database-ids", "jpeg", check_archive, times=12)
schema = Group("database-schema", "jpeg", check_archive, times=6)
file = Group("database-file", "jpeg", check_archive, times=12)

USED_POSE = "method = 'REFINED' AND obsolete = 0"
MOTION = ("tx", "ty", "tz", "r0", "r1", "r2", "r3")
SOURCE = ("sid_bs", "sid_fs", "principalp_h_bs", "principalp_v_bs", "principalp_h_fs", "principalp_v_fs")
DISTORTION = ("distortion_result_bs", "distortion_result_fs")
UNREAD = {
    "poses": ("git_hash", "git_repo", "operator", "update_timestamp"),
    "trials": ("vicon_path", "path", "magnification", "protocol_id", "radiation_fs"),
    "measurements": ("protocol_id", "update_timestamp"),
    "distortion_calibration": ("operator", "git_hash", "method"),
    "source_int_calibration": ("operator", "git_hash", "method"),
    "subjects": ("gender", "birthdate", "path"),
    "studies": ("name", "description"),
}
STRANGE_TEXT = (
    "[/b]x",
    "[link=file:///etc/passwd]here[/link]",
    "\x1b[2J\x1b[31mred",
    "\x00nothing\x00",
    "a" * 100_000,
    "\u202egnp.exe",
    "line\nline\r\nline",
    "{0} %s ${HOME} `id`",
    "../../../etc/passwd",
    "\ud7ff\U0010ffff",
)
NOT_NUMBERS = (None, "", "x", "NaN", "inf", b"\xff\xfe\x00", "1_0", "\u0661\u0662", "1,5", "0x10", "1e", "--1")
HUGE = (1e20, -1e20, 1e300, -1e308, float("inf"), float("-inf"), 2**62, -(2**63))


def pose(case: Case) -> int:
    """Id of a pose that a row is made of."""
    pose_id, measurement_id = case.one(case.sql(f"SELECT id, measurement_id FROM poses WHERE {USED_POSE}"))
    case.touch(f"calibrated {measurement_id}")
    return int(pose_id)


def calibration(case: Case, table: str) -> int:
    """Id of a calibration that rows are made of."""
    column = {"source_int_calibration": "source_int_calibration_id"}.get(table, "distortion_calibration_id")
    used: dict[int, set[int]] = {}
    for id, measurement in case.sql(f"SELECT {column}, measurement_id FROM poses"):
        used.setdefault(id, set()).add(measurement)
    chosen = int(case.one(sorted(used)))
    case.touch(*(f"calibrated {measurement}" for measurement in used[chosen]))
    return chosen


def trial(case: Case) -> int:
    """Id of a trial; its rows may change."""
    chosen = int(case.one(case.sql("SELECT id FROM trials"))[0])
    measurements = case.sql("SELECT id FROM measurements WHERE trials_id = ?", chosen)
    case.touch(*(f"calibrated {measurement}" for (measurement,) in measurements))
    return chosen


def put(case: Case, table: str, column: str, id: int, value: object) -> str:
    """Write one value."""
    case.sql(f"UPDATE {table} SET {column} = ? WHERE id = ?", value, id)
    return f"{table} {id} {column} = {str(value)[:60]!r}"


# Values


@values(NOTICED)
def pose_not_a_number(case: Case) -> str:
    """A pose's translation or rotation is no number, or NULL."""
    return put(case, "poses", case.one(MOTION), pose(case), case.one(NOT_NUMBERS))


@values(NOTICED)
def pose_huge(case: Case) -> str:
    """A pose's translation or rotation is far outside anything, or infinite."""
    return put(case, "poses", case.one(MOTION), pose(case), case.one(HUGE))


@values(NOTICED)
def pose_far_off(case: Case) -> str:
    """One implant of one frame is 100 to 1,000 mm from where it is."""
    offset = case.random.uniform(100, 1000) * case.one((-1, 1))
    column, id = case.one(("tx", "ty")), pose(case)
    case.sql(f"UPDATE poses SET {column} = {column} + ? WHERE id = ?", offset, id)
    return f"{column} of pose {id} {offset:+.0f} mm"


@values(OPEN)
def pose_somewhat_off(case: Case) -> str:
    """One implant of one frame is 0.1 to 20 mm from where it is."""
    offset = 10 ** case.random.uniform(-1, 1.3) * case.one((-1, 1))
    column, id = case.one(("tx", "ty", "tz")), pose(case)
    case.sql(f"UPDATE poses SET {column} = {column} + ? WHERE id = ?", offset, id)
    return f"{column} of pose {id} {offset:+.2f} mm"


@values(NOTICED)
def quaternion_not_unit(case: Case) -> str:
    """A quaternion's length is not one."""
    factor, id = case.one((0, 1e-6, 0.5, 0.9, 1.2, 10, 1e200)), pose(case)
    changes = ", ".join(f"r{n} = r{n} * {factor}" for n in range(4))
    case.sql(f"UPDATE poses SET {changes} WHERE id = ?", id)
    return f"quaternion of pose {id} times {factor}"


@values(HARMLESS)
def quaternion_of_other_sign(case: Case) -> str:
    """The same rotation, its quaternion with the other sign."""
    case.sql("UPDATE poses SET r0 = -r0, r1 = -r1, r2 = -r2, r3 = -r3 WHERE id = ?", pose(case))
    return ""


@values(HARMLESS)
def numbers_as_text(case: Case) -> str:
    """Numbers that are stored as text, as some exports do."""
    id, column = pose(case), case.one(MOTION)
    with case.database() as connection:
        (value,) = connection.execute(f"SELECT {column} FROM poses WHERE id = ?", (id,)).fetchone()
        connection.execute(f"UPDATE poses SET {column} = ? WHERE id = ?", (repr(value), id))
    return f"pose {id} {column} = {value!r}"


@values(NOTICED)
def obsolete_strange(case: Case) -> str:
    """Whether a pose is obsolete is neither 0 nor 1."""
    return put(case, "poses", "obsolete", pose(case), case.one((2, -1, "x", 0.5, b"\x01", "maybe")))


@values(NOTICED)
def method_unknown(case: Case) -> str:
    """A pose's method is of no known kind."""
    return put(case, "poses", "method", pose(case), case.one((*STRANGE_TEXT[:4], "UNKNOWN", "", None, 3, b"\xff")))


@values(SAFE)
def unread_column(case: Case) -> str:
    """Strange text in a column that no row is made of."""
    table = case.one(sorted(UNREAD))
    (id,) = case.one(case.sql(f"SELECT id FROM {table}"))
    return put(case, table, case.one(UNREAD[table]), id, case.one((*STRANGE_TEXT, None, b"\xff\xfe", 1e300)))


@values(OPEN)
def task_strange(case: Case) -> str:
    """A trial's task is strange text: it may stay, but nothing may obey it."""
    return put(case, "trials", "task", trial(case), case.one((*STRANGE_TEXT, None, "", b"\xff", 3)))


@values(OPEN)
def description_strange(case: Case) -> str:
    """An implant's description or category is strange text."""
    (id,) = case.one(case.sql("SELECT id FROM anatomies"))
    case.touch_all()  # its category decides what frames show
    return put(
        case, "anatomies", case.one(("description", "category")), id, case.one((*STRANGE_TEXT, None, b"\xff", 7))
    )


@values(NOTICED)
def bytes_that_are_no_text(case: Case) -> str:
    """Text that is not UTF-8, in a column that is read."""
    table, column, id = case.one((("poses", "method", pose(case)), ("trials", "task", trial(case))))
    case.sql(f"UPDATE {table} SET {column} = CAST(X'C3286BFF' AS TEXT) WHERE id = ?", id)
    return f"{table} {id} {column}"


@values(NOTICED)
def date_not_a_date(case: Case) -> str:
    """The moment of a measurement is no moment."""
    (id,) = case.one(case.sql("SELECT id FROM measurements"))
    case.touch(f"calibrated {id}")
    return put(case, "measurements", "datetime", id, case.one(("yesterday", "2023-13-45 99:00:00", 7, b"\xff", "")))


@values(NOTICED)
def dates_against_ids(case: Case) -> str:
    """The moments of a trial's measurements run against their ids."""
    chosen = trial(case)
    with case.database() as connection:
        rows = connection.execute("SELECT id, datetime FROM measurements WHERE trials_id = ?", (chosen,)).fetchall()
        for (id, _), (_, moment) in zip(rows, reversed(rows), strict=True):
            connection.execute("UPDATE measurements SET datetime = ? WHERE id = ?", (moment, id))
    return f"trial {chosen}"


@values(NOTICED)
def source_not_a_number(case: Case) -> str:
    """A source calibration is no number, or NULL."""
    table = "source_int_calibration"
    return put(case, table, case.one(SOURCE), calibration(case, table), case.one(NOT_NUMBERS))


@values(NOTICED)
def source_distance_wrong(case: Case) -> str:
    """A source-to-intensifier distance that no such device has."""
    sid_mm = case.one((0, -1860, 1, 1.86, 10, 100, 186, 500, 18600, 1e4, 1e6, 1e300, float("inf")))
    return put(
        case,
        "source_int_calibration",
        case.one(("sid_bs", "sid_fs")),
        calibration(case, "source_int_calibration"),
        sid_mm,
    )


@values(NOTICED)
def principal_point_wrong(case: Case) -> str:
    """A principal point outside the intensifier, or infinitely far."""
    at_mm = case.one((-1860, 1860, 500, -300, 1e6, 1e300, float("-inf")))
    return put(
        case, "source_int_calibration", case.one(SOURCE[2:]), calibration(case, "source_int_calibration"), at_mm
    )


@values(NOTICED)
def distortion_not_numbers(case: Case) -> str:
    """The text of a distortion has a wrong number of coefficients, or words."""
    id, column = calibration(case, "distortion_calibration"), case.one(DISTORTION)
    (text,) = case.sql(f"SELECT {column} FROM distortion_calibration WHERE id = ?", id)[0]
    parts = text.split(",")
    k = case.random.randrange(len(parts))
    how = case.one(("missing", "extra", "word", "nan", "inf", "empty", "semicolons", "huge", "null"))
    if how in ("missing", "extra"):
        parts[k : k + 1] = [] if how == "missing" else [parts[k]] * 2
    elif how not in ("semicolons", "null"):
        parts[k] = {"word": "x", "nan": "nan", "inf": "inf", "empty": "", "huge": "1e300"}[how]
    text = None if how == "null" else (";" if how == "semicolons" else ",").join(parts)
    case.sql(f"UPDATE distortion_calibration SET {column} = ? WHERE id = ?", text, id)
    return f"{how} at {k} of {column} {id}"


@values(NOTICED)
def distortion_scaled(case: Case) -> str:
    """Every coefficient of a distortion times a factor."""
    id, column = calibration(case, "distortion_calibration"), case.one(DISTORTION)
    (text,) = case.sql(f"SELECT {column} FROM distortion_calibration WHERE id = ?", id)[0]
    factor = case.one((0.0, 0.1, 0.5, -1.0, 2.0, 10.0, 1e6))
    scaled = ",".join(repr(float(part) * factor) for part in text.split(","))
    case.sql(f"UPDATE distortion_calibration SET {column} = ? WHERE id = ?", scaled, id)
    return f"{column} {id} times {factor}"


@values(OPEN)
def any_value(case: Case) -> str:
    """Any value in any column of any table."""
    tables = [name for (name,) in case.sql("SELECT name FROM sqlite_master WHERE type = 'table'")]
    table = case.one(sorted(tables))
    column = case.one(case.sql(f"PRAGMA table_info({table})"))[1]
    rows = case.sql(f"SELECT rowid FROM {table}")
    case.touch_all()
    value = case.one((*NOT_NUMBERS, *HUGE, *STRANGE_TEXT, 0, 1, -1, 10**6))
    try:
        case.sql(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", value, case.one(rows)[0])
    except (sqlite3.IntegrityError, OverflowError):
        return "the database itself refuses"
    return f"{table}.{column} = {str(value)[:60]!r}"


# Ids


@ids(NOTICED)
def id_of_nothing(case: Case) -> str:
    """A pose refers to a measurement, implant or calibration that is not there."""
    column = case.one(("measurement_id", "anatomy_id", "source_int_calibration_id", "distortion_calibration_id"))
    return put(case, "poses", column, pose(case), case.one((0, -1, 999, 2**53, None, "x", 1.5, 1e30)))


@ids(NOTICED)
def implants_swapped(case: Case) -> str:
    """Femur and tibia swapped in the poses of one frame."""
    (measurement,) = case.one(case.sql(f"SELECT DISTINCT measurement_id FROM poses WHERE {USED_POSE}"))
    rows = case.sql(f"SELECT id, anatomy_id FROM poses WHERE {USED_POSE} AND measurement_id = ?", measurement)
    for (id, _), (_, other) in zip(rows, reversed(rows), strict=True):
        case.sql("UPDATE poses SET anatomy_id = ? WHERE id = ?", other, id)
    case.touch(f"calibrated {measurement}")
    return f"measurement {measurement}"


@ids(NOTICED)
def pose_twice(case: Case) -> str:
    """A pose is there twice, with another id and place."""
    id = pose(case)
    with case.database() as connection:
        row = list(connection.execute("SELECT * FROM poses WHERE id = ?", (id,)).fetchone())
        names = [column[1] for column in connection.execute("PRAGMA table_info(poses)")]
        row[0] = 1000 + id
        row[names.index("tx")] += 5
        connection.execute(f"INSERT INTO poses VALUES ({','.join('?' * len(row))})", row)
    return f"pose {id}"


@ids(NOTICED)
def pose_missing(case: Case) -> str:
    """A frame has the pose of one implant alone."""
    case.sql("DELETE FROM poses WHERE id = ?", pose(case))
    return ""


@ids(NOTICED)
def measurement_missing(case: Case) -> str:
    """A measurement that has frames and poses is not in its table."""
    (id,) = case.one(case.sql("SELECT id FROM measurements"))
    case.sql("DELETE FROM measurements WHERE id = ?", id)
    case.touch(f"calibrated {id}")
    (trial_of,) = case.one([(id,)])
    later = case.sql("SELECT id FROM measurements WHERE id > ?", trial_of)
    case.touch(*(f"calibrated {each}" for (each,) in later[:3]))  # their place in the trial
    return f"measurement {id}"


@ids(NOTICED)
def trial_of_nothing(case: Case) -> str:
    """A measurement's trial is not there, or no id."""
    (id,) = case.one(case.sql("SELECT id FROM measurements"))
    (of,) = case.sql("SELECT trials_id FROM measurements WHERE id = ?", id)[0]
    case.touch(*(f"calibrated {each}" for (each,) in case.sql("SELECT id FROM measurements WHERE trials_id = ?", of)))
    return put(case, "measurements", "trials_id", id, case.one((None, 0, -5, 999, "x", 2**40, 0.5)))


@ids(NOTICED)
def table_row_missing(case: Case) -> str:
    """An implant, a trial or a calibration that poses refer to is not in its table."""
    table = case.one(("anatomies", "trials", "distortion_calibration", "source_int_calibration"))
    case.touch_all()
    id = {"anatomies": lambda: case.one(case.sql("SELECT anatomy_id FROM poses"))[0], "trials": lambda: trial(case)}
    chosen = id.get(table, lambda: calibration(case, table))()
    case.sql(f"DELETE FROM {table} WHERE id = ?", chosen)
    return f"{table} {chosen}"


@ids(NOTICED)
def component_wrong(case: Case) -> str:
    """A femoral implant is said to be a tibial one, or the other way round."""
    id, category = case.one(case.sql("SELECT id, category FROM anatomies"))
    case.touch_all()
    other = category.replace("femur", "x").replace("tibia", "femur").replace("x", "tibia")
    return put(case, "anatomies", "category", id, other)


@ids(NOTICED)
def id_null(case: Case) -> str:
    """A table whose ids may be NULL has a row without one."""
    table = case.one(("anatomies", "trials", "measurements", "poses", "source_int_calibration"))
    case.touch_all()
    with case.database() as connection:
        connection.execute(f"CREATE TABLE copied AS SELECT * FROM {table}")
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"ALTER TABLE copied RENAME TO {table}")
        (row,) = connection.execute(f"SELECT min(rowid) FROM {table}").fetchone()
        connection.execute(f"UPDATE {table} SET id = NULL WHERE rowid = ?", (row,))
    return table


@ids(NOTICED)
def id_twice(case: Case) -> str:
    """A table without a primary key has an id twice, with other values."""
    table = case.one(("anatomies", "trials", "measurements", "poses", "source_int_calibration"))
    case.touch_all()
    with case.database() as connection:
        connection.execute(f"CREATE TABLE copied AS SELECT * FROM {table}")
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"ALTER TABLE copied RENAME TO {table}")
        first, second = connection.execute(f"SELECT id FROM {table} ORDER BY id LIMIT 2").fetchall()
        connection.execute(f"UPDATE {table} SET id = ? WHERE id = ?", (first[0], second[0]))
    return table


@ids(NOTICED)
def calibrations_swapped(case: Case) -> str:
    """The poses of two trials refer to one another's distortions."""
    rows = case.sql("SELECT DISTINCT distortion_calibration_id FROM poses")
    one, other = case.random.sample([id for (id,) in rows], 2)
    swap = f"CASE distortion_calibration_id WHEN {one} THEN {other} WHEN {other} THEN {one} ELSE 0 END"
    case.sql(
        f"UPDATE poses SET distortion_calibration_id = {swap} WHERE distortion_calibration_id IN ({one}, {other})"
    )
    case.touch_all()
    return f"{one} and {other}"


@ids(OPEN)
def fewer_poses(case: Case) -> str:
    """Only some of the poses."""
    case.sql("DELETE FROM poses WHERE id % ? = 0", case.random.randint(1, 4))
    case.touch_all()
    return ""


@ids(NOTICED)
def no_rows(case: Case) -> str:
    """A table that is read has no rows."""
    table = case.one(("poses", "measurements", "trials", "anatomies", "distortion_calibration"))
    case.sql(f"DELETE FROM {table}")
    case.touch_all()
    return table


# Schema


def _columns(case: Case, table: str) -> list[str]:
    return [row[1] for row in case.sql(f"PRAGMA table_info({table})")]


def _again(case: Case, table: str, select: str) -> None:
    """Make a table anew from a selection of itself."""
    with case.database() as connection:
        connection.execute(f"CREATE TABLE copied AS SELECT {select} FROM {table}")
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"ALTER TABLE copied RENAME TO {table}")


READ: dict[str, tuple[str, ...]] = {
    "poses": ("id", "measurement_id", "anatomy_id", "tx", "r0", "r3", "distortion_calibration_id"),
    "measurements": ("id", "trials_id"),
    "source_int_calibration": ("id", *SOURCE),
    "distortion_calibration": ("id", *DISTORTION),
    "anatomies": ("id", "category"),
}


@schema(NOTICED)
def column_missing(case: Case) -> str:
    """A column that is read is missing."""
    table = case.one(sorted(READ))
    column = case.one(READ[table])
    _again(case, table, ", ".join(name for name in _columns(case, table) if name != column))
    case.touch_all()
    return f"{table}.{column}"


@schema(NOTICED)
def column_renamed(case: Case) -> str:
    """A column that is read has another name."""
    table = case.one(sorted(READ))
    column = case.one(READ[table])
    case.sql(f"ALTER TABLE {table} RENAME COLUMN {column} TO {case.one(('x', 'my column', 'ID2', 'select_'))!r}")
    case.touch_all()
    return f"{table}.{column}"


@schema(NOTICED)
def table_missing(case: Case) -> str:
    """A table that is read is missing."""
    table = case.one(sorted(READ))
    case.sql(f"DROP TABLE {table}")
    case.touch_all()
    return table


@schema(HARMLESS)
def columns_in_another_order(case: Case) -> str:
    """The columns of a table in another order."""
    table = case.one(sorted(READ))
    columns = _columns(case, table)
    case.random.shuffle(columns)
    _again(case, table, ", ".join(columns))
    return table


@schema(HARMLESS)
def rows_in_another_order(case: Case) -> str:
    """The rows of a table in another order."""
    table = case.one(sorted(READ))
    _again(case, table, f"* FROM (SELECT * FROM {table} ORDER BY -id) --")
    return table


@schema(HARMLESS)
def more_columns_and_tables(case: Case) -> str:
    """Columns and tables that nobody knows."""
    table = case.one(sorted(READ))
    with case.database() as connection:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN note TEXT DEFAULT 'x'")
        connection.execute("CREATE TABLE notes (a, b)")
        connection.execute("INSERT INTO notes VALUES (1, zeroblob(10000))")
        connection.execute(f"CREATE INDEX fast ON {table} (id)")
    return table


@schema(HARMLESS)
def names_in_other_case(case: Case) -> str:
    """A table's name in capitals; SQLite makes no difference."""
    table = case.one(sorted(READ))
    case.sql(f"ALTER TABLE {table} RENAME TO copied")
    case.sql(f"ALTER TABLE copied RENAME TO {table.upper()}")
    return table


@schema(SAFE)
def types_of_text(case: Case) -> str:
    """Every column of a table is declared as text."""
    table = case.one(sorted(READ))
    columns = _columns(case, table)
    _again(case, table, ", ".join(f"CAST({name} AS TEXT) AS {name}" for name in columns))
    return table


@schema(SAFE)
def whole_numbers_as_real(case: Case) -> str:
    """Ids are stored as 1.0, as a spreadsheet's export does."""
    table = case.one(("poses", "measurements", "anatomies"))
    columns = _columns(case, table)
    cast = [f"CAST({name} AS REAL) AS {name}" if name.endswith("id") else name for name in columns]
    _again(case, table, ", ".join(cast))
    return table


@schema(NOTICED)
def view_without_end(case: Case) -> str:
    """A table is a view that never ends."""
    table = case.one(("trials", "measurements", "anatomies", "poses"))
    columns = _columns(case, table)
    made = ", ".join(f"x AS {name}" for name in columns)
    with case.database() as connection:
        connection.execute(f"DROP TABLE {table}")
        connection.execute(
            f"CREATE VIEW {table} AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
            f"SELECT {made} FROM n"
        )
    case.touch_all()
    return table


@schema(NOTICED)
def view_of_much(case: Case) -> str:
    """A table is a view that makes 400 MB of text."""
    table = case.one(("trials", "anatomies"))
    columns = _columns(case, table)
    made = ", ".join(f"hex(zeroblob(200000000)) AS {name}" if name not in ("id",) else name for name in columns[:2])
    with case.database() as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO kept")
        connection.execute(f"CREATE VIEW {table} AS SELECT {made}, * FROM kept")
    case.touch_all()
    return table


@schema(NOTICED)
def view_that_calculates(case: Case) -> str:
    """A table is a view of another: harmless as such, but no download has one."""
    table = case.one(sorted(READ))
    with case.database() as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO kept")
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM kept")
    return table


@schema(OPEN)
def generated_column(case: Case) -> str:
    """A column is calculated on reading, for ever or at length."""
    columns = [name for name in _columns(case, "poses") if name != "ty"]
    with case.database() as connection:
        connection.execute(f"CREATE TABLE copied AS SELECT {', '.join(columns)} FROM poses")
        connection.execute("DROP TABLE poses")
        connection.execute("ALTER TABLE copied RENAME TO poses")
        big = case.one((10, 200_000_000))
        connection.execute(f"ALTER TABLE poses ADD COLUMN ty GENERATED ALWAYS AS (length(zeroblob({big})) + tx)")
    case.touch_all()
    return ""


@schema(OPEN)
def much_text(case: Case) -> str:
    """A value of 100 MB, in a column that is read or not."""
    column = case.one(("task", "path"))
    case.sql(f"UPDATE trials SET {column} = hex(zeroblob(50000000)) WHERE id = ?", trial(case))
    return column


@schema(OPEN)
def many_rows(case: Case) -> str:
    """A million rows in a table."""
    table = case.one(("measurements", "trials", "anatomies", "poses"))
    with case.database() as connection:
        names = _columns(case, table)
        values = ", ".join("x + 5000" if name == "id" else f"k.{name}" for name in names)
        connection.execute(
            f"INSERT INTO {table} WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 200000) "
            f"SELECT {values} FROM n, (SELECT * FROM {table} LIMIT 1) k"
        )
    case.touch_all()
    return table


# The file


def _bytes(case: Case) -> tuple[Any, bytearray]:
    path = case.data / DATABASE
    return path, bytearray(path.read_bytes())


@file(NOTICED)
def truncated(case: Case) -> str:
    """The database breaks off."""
    path, content = _bytes(case)
    length = case.one((0, 15, 16, 100, 511, 4096, case.random.randrange(len(content) - 1)))
    path.write_bytes(content[:length])
    case.touch_all()
    return f"{length} of {len(content)} bytes"


@file(OPEN)
def bytes_changed(case: Case) -> str:
    """Some random bytes of the database are others."""
    path, content = _bytes(case)
    places = [case.random.randrange(len(content)) for _ in range(case.one((1, 4, 16, 256)))]
    for place in places:
        content[place] = case.random.randrange(256)
    path.write_bytes(content)
    case.touch_all()
    return f"{len(places)} bytes, first at {places[0]}"


@file(NOTICED)
def header_changed(case: Case) -> str:
    """A field of the first 100 bytes is invalid."""
    path, content = _bytes(case)
    at, length = case.one(((0, 16), (16, 2), (20, 4), (44, 4), (56, 4)))
    content[at : at + length] = b"\xff" * length
    path.write_bytes(content)
    case.touch_all()
    return f"bytes {at} to {at + length}"


@file(NOTICED)
def page_zeroed(case: Case) -> str:
    """A whole page of the database is zero, as a power cut leaves it."""
    path, content = _bytes(case)
    size = int.from_bytes(content[16:18], "big") or 4096
    page = case.random.randrange(len(content) // size)
    content[page * size : (page + 1) * size] = bytes(size)
    path.write_bytes(content)
    case.touch_all()
    return f"page {page} of {size} bytes"


@file(NOTICED)
def pages_swapped(case: Case) -> str:
    """Two pages of the database are swapped."""
    path, content = _bytes(case)
    size = int.from_bytes(content[16:18], "big") or 4096
    one, other = case.random.sample(range(1, len(content) // size), 2)
    a, b = (slice(page * size, (page + 1) * size) for page in (one, other))
    content[a], content[b] = content[b], content[a]
    path.write_bytes(content)
    case.touch_all()
    return f"pages {one} and {other}"


@file(NOTICED)
def no_database(case: Case) -> str:
    """Something else under the database's name."""
    path, _ = _bytes(case)
    path.write_bytes(
        case.one((b"", b"SQLite format 3\0", b"PK\3\4" + bytes(100), b"<html>404</html>", bytes(10_000)))
    )
    case.touch_all()
    return ""


@file(HARMLESS)
def other_page_size(case: Case) -> str:
    """The same database with other pages, vacuumed."""
    connection = sqlite3.connect(case.data / DATABASE, isolation_level=None)
    size = case.one((512, 1024, 8192, 65536))
    connection.execute(f"PRAGMA page_size = {size}")
    connection.execute("VACUUM")
    connection.close()
    return f"{size} bytes"


@file(HARMLESS)
def in_utf16(case: Case) -> str:
    """The same database with its text in UTF-16."""
    path = case.data / DATABASE
    with case.database() as connection:
        script = "\n".join(connection.iterdump())
    path.unlink()
    new = sqlite3.connect(path, isolation_level=None)
    new.execute(f"PRAGMA encoding = {case.one(('UTF-16le', 'UTF-16be'))!r}")
    new.executescript(script)
    new.close()
    return ""


@file(OPEN)
def journal_left(case: Case) -> str:
    """A journal or write-ahead log of another program lies next to the database."""
    name = case.one(("-journal", "-wal", "-shm"))
    content = case.one((b"", bytes(512), b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504), b"\x37\x7f\x06\x82" * 100))
    (case.data / f"{DATABASE}{name}").write_bytes(content)
    case.touch_all()
    return name


@file(OPEN)
def locked(case: Case) -> str:
    """The database is in write-ahead mode, as a program that is open leaves it."""
    with case.database() as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    return ""


@file(NOTICED)
def two_databases(case: Case) -> str:
    """Two databases in the archive."""
    (case.data / "copy.db").write_bytes((case.data / DATABASE).read_bytes())
    case.touch_all()
    return ""


@file(HARMLESS)
def thumbnails(case: Case) -> str:
    """Windows' and macOS's files lie among those of the archive."""
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._bs_000001.jpg"):
        (case.data / name).write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    return ""


@ids(HARMLESS)
def dates_shifted(case: Case) -> str:
    """Every moment some years later."""
    later = timedelta(days=case.random.randint(1, 4000))
    with case.database() as connection:
        for id, moment in connection.execute("SELECT id, datetime FROM measurements").fetchall():
            shifted = (datetime.fromisoformat(moment) + later).isoformat(" ", "milliseconds")
            connection.execute("UPDATE measurements SET datetime = ? WHERE id = ?", (shifted, id))
    return f"{later.days} days"
