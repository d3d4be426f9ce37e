"""Inputs of ``veriserum calibrate source`` and ``rig``: frames, their distortion, and the initial rig."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from veriserum_hf.archive import VeriserumArchive
from veriserum_hf.calibration import DistortionMap, GridPhantom, read_distortion
from veriserum_hf.core import PlaneName, listed
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import DualPlaneRig
from veriserum_hf.recalibration.phantom_frames import PhantomFrame, fit_grid

T = TypeVar("T")
_ROUGH_SID_MM = 1860.0  # what the laboratory sets up


def open_archive(archive: Path | None, write: Path | None) -> VeriserumArchive | None:
    """Return the archive that ids are of."""
    if archive and write and archive.resolve() != write.resolve():
        raise CalibrationError(
            f"--archive {archive} and --write {write} differ; ids must be of the archive that is written to. "
            "Give --write alone"
        )
    path = archive or write
    return VeriserumArchive(path) if path else None


def chosen_frames(
    archive: VeriserumArchive | None, paths: list[Path] | None, trial: int | None, plane: PlaneName | None
) -> list[PhantomFrame]:
    """Return the frames that were given, or those of a trial."""
    if bool(paths) == (trial is not None):
        raise CalibrationError("give either frames of the marker phantom, or --archive PATH --calibration-trial N")
    if trial is None:
        return [PhantomFrame.from_path(path, plane) for path in paths or []]
    archive = _needed(archive, f"--calibration-trial {trial}")
    rows = archive.calibration_frames.to_pylist()
    chosen = [
        PhantomFrame(Path(row["path"]), row["plane"], row["calibration_measurement_id"])
        for row in rows
        if row["calibration_trial_id"] == trial and plane in (None, row["plane"])
    ]
    if not chosen:
        trials = sorted({(row["calibration_trial_id"], row["phantom"], row["plane"]) for row in rows})
        there = listed((f"{id} ({phantom}, {of})" for id, phantom, of in trials), 12)
        raise CalibrationError(
            f"{archive.layout.root} has no frames of calibration trial {trial}{f' in {plane}' if plane else ''}; "
            f"there are {there or 'no phantom frames at all'}"
        )
    return chosen


def initial_rig(archive: VeriserumArchive | None, source_id: int | None) -> DualPlaneRig:
    """Return the initial rig."""
    if source_id is None:
        return DualPlaneRig.from_calibration(
            principal_point_bs_mm=(0, 0),
            sid_bs_mm=_ROUGH_SID_MM,
            principal_point_fs_mm=(0, 0),
            sid_fs_mm=_ROUGH_SID_MM,
        )
    archive = _needed(archive, f"--source-id {source_id}")
    return _stored(archive, "source", archive.source_calibrations, source_id)


def distortions_of(
    planes: set[PlaneName],
    archive: VeriserumArchive | None,
    distortion_id: int | None,
    grids: list[Path],
    file: Path | None,
    phantom: GridPhantom | None = None,
) -> dict[PlaneName, DistortionMap]:
    """Return the distortion of each plane, in the one way that was chosen; grids are frames of the phantom."""
    if [distortion_id is not None, bool(grids), file is not None].count(True) != 1:
        raise CalibrationError(
            "give the distortion of the frames in one way: --archive PATH --distortion-id N, or --grid FRAME for "
            "each plane" + (", or --distortion FILE" if len(planes) == 1 else "")
        )
    if file is not None:
        return dict.fromkeys(planes, read_distortion(file))
    if grids:
        given = [PhantomFrame.from_path(path, None if len(planes) > 1 else next(iter(planes))) for path in grids]
        if sorted(frame.plane for frame in given) != sorted(planes):
            found = ", ".join(f"{frame.path} ({frame.plane})" for frame in given)
            raise CalibrationError(
                f"a grid frame of each plane is needed, {' and '.join(sorted(planes))}, each after its own "
                f"--grid; found {found}"
            )
        fits = {frame.plane: fit_grid(frame, phantom) for frame in given}
        for frame in given:
            if not fits[frame.plane].upright:
                raise CalibrationError(
                    f"{frame.path}: the phantom is rotated by {fits[frame.plane].rotation_deg:.1f} degrees in the "
                    "frame, so its mm are not those of the intensifier; give a frame of an upright phantom"
                )
        return {plane: fit.chosen.distortion for plane, fit in fits.items()}
    archive = _needed(archive, f"--distortion-id {distortion_id}")
    return _stored(archive, "distortion", archive.distortions, distortion_id)


def _needed(archive: VeriserumArchive | None, option: str) -> VeriserumArchive:
    """Return the archive that the id of an option is of."""
    if archive is None:
        raise CalibrationError(f"{option} needs the archive that it is of: --archive PATH")
    return archive


def _stored(archive: VeriserumArchive, kind: str, calibrations: Mapping[int, T], id: int | None) -> T:
    """Return a stored calibration by its id."""
    if id is None or id not in calibrations:
        raise CalibrationError(
            f"{archive.layout.root} has no usable {kind} calibration {id}; there are {listed(calibrations, 20)}"
        )
    return calibrations[id]
