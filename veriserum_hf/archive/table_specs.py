"""The tables and columns of the lab's schema that are read, with the type of each."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

Value = int | float | str | bytes | None  # of a column, as sqlite3 and csv read it
Row = dict[str, Any]  # values by column, each of the type of its column in an Arrow table

INTEGER, NUMBER, TEXT = pa.int64(), pa.float64(), pa.string()
MOST_ROWS = 2_000_000  # of one table; the largest of the download has 110,990


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
    "measurements": TableSpec({"id": INTEGER, "trials_id": INTEGER}, {"datetime": TEXT}),
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
    "veriserum_hf_distortion": TableSpec(
        {
            "id": INTEGER,
            "distortion_calibration_id": INTEGER,
            **dict.fromkeys(("plane", "distortion", "stored_sha256"), TEXT),
            **dict.fromkeys(("residual_mm_max", "stored_residual_mm_max"), NUMBER),
        },
        {},
        in_every_database=False,
    ),
    "veriserum_hf_refined_cameras": TableSpec(
        {
            **dict.fromkeys(("id", "trial_id", "replaced_id", "source_int_calibration_id"), INTEGER),
            **dict.fromkeys(("bs_tx", "bs_ty", "bs_tz"), NUMBER),
            "plane_covariance": TEXT,
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
