"""Values of the SQLite database."""

import sqlite3

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, SAFE, Case, Group
from tests.fuzz.commands import check_archive
from tests.fuzz.database import (
    DISTORTION,
    MOTION,
    SOURCE,
    calibration,
    pose,
    put,
    trial,
)
from tests.fuzz.strange import HUGE, NOT_NUMBERS, STRANGE_TEXT

values = Group("database-values", "jpeg", check_archive, times=10)

UNREAD = {
    "poses": ("git_hash", "git_repo", "operator", "update_timestamp"),
    "trials": ("vicon_path", "path", "magnification", "protocol_id", "radiation_fs"),
    "measurements": ("protocol_id", "update_timestamp"),
    "distortion_calibration": ("operator", "git_hash", "method"),
    "source_int_calibration": ("operator", "git_hash", "method"),
    "subjects": ("gender", "birthdate", "path"),
    "studies": ("name", "description"),
}


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
    coefficients, others = text.split(";", 1)
    scaled = ",".join(repr(float(part) * factor) for part in coefficients.split(",")) + f";{others}"
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
