"""``veriserum calibrate cameras``: arguments and exit statuses; the work is done in `recalibration`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.options import AsJson
from veriserum_hf.cli.output import print_json, print_text, warn
from veriserum_hf.core import listed
from veriserum_hf.errors import CalibrationError

if TYPE_CHECKING:
    from veriserum_hf.recalibration import NewCameras

_LISTED = 12  # trials


def cameras(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="Archive's folder, database or pose CSV.")],
    file: Annotated[
        Path, typer.Argument(metavar="CAMERAS.json", help="Refined cameras, from `veriserum refine-cameras`.")
    ],
    as_json: AsJson = False,
    write: Annotated[bool, typer.Option("--write", help="Add them to the archive.")] = False,
) -> None:
    """Store refined cameras in their archive; without --write, print what would change.

    Each improved rig becomes a new row of source_int_calibration, with the pose of its fs intensifier in
    inter_plane_calibration. It holds for the trials of the rig: the table veriserum_hf_refined_cameras, created if
    absent, states for each which calibration it replaces there, with the covariance of the pose. No row that was
    there is changed, and all other trials keep their cameras. Rigs that are not improved are skipped.

    Poses stay as they are stored; they belong to the cameras that they were found with. Register them again, or
    carry them over with `veriserum poses move`.

    Exit status: 0 done, 2 not done, 3 done but rigs were skipped.

    Examples
    --------
    veriserum calibrate cameras ARCHIVE cameras.json
    veriserum calibrate cameras ARCHIVE cameras.json --write
    """
    from veriserum_hf.archive import VeriserumArchive
    from veriserum_hf.calibration import read_refined_cameras
    from veriserum_hf.recalibration import new_cameras, write_cameras

    opened, refined = VeriserumArchive(archive), read_refined_cameras(file)
    changes = new_cameras(opened, refined)
    skipped = [rig for rig in refined.rigs if rig.verdict != "improved"]
    if not changes:
        raise CalibrationError(
            f"{file}: no rig is improved, so the stored cameras stay ({listed(rig.verdict for rig in skipped)}). "
            "Nothing was written"
        )
    ids = write_cameras(opened, refined, changes) if write else []
    if as_json:
        added = [{"source_int_calibration_id": id} for id in ids] or [{} for _ in changes]
        print_json(
            {
                "written": write,
                "calibrations": [each.document() | new for each, new in zip(changes, added, strict=True)],
                "skipped": [{"trials": list(rig.trials), "verdict": rig.verdict} for rig in skipped],
            }
        )
    else:
        for n, each in enumerate(changes):
            _print(each, ids[n] if write else None)
        if not write:
            print_text("nothing was written: run again with --write")
    for rig in skipped:
        warn(f"skipped, since not improved: trials {listed(rig.trials, _LISTED)}: {rig.verdict}")
    sys.exit(3 if skipped else 0)


def _print(change: "NewCameras", id: int | None) -> None:
    new = "a new row" if id is None else f"id {id}"
    verb = "would replace" if id is None else "replaces"
    lines = [f"trials {listed(change.trials, _LISTED)}: {new} {verb} source_int_calibration id {change.replaced}"]
    lines += [f"{name:<20} {text}" for name, text in change.texts().items()]
    if change.others:
        lines.append(f"unchanged            trials {listed(change.others, _LISTED)}, which keep id {change.replaced}")
    print_text("\n  ".join(lines))
