"""``veriserum calibrate ...``: argument parsing and exit statuses; the work is done elsewhere."""

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from veriserum_hf.cli.options import AsJson
from veriserum_hf.cli.output import err, say, show_progress
from veriserum_hf.core import PLANES, PlaneName
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import DualPlaneRig

if TYPE_CHECKING:
    from veriserum_hf.calibration import GridFit, RigFit, SourceFit
    from veriserum_hf.recalibration import PhantomFrame, Seen

app = typer.Typer(
    help="Calibrate from raw frames of the phantoms. Nothing is written to an archive but with --write.",
    no_args_is_help=True,
)

OnePlane = Annotated[
    PlaneName | None, typer.Option(help="Of frames whose name does not tell it as bs_000001.tif does.")
]
Frames = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FRAME...", help="Raw frames of the marker phantom.", show_default=False),
]
FromArchive = Annotated[
    Path | None, typer.Option("--archive", help="Archive that ids are of; that of --write if not given.")
]
TrialId = Annotated[
    int | None, typer.Option("--calibration-trial", help="Instead of FRAME...: the frames of this trial.")
]
DistortionId = Annotated[int | None, typer.Option(help="Distortion of the frames: this calibration's.")]
SourceId = Annotated[int | None, typer.Option(help="Source calibration to start from; a rough one if not given.")]
Report = Annotated[Path | None, typer.Option(metavar="PNG", help="Also draw a page about the fit.")]
WriteTo = Annotated[
    Path | None,
    typer.Option(
        metavar="ARCHIVE",
        help="Add the result to this archive, as a row under a new id; it names the frames' calibration trial where "
        "they are the archive's own files.",
    ),
]


@app.command()
def distortion(
    frames: Annotated[
        list[Path], typer.Argument(metavar="FRAME...", help="Raw frames of the grid phantom.", show_default=False)
    ],
    plane: OnePlane = None,
    as_json: AsJson = False,
    report: Report = None,
    write: WriteTo = None,
) -> None:
    """Fit the distortion of an intensifier to each frame of its grid phantom.

    --write takes one frame of each plane. With several frames, --report draws a page for each and adds the frame's
    name to the PNG's.

    Exit status: 0 done, 2 nothing fitted or not written, 3 some frames could not be fitted.
    """
    from veriserum_hf.calibration import grid_lines, grid_numbers
    from veriserum_hf.recalibration import PhantomFrame, fit_grid

    pages = _pages(report, frames)
    fits, documents, errors = {}, [], []
    with show_progress("fitting", "frames") as progress:
        for done, path in enumerate(frames, start=1):
            document: dict[str, Any] = {"frame": str(path)}
            try:
                frame = PhantomFrame.from_path(path, plane)
                document["plane"] = frame.plane
                fits[frame] = fit_grid(frame)
            except CalibrationError as error:
                document["error"] = str(error)
                errors.append(str(error))
            else:
                document |= grid_numbers(fits[frame])
            documents.append(document)
            progress(done, len(frames))
    for frame, fit in fits.items():
        if not as_json:
            say("\n  ".join([f"{frame.plane} {frame.path}", *grid_lines(fit)]))
        if report:
            from veriserum_hf.reports import draw_distortion_report

            draw_distortion_report(frame.read(), fit, pages[frame.path], title=f"{frame.plane} {frame.path.name}")
    if write and not errors:
        new_id = _write_distortions(write, fits)
        documents = [document | {"distortion_calibration_id": new_id} for document in documents]
    if as_json:
        print(json.dumps(documents, indent=1))
    elif write and not errors:
        say(f"written to {write} as distortion_calibration id {new_id}")
    for message in errors:
        err.print(f"[red]error:[/red] {escape(message)}", soft_wrap=True, highlight=False)
    if write and errors:
        err.print("nothing was written: --write needs a fit of every frame")
    sys.exit(2 if errors and (write or not fits) else 3 if errors else 0)


@app.command()
def source(
    frames: Frames = None,
    plane: Annotated[
        PlaneName | None,
        typer.Option(help="Which frames of a trial to use; of frames whose name does not tell it, theirs."),
    ] = None,
    grid: Annotated[
        Path | None, typer.Option(metavar="FRAME", help="Distortion: fitted to this frame of the grid phantom.")
    ] = None,
    distortion: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Distortion: a file that holds the stored text.")
    ] = None,
    distortion_id: DistortionId = None,
    archive: FromArchive = None,
    calibration_trial: TrialId = None,
    source_id: SourceId = None,
    as_json: AsJson = False,
    report: Report = None,
    write: WriteTo = None,
) -> None:
    """Find principal point and source-to-intensifier distance of one plane from frames of the marker phantom.

    --write needs --source-id: the new row's other plane, and the pose of the fs intensifier, are copied from there.

    Exit status: 0 done, 2 not done, 3 done but frames were left out.
    """
    from veriserum_hf.calibration import fit_source
    from veriserum_hf.recalibration import chosen_frames, distortions_of, find_in_frames, open_archive, starting_rig

    _check_report(report)
    if write and source_id is None:
        raise CalibrationError(
            "--write also needs --source-id N: a row holds both planes, and the other one's numbers are copied from "
            "that source calibration; or calibrate both with `veriserum calibrate rig`"
        )
    opened = open_archive(archive, write)
    chosen = chosen_frames(opened, frames, calibration_trial, plane)
    planes = {frame.plane for frame in chosen}
    if len(planes) > 1:
        raise CalibrationError(
            "the frames are of both planes: choose one (--plane with a trial), or use `veriserum calibrate rig`"
        )
    (name,) = planes
    start = starting_rig(opened, source_id)
    distortions = distortions_of(planes, opened, distortion_id, [grid] if grid else [], distortion)
    with show_progress("finding markers", "frames") as progress:
        seen = find_in_frames(chosen, distortions, start, progress)
    observations = seen.of(name)
    fit = fit_source(observations, start[name])
    if report:
        from veriserum_hf.reports import draw_source_report

        draw_source_report(fit, observations, report, title=f"{name} source")
    rig = DualPlaneRig(**{**start, name: fit.plane})
    _finish(f"{name} source", {"plane": name}, fit, seen, as_json, write, rig, source_id)


