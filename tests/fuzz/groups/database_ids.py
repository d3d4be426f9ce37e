"""Ids of the SQLite database, and its rows that are missing or twice."""

from datetime import datetime, timedelta

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, Case, Group
from tests.fuzz.commands import check_archive
from tests.fuzz.database import USED_POSE, calibration, pose, put, remade, trial

ids = Group("database-ids", "jpeg", check_archive, times=12)


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
    remade(case, table, "*")  # without its key
    with case.database() as connection:
        (row,) = connection.execute(f"SELECT min(rowid) FROM {table}").fetchone()
        connection.execute(f"UPDATE {table} SET id = NULL WHERE rowid = ?", (row,))
    return table


@ids(NOTICED)
def id_twice(case: Case) -> str:
    """A table without a primary key has an id twice, with other values."""
    table = case.one(("anatomies", "trials", "measurements", "poses", "source_int_calibration"))
    case.touch_all()
    remade(case, table, "*")  # without its key
    with case.database() as connection:
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


@ids(HARMLESS)
def dates_shifted(case: Case) -> str:
    """Every moment some years later."""
    later = timedelta(days=case.random.randint(1, 4000))
    with case.database() as connection:
        for id, moment in connection.execute("SELECT id, datetime FROM measurements").fetchall():
            shifted = (datetime.fromisoformat(moment) + later).isoformat(" ", "milliseconds")
            connection.execute("UPDATE measurements SET datetime = ? WHERE id = ?", (shifted, id))
    return f"{later.days} days"
