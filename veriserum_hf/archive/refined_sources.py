"""Source calibrations that replace, in some trials, those that poses name: from a table of this package.

``veriserum calibrate cameras --write`` puts a refined rig into the lab's table under a new id. For each trial that it
holds for, ``veriserum_hf_refined_cameras`` has a row: which id it replaces there, where the centre of the ``bs``
intensifier is then (its source stays), and the covariance of the ``fs`` pose. Poses name the calibration that they
were found with; so the id is replaced after their frame of reference is known.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.pose_rows import integers
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.table_specs import Row
from veriserum_hf.core import FloatArray, listed
from veriserum_hf.errors import CalibrationError

REFINED_CAMERAS = "veriserum_hf_refined_cameras"
_BS_CENTER = ("bs_tx", "bs_ty", "bs_tz")
_REMEDY = "The calibration that the poses name is used. Write the cameras again: veriserum calibrate cameras."


@dataclass(frozen=True, eq=False)
class RefinedSource:
    """A source calibration in place of another in one trial.

    Attributes
    ----------
    trial, replaced, source : ids of the trial, and of both source calibrations.
    bs_center_mm : (3,) centre of the ``bs`` intensifier in the world.
    plane_covariance : (6, 6) of the ``fs`` pose, see `veriserum_hf.calibration.RefinedRig`.

    """

    trial: int
    replaced: int
    source: int
    bs_center_mm: FloatArray
    plane_covariance: FloatArray


def read_refined_sources(tables: Mapping[str, pa.Table], layout: Layout, findings: Findings) -> list[RefinedSource]:
    """Read the table, older calibrations first; takes "refined cameras not used" for each row that cannot be."""
    if REFINED_CAMERAS not in tables:
        return []
    ids = set(tables["source_int_calibration"]["id"].to_pylist())
    rows = tables[REFINED_CAMERAS].to_pylist()
    # A killed process may leave rows whose calibration is not there.
    count = Counter((row["trial_id"], row["replaced_id"]) for row in rows if row["source_int_calibration_id"] in ids)
    found = []
    for row in rows:
        try:
            if count[row["trial_id"], row["replaced_id"]] > 1:
                raise CalibrationError(
                    f"{count[row['trial_id'], row['replaced_id']]} rows replace source_int_calibration id "
                    f"{row['replaced_id']} in trial {row['trial_id']}, expected one"
                )
            found.append(_refined_source(row, ids))
        except CalibrationError as error:
            where = f"{layout.where(REFINED_CAMERAS)}, id {row['id']}"
            findings.problem("refined cameras not used", where, str(error), _REMEDY)
    if found:
        trials, sources = (sorted({getattr(each, name) for each in found}) for name in ("trial", "source"))
        answer = f"refined ones, source_int_calibration id {listed(sources, 20)}, in trials {listed(trials, 20)}"
        findings.decide(
            "cameras", "Which cameras are used?", answer, f"rows of {REFINED_CAMERAS} replace those of poses"
        )
    return sorted(found, key=lambda each: each.source)


def _refined_source(row: Row, ids: set[int]) -> RefinedSource:
    trial, replaced, source = (row[name] for name in ("trial_id", "replaced_id", "source_int_calibration_id"))
    if trial is None or replaced not in ids or source not in ids or source <= replaced:
        raise CalibrationError(
            f"in trial {trial}, source_int_calibration id {source} replaces {replaced}; expected a trial, and ids "
            "that are there, of which the first is higher"
        )
    center_mm = np.array([row[name] for name in _BS_CENTER], dtype=np.float64)
    try:
        covariance = np.array(json.loads(row["plane_covariance"] or ""), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"plane_covariance is {row['plane_covariance']!r:.60}: {error}") from error
    if not np.isfinite(center_mm).all():
        raise CalibrationError(f"{', '.join(_BS_CENTER)} are {center_mm.tolist()}, expected finite mm")
    if covariance.shape != (6, 6) or not np.isfinite(covariance).all() or np.linalg.eigvalsh(covariance)[0] < -1e-9:
        raise CalibrationError("plane_covariance is not a covariance of 6 x 6 finite numbers")
    return RefinedSource(trial, replaced, source, center_mm, covariance)


def bs_centers_mm(refined: Sequence[RefinedSource]) -> dict[int, FloatArray]:
    """Centre of the ``bs`` intensifier by source calibration."""
    return {each.source: each.bs_center_mm for each in refined}


def with_refined_sources(poses: pa.Table, frames: pa.Table, refined: Sequence[RefinedSource]) -> pa.Table:
    """Poses, by ``POSE_SCHEMA``, with the source calibration that holds for the trial of their frame."""
    if not refined:
        return poses
    measurements, trials = (integers(frames, name) for name in ("measurement_id", "trial_id"))
    sources, of_pose = integers(poses, "source_calibration_id").copy(), integers(poses, "measurement_id")
    # One calibration may be refined several times: each time the id is higher.
    for each in refined:
        own = np.isin(of_pose, measurements[trials == each.trial]) & (sources == each.replaced)
        sources[own] = each.source
    column = poses.schema.get_field_index("source_calibration_id")
    return poses.set_column(column, poses.schema.field(column), pa.array(sources, pa.int64()))