@app.command()
def rig(
    frames: Frames = None,
    grid: Annotated[
        list[Path] | None,
        typer.Option(metavar="FRAME", help="Distortion: fitted to this frame of the grid; once for each plane."),
    ] = None,
    distortion_id: DistortionId = None,
    archive: FromArchive = None,
    calibration_trial: TrialId = None,
    source_id: SourceId = None,
    as_json: AsJson = False,
    report: Report = None,
    write: WriteTo = None,
) -> None:
    """Find both sources and the pose of the fs intensifier from dual-plane frames of the marker phantom.

    Frames of both planes belong together by the number in their names: bs_000007.tif, fs_000007.tif.

    --write adds a row to source_int_calibration, and the pose to a table of its own, inter_plane_calibration, made if
    absent. It holds for the new id only: all other source calibrations, and the poses that name them, keep the
    nominal pose of the fs intensifier.

    Exit status: 0 done, 2 not done, 3 done but frames were left out.
    """
    from veriserum_hf.calibration import fit_rig
    from veriserum_hf.recalibration import chosen_frames, distortions_of, find_in_frames, open_archive, starting_rig

    _check_report(report)
    opened = open_archive(archive, write)
    chosen = chosen_frames(opened, frames, calibration_trial, None)
    start = starting_rig(opened, source_id)
    distortions = distortions_of(set(PLANES), opened, distortion_id, grid or [], None)
    with show_progress("finding markers", "frames") as progress:
        seen = find_in_frames(chosen, distortions, start, progress)
    pairs = seen.pairs()
    fit = fit_rig(pairs, start)
    if report:
        from veriserum_hf.reports import draw_source_report

        draw_source_report(fit, pairs, report, title="Both sources and the fs intensifier")
    _finish("rig", {}, fit, seen, as_json, write, fit.rig, None)


def _check_report(report: Path | None) -> None:
    """Refuse at once what would fail after the work."""
    if report is None:
        return
    if not (report.suffix.lower() == ".png" and report.absolute().parent.is_dir()):
        raise CalibrationError(f"--report {report}: expected a path that ends in .png in a folder that exists")
    import_module("veriserum_hf.reports.calibration_report")  # which says so where matplotlib is missing


def _pages(report: Path | None, frames: Sequence[Path]) -> dict[Path, Path]:
    """Page of each frame's report."""
    _check_report(report)
    if report is None:
        return {}
    if len(frames) == 1:
        return {frames[0]: report}
    frame_of: dict[Path, Path] = {}
    for frame in dict.fromkeys(frames):
        page = report.with_stem(f"{report.stem}_{frame.stem}")
        if page in frame_of:
            raise CalibrationError(
                f"--report {report}: the page of {frame} would replace that of {frame_of[page]}, both {page}; "
                "draw one at a time"
            )
        frame_of[page] = frame
    return {frame: page for page, frame in frame_of.items()}


def _write_distortions(archive: Path, fits: "dict[PhantomFrame, GridFit]") -> int:
    from veriserum_hf.recalibration import write_distortion

    by_plane = {frame.plane: frame for frame in fits}
    if len(fits) != 2 or len(by_plane) != 2:
        given = ", ".join(f"{frame.path} ({frame.plane})" for frame in fits)
        raise CalibrationError(f"--write takes one frame of each plane, bs and fs; found {given}")
    return write_distortion(
        archive,
        {plane: fits[frame] for plane, frame in by_plane.items()},
        {plane: [frame.path] for plane, frame in by_plane.items()},
    )


def _finish(
    title: str,
    document: dict[str, Any],
    fit: "SourceFit | RigFit",
    seen: "Seen",
    as_json: bool,
    write: Path | None,
    rig: DualPlaneRig,
    copied_from: int | None,
) -> None:
    """Print a fit, write it where that was asked for, and end with the status that frames left out make."""
    from veriserum_hf.calibration import RigFit, source_lines, source_numbers
    from veriserum_hf.recalibration import write_source

    if not as_json:
        say("\n  ".join([title, *source_lines(fit)]))
    if write:
        used = {plane: [frame.path for frame in seen.observations if frame.plane == plane] for plane in PLANES}
        new_id = write_source(write, rig, used, copied_from=copied_from)
        document = document | {"source_int_calibration_id": new_id}
        if not as_json:
            pose = " (its fs pose: inter_plane_calibration)" if isinstance(fit, RigFit) else ""
            say(f"written to {write} as source_int_calibration id {new_id}{pose}")
    if as_json:
        left_out = [{"frame": str(frame.path), "error": reason} for frame, reason in seen.left_out.items()]
        print(json.dumps(document | source_numbers(fit) | {"left_out": left_out}, indent=1))
    for frame, reason in seen.left_out.items():
        err.print(f"left out: {escape(f'{frame.path}: {reason}')}", soft_wrap=True, highlight=False)
    sys.exit(3 if seen.left_out else 0)
