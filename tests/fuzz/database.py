"""What mutations of the database have in common: ids that rows are made of, and changes of its tables."""

from tests.fuzz.cases import Case

USED_POSE = "method = 'REFINED' AND obsolete = 0"
MOTION = ("tx", "ty", "tz", "r0", "r1", "r2", "r3")
SOURCE = ("sid_bs", "sid_fs", "principalp_h_bs", "principalp_v_bs", "principalp_h_fs", "principalp_v_fs")
DISTORTION = ("distortion_result_bs", "distortion_result_fs")


READ: dict[str, tuple[str, ...]] = {
    "poses": ("id", "measurement_id", "anatomy_id", "tx", "r0", "r3", "distortion_calibration_id"),
    "measurements": ("id", "trials_id"),
    "source_int_calibration": ("id", *SOURCE),
    "distortion_calibration": ("id", *DISTORTION),
    "anatomies": ("id", "category"),
}


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


def columns_of(case: Case, table: str) -> list[str]:
    return [row[1] for row in case.sql(f"PRAGMA table_info({table})")]


def remade(case: Case, table: str, select: str) -> None:
    """Make a table again from a selection of itself."""
    with case.database() as connection:
        connection.execute(f"CREATE TABLE copied AS SELECT {select} FROM {table}")
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"ALTER TABLE copied RENAME TO {table}")
