"""Add a calibration to an archive: one new row under a new id, in SQLite or in the CSV files.

No row that is there is ever changed, so every pose keeps its meaning: it names its calibrations by id. A new id is
higher than any that a pose names, as obsolete poses may name calibrations that are not there. Either all that belongs
to the new calibration is in the archive afterwards, or nothing: one transaction in SQLite; new CSV files are written
next to the old ones, begin with their bytes, and replace them.

The lab's schema has no place for a measured pose of the ``fs`` intensifier. It goes into a table of its own,
``inter_plane_calibration`` (centre tx, ty, tz in the world, mm; quaternion r0, r1, r2, r3 = x, y, z, w of
``T_world_fs``), made if absent, and holds for the one source calibration that its row names; all others keep the
nominal pose. Nor has it one for a distortion beyond its polynomial: that goes into ``veriserum_hf_distortion``, a row
for each plane, next to the lab's text, which other programs read.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from veriserum_hf.archive import CLOSER, INTER_PLANE, VeriserumArchive
from veriserum_hf.calibration import STORED, GridFit, text_hash
from veriserum_hf.core import PLANES, PlaneName, __version__
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import NOMINAL_T_WORLD_FS, DualPlaneRig, matrix_to_quaternion
from veriserum_hf.recalibration.new_rows import LinkedRows, NewRow, Row, add_rows

PathsByPlane = Mapping[PlaneName, Sequence[str | os.PathLike[str]]]

METHOD = "veriserum_hf"
_INTER_PLANE_COLUMNS = {
    "id": "INTEGER PRIMARY KEY",
    "source_int_calibration_id": "INTEGER NOT NULL UNIQUE",
    **dict.fromkeys(("tx", "ty", "tz", "r0", "r1", "r2", "r3"), "REAL NOT NULL"),
    "method": "TEXT",
    "update_timestamp": "TEXT",
}
_CLOSER_COLUMNS = {
    "id": "INTEGER PRIMARY KEY",
    "distortion_calibration_id": "INTEGER NOT NULL",
    **dict.fromkeys(("plane", "form", "distortion", "stored_sha256"), "TEXT NOT NULL"),
    **dict.fromkeys(
        (f"{of}residual_mm_{what}" for of in ("", "stored_") for what in ("rms", "max")), "REAL NOT NULL"
    ),
    **dict.fromkeys(("cv_mm_rms", "stored_cv_mm_rms"), "REAL NOT NULL"),
    "method": "TEXT",
    "update_timestamp": "TEXT",
}


def write_distortion(path: str | os.PathLike[str], fits: Mapping[PlaneName, GridFit], frames: PathsByPlane) -> int:
    """Add a row to ``distortion_calibration``, and the closer forms to ``veriserum_hf_distortion``.

    The first holds the lab's text of both planes. Where another form was chosen it is added next to it.

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
    row = stamped(archive, frames)
    row |= {f"distortion_result_{plane}": fits[plane].distortion.to_string() for plane in PLANES}
    closer = [_closer_row(plane, fits[plane], row) for plane in PLANES if fits[plane].chosen.form != STORED]
    linked = [LinkedRows(CLOSER, _CLOSER_COLUMNS, "distortion_calibration_id", closer)] if closer else []
    return add_rows(archive, "distortion_calibration", [NewRow(row, linked)])[0]


def _closer_row(plane: PlaneName, fit: GridFit, stamped: Row) -> Row:
    row: Row = {"plane": plane, "form": fit.chosen.form, "distortion": fit.chosen.distortion.to_string()}
    row["stored_sha256"] = text_hash(fit.distortion.to_string())
    for of, form in (("", fit.chosen), ("stored_", fit.forms[0])):
        row |= {f"{of}{name}": getattr(form, name) for name in ("residual_mm_rms", "residual_mm_max", "cv_mm_rms")}
    return row | {name: stamped[name] for name in ("method", "update_timestamp")}


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
    row = stamped(archive, frames)
    for plane in PLANES:
        if copied_from is not None and not frames.get(plane):
            row[f"calibration_trial_id_{plane}"] = archive.source_trials.get(copied_from, {}).get(plane)
    row |= source_columns(rig)
    linked = [inter_plane_rows(rig, row)]
    if np.array_equal(rig["fs"].T_world_intensifier, NOMINAL_T_WORLD_FS):
        linked = []
    return add_rows(archive, "source_int_calibration", [NewRow(row, linked)])[0]


def source_columns(rig: DualPlaneRig) -> Row:
    """Principal points and distances of both planes in the lab's columns."""
    row: Row = {}
    for plane in PLANES:
        h_mm, v_mm = rig[plane].principal_point_mm.tolist()
        row |= {f"principalp_h_{plane}": h_mm, f"principalp_v_{plane}": v_mm}
        row[f"sid_{plane}"] = float(rig[plane].sid_mm)
    return row


def inter_plane_rows(rig: DualPlaneRig, stamped: Row) -> LinkedRows:
    """Pose of the ``fs`` intensifier as a row of ``inter_plane_calibration``."""
    T_world_fs = rig["fs"].T_world_intensifier
    pose: Row = dict(zip(("tx", "ty", "tz"), T_world_fs[:3, 3].tolist(), strict=True))
    pose |= dict(zip(("r0", "r1", "r2", "r3"), matrix_to_quaternion(T_world_fs[:3, :3]).tolist(), strict=True))
    pose |= {"method": METHOD, "update_timestamp": stamped["update_timestamp"]}
    return LinkedRows(INTER_PLANE, _INTER_PLANE_COLUMNS, "source_int_calibration_id", [pose])


def stamped(archive: VeriserumArchive, frames: PathsByPlane) -> Row:
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
