"""How the commands print and write a fit."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from veriserum_hf.cli.output import print_json, print_text, warn
from veriserum_hf.core import PLANES
from veriserum_hf.errors import CalibrationError

if TYPE_CHECKING:
    from veriserum_hf.calibration import RigFit, SourceFit
    from veriserum_hf.geometry import DualPlaneRig
    from veriserum_hf.recalibration import Seen


def check_report(report: Path | None) -> None:
    """Refuse a path that would fail after the fit."""
    if report is None:
        return
    if not (report.suffix.lower() == ".png" and report.absolute().parent.is_dir()):
        raise CalibrationError(f"--report {report}: expected a path that ends in .png in a folder that exists")
    from veriserum_hf.reports import draw_source_report  # noqa: F401 - raises an error if matplotlib is missing


def finish(
    title: str,
    document: dict[str, object],
    fit: "SourceFit | RigFit",
    seen: "Seen",
    as_json: bool,
    report: Path | None,
    write: Path | None,
    rig: "DualPlaneRig",
    copied_from: int | None,
) -> None:
    """Print a fit, write it if requested, and exit with the status for skipped frames."""
    from veriserum_hf.calibration import RigFit, source_lines, source_numbers
    from veriserum_hf.recalibration import write_source

    if not as_json:
        print_text("\n  ".join([title, *source_lines(fit), *([f"report written to {report}"] if report else [])]))
    if write:
        used = {plane: [frame.path for frame in seen.observations if frame.plane == plane] for plane in PLANES}
        new_id = write_source(write, rig, used, copied_from=copied_from)
        document = document | {"source_int_calibration_id": new_id}
        if not as_json:
            pose = " (its fs pose: inter_plane_calibration)" if isinstance(fit, RigFit) else ""
            print_text(f"written to {write} as source_int_calibration id {new_id}{pose}")
    if as_json:
        skipped = [{"frame": str(frame.path), "error": reason} for frame, reason in seen.left_out.items()]
        print_json(document | source_numbers(fit) | {"left_out": skipped})
    for frame, reason in seen.left_out.items():
        warn(f"skipped: {frame.path}: {reason}")
    sys.exit(3 if seen.left_out else 0)
