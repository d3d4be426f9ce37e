"""``veriserum refine-cameras``: arguments and printed results; the work is done in `registration`."""

import json
import os
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.options import AsJson, DatasetOrArchive
from veriserum_hf.cli.output import print_json, print_text, show_progress
from veriserum_hf.core import Table, listed
from veriserum_hf.errors import RegistrationError

if TYPE_CHECKING:
    from veriserum_hf.calibration import RefinedRig


class _Per(StrEnum):
    SESSION = "session"
    TRIAL = "trial"
    ALL = "all"


def refine_cameras(
    dataset: DatasetOrArchive,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="CAMERAS.json", help="File to write.", show_default=False)
    ],
    poses: Annotated[
        str, typer.Option(help="Initial poses: refined, initial, manual, target, or a pose file.")
    ] = "refined",
    per: Annotated[_Per, typer.Option(help="Frames that have cameras of their own.")] = _Per.SESSION,
    free: Annotated[
        str, typer.Option(help="What is refined, separated by commas: fs-pose, sid, principal-point, time.")
    ] = "fs-pose",
    frames: Annotated[int, typer.Option(min=10, help="Frames of each group, at most.")] = 100,
    plane_mm: Annotated[float, typer.Option(min=0.001, help="Tolerance of the position of fs, mm.")] = 2.0,
    plane_deg: Annotated[float, typer.Option(min=0.001, help="Tolerance of the rotation of fs, deg.")] = 0.5,
    principal_point_mm: Annotated[float, typer.Option(min=0.001, help="Tolerance of principal points, mm.")] = 0.2,
    sid_mm: Annotated[float, typer.Option(min=0.001, help="Tolerance of source-to-intensifier distances, mm.")] = 2.0,
    async_ms: Annotated[
        float, typer.Option(min=0.001, help="Tolerance of the time between the exposures of the planes, ms.")
    ] = 10.0,
    frame_rate_hz: Annotated[
        float | None, typer.Option(min=0.001, help="Frame rate of the trials, needed if time is free.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE.html", help="Also write a page about the change, what is known of it, and residuals."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    r"""Refine the cameras of a data set from the implants in its frames.

    Poses of many frames and the cameras are adjusted together. A session is all trials with the same stored
    cameras. Refined cameras replace the stored ones only where the change is significant, and where they fit frames
    better that were left out of their refinement (cross-validation with five folds); otherwise the verdict is "no
    evidence", or "not determined" where the frames do not show it.

    The world stays that of the plane bs. Rotations of fs and its shift along the direction that both planes see
    are determined sharply. A shift of fs that looks like a common shift of all implants in depth is not; its
    deviation states it. Tolerances are standard deviations before any frame is seen; what is not free is held, and
    its tolerance enters the stated deviations.

    With time, "fs late ms" is by how much later fs is exposed than bs; negative: earlier. It needs frames in motion
    with poses of the frames right before and after them, and the frame rate. The result is stated in the file;
    registration does not use it. Without time, the exposures are taken as simultaneous.

    A hundred frames take some minutes. Nothing is kept of a run that is interrupted. Groups of fewer than ten frames
    with poses keep their stored cameras.

    Give the file as --cameras to convert, import, register, predict, check-labels and poses move.

    Exit status: 0 cameras of every group improved, or there is no evidence against them; 2 not done; 3 those of some
    group are not determined.

    Examples
    --------
    veriserum refine-cameras OUT --output cameras.json
    veriserum refine-cameras OUT --poses registered.parquet --free fs-pose,sid \
        --output cameras.json --report cameras.html
    veriserum refine-cameras OUT --free fs-pose,time --frame-rate-hz 30 \
        --output cameras.json
    """
    from veriserum_hf.calibration import refined_cameras_json
    from veriserum_hf.jobs import write_file, writing
    from veriserum_hf.registration import FREE, Tolerances, refine_cameras as refine

    wanted = [each.strip() for each in free.split(",")]
    chosen = [name for name in FREE if name in wanted]
    if unknown := sorted(set(wanted) - set(FREE)):
        raise RegistrationError(f"--free has {', '.join(map(repr, unknown))}; expected some of {', '.join(FREE)}")
    _check_paths(output, report)
    tolerances = Tolerances(plane_mm, plane_deg, principal_point_mm, sid_mm, async_ms=async_ms)
    with show_progress("registering and adjusting", "frames") as progress:
        found = refine(
            dataset,
            poses=poses,
            per=per.value,
            free=chosen,
            tolerances=tolerances,
            frames=frames,
            frame_rate_hz=frame_rate_hz,
            progress=progress,
        )
    text = refined_cameras_json(found)
    with writing(output):
        write_file(output, text)
    if report:
        from veriserum_hf.reports import refined_cameras_page, save_report

        asked = {"initial poses": poses, "frames of each group, at most": frames}
        refined = {"refined": ", ".join(chosen), "cameras of each": per.value, "written to": output}
        deviations = {f"tolerance, {name}": value for name, value in asdict(tolerances).items()}
        save_report(refined_cameras_page(found, dataset, asked | refined | deviations), report)
    if as_json:
        print_json(json.loads(text))
    else:
        for rig in found.rigs:
            _print_rig(rig)
        print_text(f"\nwritten to {output}" + (f", report to {report}" if report else ""))
    if any(rig.verdict == "not determined" for rig in found.rigs):
        raise typer.Exit(3)


def _check_paths(output: Path, report: Path | None) -> None:
    """Refuse paths that would fail after the adjustment."""
    if output.exists():
        raise RegistrationError(f"{output} exists and was not changed; choose another output, or remove it")
    if not (output.absolute().parent.is_dir() and os.access(output.absolute().parent, os.W_OK)):
        raise RegistrationError(f"--output {output}: expected a folder that exists and can be written to")
    if report is None:
        return
    if not (report.suffix.lower() in (".html", ".htm") and report.absolute().parent.is_dir()) or report.is_dir():
        raise RegistrationError(f"--report {report}: expected a path that ends in .html in a folder that exists")
    if report.resolve() == output.resolve():
        raise RegistrationError(f"--report and --output are both {output}; expected two files")
    from veriserum_hf.reports import refined_cameras_page  # noqa: F401 - raises an error if matplotlib is missing


def _print_rig(rig: "RefinedRig") -> None:
    details, improved = rig.details, rig.verdict == "improved"
    print_text(f"\n{details['name']} (trials {listed(map(str, rig.trials))}): {rig.verdict}: {details['reason']}")
    if not improved:
        print_text("the stored cameras stay")
    before, after = details["left_out_misfit_px"]["before"], details["left_out_misfit_px"]["after"]
    if before is not None and after is not None:
        print_text(
            f"outlines of frames that were left out, from their edges: {before:.3f} px by the stored cameras, "
            f"{after:.3f} px by those that the others give"
        )
    if not rig.unknowns:
        return
    rows = []
    for n, name in enumerate(rig.unknowns):
        determined = "no" if name in details["not_determined"] else "yes"
        sd, tolerance = rig.covariance[n, n] ** 0.5, details["tolerances"][n]
        rows.append((name, f"{rig.estimate[n]:+.3f}", f"{sd:.3f}", f"{tolerance:g}", determined))
    change = "change" if improved else "change, not applied"
    print_text(Table(("unknown", change, "SD", "tolerance", "determined"), rows).text())
    print_text("determined: SD at most half the tolerance. What is held with its own tolerance is part of the SD.")
