"""``veriserum calibrate source``: arguments; the work is done in `recalibration`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.calibrate.options import (
    DistortionId,
    Frames,
    FromArchive,
    GridOfFrames,
    Markers,
    Report,
    SourceId,
    TrialId,
    WriteTo,
)
from veriserum_hf.cli.calibrate.results import check_report, finish
from veriserum_hf.cli.options import AsJson
from veriserum_hf.cli.output import show_progress
from veriserum_hf.core import PlaneName
from veriserum_hf.errors import CalibrationError

if TYPE_CHECKING:
    from veriserum_hf.recalibration import PhantomFrame


def source(
    frames: Frames = None,
    plane: Annotated[
        PlaneName | None,
        typer.Option(help="Frames of a trial to use; or the plane of frames whose name does not state it."),
    ] = None,
    grid: Annotated[
        Path | None, typer.Option(metavar="FRAME", help="Distortion: fitted to this frame of the grid phantom.")
    ] = None,
    distortion: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Distortion: a file with the stored text.")
    ] = None,
    distortion_id: DistortionId = None,
    archive: FromArchive = None,
    calibration_trial: TrialId = None,
    source_id: SourceId = None,
    phantom: Markers = None,
    grid_phantom: GridOfFrames = None,
    as_json: AsJson = False,
    report: Report = None,
    write: WriteTo = None,
) -> None:
    r"""Estimate principal point and source-to-intensifier distance of one plane from frames of the marker phantom.

    --write needs --source-id: the new row's other plane, and the pose of the fs intensifier, are copied from it.

    Exit status: 0 done, 2 not done, 3 done but frames were skipped.

    Examples
    --------
    veriserum calibrate source bs_*.tif --grid grids/bs_000001.tif
    veriserum calibrate source --calibration-trial 27 --plane bs \
        --distortion-id 2 --source-id 1 --write ARCHIVE
    """
    from veriserum_hf.calibration import CYLINDER, SIPLA_GRID, fit_source, load_grid_phantom, load_marker_phantom
    from veriserum_hf.geometry import DualPlaneRig
    from veriserum_hf.recalibration import chosen_frames, distortions_of, find_in_frames, initial_rig, open_archive

    check_report(report)
    markers = load_marker_phantom(phantom or CYLINDER)
    lattice = load_grid_phantom(grid_phantom or SIPLA_GRID)
    if write and source_id is None:
        raise CalibrationError(
            "--write also needs --source-id N: a row holds both planes, and the other one's numbers are copied from "
            "that source calibration; or calibrate both with `veriserum calibrate rig`"
        )
    opened = open_archive(archive, write)
    chosen = chosen_frames(opened, frames, calibration_trial, plane)
    name = _only_plane(chosen)
    start = initial_rig(opened, source_id)
    distortions = distortions_of({name}, opened, distortion_id, [grid] if grid else [], distortion, lattice)
    with show_progress("finding markers", "frames") as progress:
        seen = find_in_frames(chosen, distortions, start, progress, markers)
    observations = seen.of(name)
    fit = fit_source(observations, start[name])
    if report:
        from veriserum_hf.reports import draw_source_report

        draw_source_report(fit, observations, report, title=f"{name} source")
    rig = DualPlaneRig(**{**start, name: fit.plane})
    finish(f"{name} source", {"plane": name}, fit, seen, as_json, report, write, rig, source_id)


def _only_plane(frames: "Iterable[PhantomFrame]") -> PlaneName:
    planes = {frame.plane for frame in frames}
    if len(planes) > 1:
        raise CalibrationError(
            "the frames are of both planes: choose one (--plane with a trial), or use `veriserum calibrate rig`"
        )
    (plane,) = planes
    return plane
