"""Rows of the calibration tables: distortions, rigs, and the phantom recordings that they were made from.

The lab's schema has no place for the pose of the ``fs`` intensifier, which its calibrations assume to be nominal. The
table ``inter_plane_calibration``, which `write_calibration` makes where it has one to store, gives it to the source
calibrations that it names; all others keep the nominal pose.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.plausible_calibrations import check_distortion, check_rig
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.table_specs import Row
from veriserum_hf.calibration import Distortion
from veriserum_hf.core import PLANES, FloatArray, PlaneName
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import NOMINAL_T_WORLD_FS, DualPlaneRig, make_transform, quaternion_to_matrix

Tables = Mapping[str, pa.Table]

INTER_PLANE = "inter_plane_calibration"
_NORM_TOLERANCE = 1e-3


def parse_distortions(row: Row) -> dict[PlaneName, Distortion]:
    """Distortion of both planes of a row of ``distortion_calibration``.

    Raises
    ------
    CalibrationError
        If one of them is invalid, folds over inside the raw frame, or cannot be: see `check_distortion`.

    """
    distortions = {}
    for plane in PLANES:
        text = row[f"distortion_result_{plane}"]
        try:
            distortions[plane] = Distortion.parse(text or "")
            with np.errstate(all="ignore"):  # what is not finite is refused next
                if distortions[plane].folds():
                    raise CalibrationError("the polynomial folds over inside the raw frame")
            check_distortion(distortions[plane])
        except CalibrationError as error:
            raise CalibrationError(f"distortion_result_{plane}: {error}") from error
    return distortions


def parse_rig(row: Row, inter_plane: Sequence[Row] = (), bs_center_mm: FloatArray | None = None) -> DualPlaneRig:
    """Rig of a row of ``source_int_calibration``, with the rows of ``inter_plane_calibration`` that name it.

    The centre of the ``bs`` intensifier is the origin of the world, unless another one is given: of a refined rig,
    whose ``bs`` source stayed.

    Raises
    ------
    CalibrationError
        If a value is invalid, more than one inter-plane pose, or an invalid one, belongs to it, or no rig can be
        like it: see `check_rig`.

    """
    value = {name: float("nan") if number is None else number for name, number in row.items()}
    rig = DualPlaneRig.from_calibration(
        principal_point_bs_mm=(value["principalp_h_bs"], value["principalp_v_bs"]),
        sid_bs_mm=value["sid_bs"],
        principal_point_fs_mm=(value["principalp_h_fs"], value["principalp_v_fs"]),
        sid_fs_mm=value["sid_fs"],
        T_world_fs=_pose_of_fs(inter_plane),
    )
    check_rig(rig)
    if bs_center_mm is None:
        return rig
    return DualPlaneRig(replace(rig["bs"], T_world_intensifier=make_transform(np.eye(3), bs_center_mm)), rig["fs"])


def _pose_of_fs(rows: Sequence[Row]) -> FloatArray:
    if not rows:
        return NOMINAL_T_WORLD_FS
    if len(rows) > 1:
        ids = ", ".join(str(row["id"]) for row in rows)
        raise CalibrationError(f"{len(rows)} rows of {INTER_PLANE} (ids {ids}) belong to it, expected one")
    row = rows[0]
    center_mm, quaternion_xyzw = (
        np.array([row[name] for name in names], dtype=np.float64)
        for names in (("tx", "ty", "tz"), ("r0", "r1", "r2", "r3"))
    )
    if not (np.isfinite(center_mm).all() and abs(np.linalg.norm(quaternion_xyzw) - 1) < _NORM_TOLERANCE):
        raise CalibrationError(
            f"{INTER_PLANE} id {row['id']}: translation {center_mm.tolist()} mm and quaternion (x, y, z, w) "
            f"{quaternion_xyzw.tolist()} are not a pose, expected finite mm and a norm of 1"
        )
    return make_transform(quaternion_to_matrix(quaternion_xyzw), center_mm)


def inter_plane_rows(tables: Tables, layout: Layout, findings: Findings) -> dict[int, list[Row]]:
    """Rows of ``inter_plane_calibration`` by the source calibration that they belong to; others are reported."""
    by_source: dict[int, list[Row]] = {}
    for row in tables[INTER_PLANE].to_pylist() if INTER_PLANE in tables else []:
        by_source.setdefault(row["source_int_calibration_id"], []).append(row)
    for source_id in by_source.keys() - set(tables["source_int_calibration"]["id"].to_pylist()):
        findings.problem(
            "dangling id",
            f"{layout.where(INTER_PLANE)}, id {by_source[source_id][0]['id']}",
            f"refers to source_int_calibration id {'NULL' if source_id is None else source_id}, which is not there",
            "Nothing uses the row; remove it.",
        )
    return by_source


def phantom_trials(table: pa.Table) -> dict[int, dict[PlaneName, int]]:
    """Calibration trials that calibrations were made from, by calibration id and plane, where the table states it."""
    return {
        row["id"]: {
            plane: trial for plane in PLANES if (trial := row.get(f"calibration_trial_id_{plane}")) is not None
        }
        for row in table.to_pylist()
    }


def distortions_of_sources(tables: Tables) -> dict[int, int]:
    """Distortion calibration that goes with each source calibration, by their ids.

    That which most poses use together with it; where no pose uses it, the one with the lowest id whose phantom was
    recorded in the same calibration set. Source calibrations that have neither are skipped.
    """
    pairs = zip(
        *(tables["poses"][f"{name}_calibration_id"].to_pylist() for name in ("source_int", "distortion")), strict=True
    )
    found: dict[int, int] = {}
    for (source_id, distortion_id), _ in Counter(pairs).most_common():
        if source_id is not None and distortion_id is not None:
            found.setdefault(source_id, distortion_id)
    trials = tables.get("calibration_trials")
    set_of = {row["id"]: row.get("calibration_set_id") for row in trials.to_pylist()} if trials else {}
    sets = {
        name: {
            id: {set_of[trial] for trial in by_plane.values() if set_of.get(trial) is not None}
            for id, by_plane in phantom_trials(tables[f"{name}_calibration"]).items()
        }
        for name in ("source_int", "distortion")
    }
    for source_id, recorded_in in sets["source_int"].items():
        together = [id for id, others in sets["distortion"].items() if recorded_in & others]
        if together:
            found.setdefault(source_id, min(together))
    return found
