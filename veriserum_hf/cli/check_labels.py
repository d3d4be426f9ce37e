"""``veriserum check-labels``: arguments and printed results; the work is done in `registration`."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.options import (
    AsJson,
    Cameras,
    DatasetOrArchive,
    PosesOutput,
    RegistrationWorkers,
    SchedulerFile,
    Split,
)
from veriserum_hf.cli.output import KEPT, print_json, print_text, show_progress, warn
from veriserum_hf.core import Table
from veriserum_hf.jobs import dask_executor

if TYPE_CHECKING:
    from veriserum_hf.registration import CommonOffset, LabelCheck

_SHOWN = 20  # of a list on the console
_Rows = Sequence[Mapping[str, object]]  # of a check's table


def check_labels(
    dataset: DatasetOrArchive,
    output: PosesOutput,
    split: Split = "all",
    cameras: Cameras = None,
    manual: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Manually matched poses, as `match` writes, to compare with; those of the data set if not given.",
            show_default=False,
        ),
    ] = None,
    workers: RegistrationWorkers = None,
    scheduler_file: SchedulerFile = None,
    as_json: AsJson = False,
) -> None:
    """List the labels that disagree with their images.

    Every frame is registered from its refined pose, and the result is compared with that pose. A label is
    flagged if the difference exceeds 5 standard deviations of the usual differences in the data set, and 0.75 mm or
    1.5 degrees. Labels whose registration has not converged are listed as not assessed. Registrations are kept next
    to the output as NAME.registered.parquet and used again; remove that file after a change of the data set. Run an
    interrupted check again with the same command to resume it.

    Some frames are also compared with the outlines of their labels in other readings: quaternions scalar first,
    images flipped, files of the two planes swapped, grey levels inverted. If labels and images agree in another
    reading only, its name is printed.

    An offset that all labels of a component, an implant or a calibration have in common is reported once: its size,
    direction and uncertainty over trials, and whether cameras or labels are its likely cause. For the cause, some
    frames are registered with each plane alone: with wrong cameras, the planes disagree. Single labels are compared
    with that offset.

    Where the planes contradict each other by the same amount in a whole session, its labels are assessed
    nevertheless. It is stated whether another pose of the fs intensifier explains their offset, and how to refine
    the cameras; single labels are compared with that offset, too.

    By how much the planes disagree is summed up by session: all trials with the same stored cameras.

    Exit status: 0 all labels assessed and none flagged; 1 some labels flagged, labels have a common offset that is
    likely of the labels, or more than a quarter could not be assessed; 2 not done; 3 none of these, but labels have a
    common offset of another cause, some could not be assessed, or labels and images agree in another reading only.

    Examples
    --------
    veriserum check-labels OUT --output labels.parquet
    veriserum check-labels ARCHIVE --split test --workers 4 -o labels.parquet
    """
    from veriserum_hf.registration import check_labels as check

    with (
        dask_executor(scheduler_file) as executor,
        show_progress("registering", "frames", when_interrupted=KEPT) as progress,
    ):
        found = check(
            dataset,
            output,
            split=split,
            cameras=cameras,
            manual=manual,
            workers=workers,
            executor=executor,
            progress=progress,
        )
    flagged, not_assessed = found.flagged, found.not_assessed
    if as_json:
        document = {
            "output": str(found.output),
            "registered": str(found.registered),
            "labels": len(found.rows),
            "flagged": flagged,
            "not_assessed": not_assessed,
            "disagreement": found.disagreement,
            "common_offset": None if found.common is None else found.common.document(),
            "planes_by_session": [session.document() for session in found.sessions],
            "label_minus_registration": found.spread,
            "automatic_minus_manual": found.manual or None,
        }
        print_json(document)
    else:
        _print_check(dataset, found, flagged, not_assessed)
        if cameras is None and found.common and any(each.fits_cameras for each in found.common.sessions):
            _print_way_out(dataset, found, split)
    if found.no_manual:
        warn(f"not compared with manually matched poses: {found.no_manual}")
    if found.disagreement:
        warn(found.disagreement)
    sys.exit(1 if found.labels_are_off else 3 if not_assessed or found.disagreement or found.common else 0)


def _print_check(dataset: str, found: "LabelCheck", flagged: _Rows, not_assessed: _Rows) -> None:
    from veriserum_hf.poses import planes_table

    print_text(f"{len(found.rows)} labels: {len(flagged)} flagged, {len(not_assessed)} not assessed")
    if found.spread:
        _print_degrees_of_freedom("label minus registration, median +- spread (1.4826 MAD)", found.spread, "spread")
    if found.common:
        _print_common(found.common)
    if found.sessions:
        print_text(f"\nby how much the planes disagree\n{planes_table(found.sessions).text()}")
    for what, by_component in found.manual.items():
        poses = ", ".join(f"{each['poses']} {component}" for component, each in by_component.items())
        title = f"{what} minus manually matched pose, median +- MAD ({poses})"
        _print_degrees_of_freedom(title, by_component, "mad")
    if flagged:
        _print_flagged(dataset, found, flagged)
    if not_assessed:
        print_text("\nnot assessed: the registration has not converged, so the label cannot be compared with it")
        for row in not_assessed[:_SHOWN]:
            at = f"measurement {row['measurement_id']} (trial {row['trial_id']}, frame {row['frame_index']})"
            print_text(f"  {at}, {row['component']} {row['anatomy_id']}: {row['verdict']}: {row['detail']}")
        _print_more(not_assessed)
    print_text(f"\nwritten to {found.output}, registrations to {found.registered}")


def _print_common(common: "CommonOffset") -> None:
    cause = "labels or cameras" if common.looks_like is None else common.looks_like
    if common.offsets:
        print_text(f"\ncommon offset, likely of the {cause}: single labels are compared with it")
    elif any(session.significant for session in common.sessions):
        print_text(f"\noffset of whole sessions, likely of the {cause}: single labels are compared with it")
    else:
        print_text("\nno significant common offset of the labels, but the cameras do not fit each other")
    for reason in common.reasons:
        print_text(f"  {reason}")
    header = ("component", "labels", "trials", "frame", "mm", *"xyz", "deg", "rotation x", "y", "z")
    rows = []
    for offset in common.offsets:
        of = offset.document()
        mm, deg = (
            [f"{value:+.2f} +- {sd:.2f}" for value, sd in zip(values, deviations, strict=True)]
            for values, deviations in (
                (of["shift_mm"], of["shift_sd_mm"]),
                (of["rotation_deg"], of["rotation_sd_deg"]),
            )
        )
        sizes = [f"{of['size_mm']:.2f}", f"{of['size_deg']:.2f}"]
        rows.append((offset.name, offset.labels, offset.trials, offset.frame, sizes[0], *mm, sizes[1], *deg))
    if rows:
        print_text(Table(header, rows).text())


def _print_way_out(dataset: str, found: "LabelCheck", split: str) -> None:
    refine = ["veriserum", "refine-cameras", dataset, "--poses", str(found.registered), "--output", "cameras.json"]
    check = ["veriserum", "check-labels", dataset, "--cameras", "cameras.json"]
    check += [] if split == "all" else ["--split", split]
    output = str(found.output.with_name(f"{found.output.stem}_refined.parquet"))
    print_text(f"\nrefine the cameras, and check the labels again with them:\n  {shlex.join(refine)}")
    print_text(f"  {shlex.join([*check, '--output', output])}")


def _print_flagged(dataset: str, found: "LabelCheck", flagged: _Rows) -> None:
    from veriserum_hf.dataset import is_archive

    print_text(
        "\nflagged, the worst first: label minus registration in mm (depth: along the rays of a plane) and degrees"
    )
    header = ("measurement", "trial", "frame", "implant", "SD", *"xyz", "depth bs", "fs", "rotation x", "y", "z")
    rows = []
    for row in flagged[:_SHOWN]:
        ids = [row[name] for name in ("measurement_id", "trial_id", "frame_index")]
        names = ("world_x_mm", "world_y_mm", "world_z_mm", "bs_depth_mm", "fs_depth_mm")
        mm = [f"{row[name]:+.2f}" if row[name] is not None else "-" for name in names]  # a plane may be missing
        rotations = [f"{row[f'rotation_{axis}_deg']:+.2f}" for axis in "xyz"]
        rows.append(
            (*ids, f"{row['component']} {row['anatomy_id']}", f"{row['disagreement_sd']:.0f}", *mm, *rotations)
        )
    print_text(Table(header, rows).text())
    _print_more(flagged)
    if is_archive(dataset):
        convert = shlex.join(["veriserum", "convert", dataset, "OUT"])
        print_text(f"\nview them with `veriserum show`, which needs the output of `{convert}`")
        return
    print_text("\nview them:")
    for id in dict.fromkeys(row["measurement_id"] for row in flagged[:_SHOWN]):
        options = [
            "--measurement",
            str(id),
            "--poses",
            str(found.registered),
            "--output",
            f"measurement_{id:06d}.png",
        ]
        print_text(f"  {shlex.join(['veriserum', 'show', dataset, *options])}")
    match = ["veriserum", "match", dataset, "--poses", str(found.registered), "--check", str(found.output)]
    print_text(f"\nmatch them by hand:\n  {shlex.join(match)}")


def _print_more(rows: _Rows) -> None:
    if len(rows) > _SHOWN:
        print_text(f"  ... and {len(rows) - _SHOWN} more")


def _print_degrees_of_freedom(title: str, by_component: Mapping[str, Mapping[str, object]], width: str) -> None:
    print_text(f"\n{title}")
    header = ("component", "x mm", "y mm", "z mm", "rotation x deg", "y deg", "z deg")
    rows = [
        (name, *(f"{one['median']:+.3f} +- {one[width]:.3f}" for one in found.values() if isinstance(one, dict)))
        for name, found in by_component.items()
    ]
    print_text(Table(header, rows).text())
