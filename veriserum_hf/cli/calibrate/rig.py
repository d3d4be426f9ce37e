"""``veriserum calibrate rig``: arguments; the work is done in `recalibration`."""

from pathlib import Path
from typing import Annotated

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
from veriserum_hf.core import PLANES


def rig(
    frames: Frames = None,
    grid: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FRAME", help="Distortion: fitted to this frame of the grid phantom; once for each plane."
        ),
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
    r"""Estimate both sources and the pose of the fs intensifier from dual-plane frames of the marker phantom.

    Frames of both planes are paired by the number in their names: bs_000007.tif, fs_000007.tif.

    --write adds a row to source_int_calibration, and the pose to the table inter_plane_calibration, created if
    absent. The pose applies to the new id only: all other source calibrations, and the poses that refer to them, keep
    the nominal pose of the fs intensifier.

    Exit status: 0 done, 2 not done, 3 done but frames were skipped.

    Examples
    --------
    veriserum calibrate rig bs_*.tif fs_*.tif --json > rig.json \
        --grid grids/bs_000001.tif --grid grids/fs_000001.tif
    veriserum calibrate rig --calibration-trial 27 --distortion-id 2 \
        --write ARCHIVE
    """
    from veriserum_hf.calibration import CYLINDER, SIPLA_GRID, fit_rig, load_grid_phantom, load_marker_phantom
    from veriserum_hf.recalibration import chosen_frames, distortions_of, find_in_frames, initial_rig, open_archive

    check_report(report)
    markers = load_marker_phantom(phantom or CYLINDER)
    lattice = load_grid_phantom(grid_phantom or SIPLA_GRID)
    opened = open_archive(archive, write)
    chosen = chosen_frames(opened, frames, calibration_trial, None)
    start = initial_rig(opened, source_id)
    distortions = distortions_of(set(PLANES), opened, distortion_id, grid or [], None, lattice)
    with show_progress("finding markers", "frames") as progress:
        seen = find_in_frames(chosen, distortions, start, progress, markers)
    pairs = seen.pairs()
    fit = fit_rig(pairs, start)
    if report:
        from veriserum_hf.reports import draw_source_report

        draw_source_report(fit, pairs, report, title="Both sources and the fs intensifier")
    finish("rig", {}, fit, seen, as_json, report, write, fit.rig, None)
