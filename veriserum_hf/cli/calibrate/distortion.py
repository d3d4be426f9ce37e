"""``veriserum calibrate distortion``: arguments and exit statuses; the work is done in `recalibration`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.calibrate.options import Grid, OnePlane, Report, WriteTo
from veriserum_hf.cli.calibrate.results import check_report
from veriserum_hf.cli.options import AsJson
from veriserum_hf.cli.output import print_error, print_json, print_text, show_progress, warn
from veriserum_hf.errors import CalibrationError

if TYPE_CHECKING:
    from veriserum_hf.calibration import GridFit
    from veriserum_hf.recalibration import PhantomFrame


def distortion(
    frames: Annotated[
        list[Path], typer.Argument(metavar="FRAME...", help="Raw frames of the grid phantom.", show_default=False)
    ],
    plane: OnePlane = None,
    phantom: Grid = None,
    as_json: AsJson = False,
    report: Report = None,
    write: WriteTo = None,
) -> None:
    """Fit the distortion of an intensifier to each frame of its grid phantom.

    --write takes one frame of each plane. With several frames, --report draws a page for each and adds the
    name of the frame to that of the PNG.

    Exit status: 0 done, 2 nothing fitted or not written, 3 some frames could not be fitted.

    Examples
    --------
    veriserum calibrate distortion bs_000001.tif fs_000001.tif
    veriserum calibrate distortion bs_000001.tif --json > bs_grid.json
    veriserum calibrate distortion bs_000001.tif --phantom plate.yaml
    veriserum calibrate distortion bs_000001.tif fs_000001.tif --write ARCHIVE
    """
    from veriserum_hf.calibration import SIPLA_GRID, grid_lines, grid_numbers, load_grid_phantom
    from veriserum_hf.recalibration import PhantomFrame, fit_grid

    pages = _pages(report, frames)
    grid = load_grid_phantom(phantom or SIPLA_GRID)
    fits, documents, errors = {}, [], []
    with show_progress("fitting", "frames") as progress:
        for done, path in enumerate(frames, start=1):
            document: dict[str, object] = {"frame": str(path)}
            try:
                frame = PhantomFrame.from_path(path, plane)
                document["plane"] = frame.plane
                fits[frame] = fit_grid(frame, grid)
            except CalibrationError as error:
                document["error"] = str(error)
                errors.append(str(error))
            else:
                document |= grid_numbers(fits[frame])
            documents.append(document)
            progress(done, len(frames))
    for frame, fit in fits.items():
        if not as_json:
            print_text("\n  ".join([f"{frame.plane} {frame.path}", *grid_lines(fit)]))
        if report:
            from veriserum_hf.reports import draw_distortion_report

            draw_distortion_report(frame.read(), fit, pages[frame.path], title=f"{frame.plane} {frame.path.name}")
            if not as_json:
                print_text(f"  report written to {pages[frame.path]}")
    if write and not errors:
        new_id = _write_distortions(write, fits)
        documents = [document | {"distortion_calibration_id": new_id} for document in documents]
    if as_json:
        print_json(documents)
    elif write and not errors:
        print_text(f"written to {write} as distortion_calibration id {new_id}")
    for message in errors:
        print_error(message)
    if write and errors:
        warn("nothing was written: --write needs a fit of every frame")
    sys.exit(2 if errors and (write or not fits) else 3 if errors else 0)


def _pages(report: Path | None, frames: Sequence[Path]) -> dict[Path, Path]:
    """Page of each frame's report."""
    check_report(report)
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
