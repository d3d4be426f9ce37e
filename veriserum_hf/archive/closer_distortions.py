"""Distortions in a form that follows the intensifier more closely than the lab's text, from a table of this package.

``veriserum calibrate distortion --write`` puts them into ``veriserum_hf_distortion``, next to the lab's own table,
which other programs read: a row for each calibration and plane whose beads a polynomial of a total degree predicts
better. Such a row is used in place of the lab's text while it belongs to it; otherwise it is named, and the lab's
text is used.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.plausible_calibrations import check_distortion
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.table_specs import Row
from veriserum_hf.calibration import DistortionMap, PolynomialDistortion, text_hash
from veriserum_hf.core import PLANES, PlaneName, listed
from veriserum_hf.errors import CalibrationError

CLOSER = "veriserum_hf_distortion"
DISTORTION_FORM = "distortion_form"
_MOST_MISSED_MM = 10.0  # what the lab's form may miss of a bead; a real intensifier's field by 2 mm
_SLACK_MM = 0.1  # how much more the forms may differ between beads than at them
_INNER = 0.8  # part of the circle's radius; farther out there may be no beads
_REMEDY = "The lab's text is used. Fit the grid's frames again: veriserum calibrate distortion ... --write."

Distortions = Mapping[int, Mapping[PlaneName, DistortionMap]]


def with_closer(
    stored: Distortions, tables: Mapping[str, pa.Table], layout: Layout, findings: Findings
) -> dict[int, dict[PlaneName, DistortionMap]]:
    """Distortions to be used, by calibration and plane: the closer form where it belongs to the lab's text.

    Parameters
    ----------
    stored : by the lab's texts.
    tables : of the archive.
    layout : for messages.
    findings : takes "distortion not used" for each row that is not, and the decision "distortion_form".

    """
    used = {id: dict(by_plane) for id, by_plane in stored.items()}
    if CLOSER not in tables:
        return used
    rows = tables[CLOSER].to_pylist()
    count = Counter((row["distortion_calibration_id"], row["plane"]) for row in rows)
    texts = {row["id"]: row for row in tables["distortion_calibration"].to_pylist()}
    closer: dict[int, list[str]] = {}
    for row in rows:
        id, plane = row["distortion_calibration_id"], row["plane"]
        try:
            if count[id, plane] > 1:
                raise CalibrationError(f"{count[id, plane]} rows belong to distortion_calibration id {id}, {plane}")
            if plane not in PLANES or id not in texts:
                raise CalibrationError(
                    f"refers to distortion_calibration id {'NULL' if id is None else id}, plane {plane!r:.20}, which "
                    "is not there"
                )
            if id in stored:
                used[id][plane] = _closer(row, texts[id][f"distortion_result_{plane}"], stored[id][plane])
                closer.setdefault(id, []).append(plane)
        except CalibrationError as error:
            findings.problem("distortion not used", f"{layout.where(CLOSER)}, id {row['id']}", str(error), _REMEDY)
    findings.decide(DISTORTION_FORM, "Which form of the distortions is used?", *_answer(closer, used))
    return used


def _answer(closer: Mapping[int, list[str]], used: Distortions) -> tuple[str, str]:
    described = [
        f"{id} ({', '.join(f'{plane}: degree {_degree(used[id], plane)}' for plane in sorted(planes))})"
        for id, planes in sorted(closer.items())
    ]
    if not described:
        return "the lab's text for all calibrations", f"no row of {CLOSER} can be used"
    others = len(used) - len(closer)
    answer = f"the polynomials of {CLOSER} for distortion_calibration id {listed(described, 20)}"
    return (
        answer + (f"; the lab's text for {others} others" if others else ""),
        "the rows belong to the lab's texts, and map as these do within what the lab's form misses",
    )


def _degree(by_plane: Mapping[PlaneName, DistortionMap], plane: str) -> int:
    return next(d.degree for name, d in by_plane.items() if name == plane and isinstance(d, PolynomialDistortion))


def _closer(row: Row, text: str, stored: DistortionMap) -> PolynomialDistortion:
    """The closer form of a row.

    Raises
    ------
    CalibrationError
        If it is invalid, or does not belong to the lab's text.

    """
    if row["stored_sha256"] != text_hash(text):
        raise CalibrationError("the lab's text was changed since this row was written")
    distortion = PolynomialDistortion.parse(row["distortion"] or "")
    with np.errstate(all="ignore"):  # what is not finite is refused next
        if distortion.folds():
            raise CalibrationError("the polynomial folds over inside the raw frame")
    check_distortion(distortion)
    missed = [row["stored_residual_mm_max"], row["residual_mm_max"]]
    if not all(value is not None and 0 <= value <= _MOST_MISSED_MM for value in missed):
        raise CalibrationError(
            f"stored_residual_mm_max and residual_mm_max are {missed[0]} and {missed[1]}, expected 0 to "
            f"{_MOST_MISSED_MM:g} mm"
        )
    off_mm, most_mm = _farthest_mm(distortion, stored), 1.5 * sum(missed) + _SLACK_MM
    if not off_mm <= most_mm:
        raise CalibrationError(
            f"it maps pixels up to {off_mm:.2f} mm from where the lab's text maps them, expected at most "
            f"{most_mm:.2f} mm, which is what both forms miss of the beads"
        )
    return distortion


def _farthest_mm(distortion: PolynomialDistortion, stored: DistortionMap) -> float:
    """Largest distance between the mm that two forms map pixels among the beads to."""
    along = np.linspace(-1, 1, 33)
    unit = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    unit = unit[np.hypot(*unit.T) <= _INNER]
    xy_px = distortion.center_px + distortion.radius_px * unit
    return float(np.hypot(*(distortion.to_mm(xy_px) - stored.to_mm(xy_px)).T).max())
