"""``veriserum register`` and ``veriserum check-labels``: argument parsing and what is printed."""

import json
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from veriserum_hf.cli.options import AsJson
from veriserum_hf.cli.output import err, out, say, show_progress

if TYPE_CHECKING:
    from veriserum_hf.registration import LabelCheck, Registrations

_KEPT = "; what is finished is kept, the same command goes on from there"
_SHOWN = 20  # of a list on the console
Dataset = Annotated[
    str, typer.Argument(help="Converted folder, data set on the hub, or archive.", show_default=False)
]
Split = Annotated[str, typer.Option(help="Split: train, validation, test or all.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes; if not given, one a core, or one alone where there is a GPU, which they would share.",
        show_default=False,
    ),
]


def register(
    dataset: Dataset,
    start: Annotated[
        str,
        typer.Option(
            metavar="target|refined|manual|model|FILE",
            help="Poses to start from: of the data set (refined are those of calibrated), of --model, or of a "
            "Parquet file such as predict or register writes.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PARQUET", help="File to write.", show_default=False)
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="With --start model: output folder of a training, or a hub name."),
    ] = None,
    split: Split = "all",
    trial: Annotated[list[int] | None, typer.Option(help="Id of a trial; repeatable. All if not given.")] = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Refine poses by 2D/3D registration, whole trials at a time.

    One row for each implant and frame, with covariance, score and verdict: converged, ambiguous or failed. A frame
    whose own start does not converge is tried again from its neighbours in the trial. An interrupted registration
    goes on with the same command.

    Exit status: 0 done, 2 not done, 3 done but not every pose has converged (see verdict and detail).
    """
    from veriserum_hf.registration import register_dataset  # its compiler takes a second to import

    with (
        show_progress("predicting", "frames", when_interrupted=_KEPT) as model_progress,
        show_progress("registering", "frames", when_interrupted=_KEPT) as progress,
    ):
        found = register_dataset(
            dataset,
            output,
            start=start,
            model=model,
            split=split,
            trials=trial or (),
            workers=workers,
            progress=progress,
            model_progress=model_progress,
        )
    summary = _summary(found)
    if as_json:
        counts = {"frames": found.frames, "frames_without_start": found.without_start}
        print(json.dumps({"output": str(found.output), **counts, "by_component": summary}, indent=1))
    else:
        _print_summary(summary)
        out.print(f"written to {found.output}", soft_wrap=True, highlight=False)
    if found.without_start:
        err.print(f"{found.without_start} of {found.frames} frames are of trials without any start: left out")
    if found.not_converged:
        err.print(f"{found.not_converged} of {len(found.poses)} poses have not converged; their detail says why")
    sys.exit(3 if found.not_converged else 0)


def check_labels(
    dataset: Dataset,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PARQUET", help="File to write.", show_default=False)
    ],
    split: Split = "all",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """List the labels that disagree with their images.

    Every frame is registered from its refined pose, and compared with it. A label is flagged where the difference is
    beyond 5 standard deviations of what is usual in the data set, and beyond 0.75 mm or 1.5 degrees. Registrations
    that have not converged say nothing; their labels are listed as not assessed. Registrations are kept beside the
    output as NAME.registered.parquet, which is used again until it is removed, and has to be after a change of the
    data set. An interrupted check goes on with the same command.

    Exit status: 0 nothing flagged, 1 some labels flagged, 2 not done.
    """
    from veriserum_hf.registration import check_labels as check

    with show_progress("registering", "frames", when_interrupted=_KEPT) as progress:
        found = check(dataset, output, split=split, workers=workers, progress=progress)
    flagged, not_assessed = found.flagged, found.not_assessed
    if as_json:
        document = {
            "output": str(found.output),
            "registered": str(found.registered),
            "labels": len(found.rows),
            "flagged": flagged,
            "not_assessed": not_assessed,
            "label_minus_registration": found.spread,
            "automatic_minus_manual": found.manual or None,
        }
        print(json.dumps(document, indent=1))
    else:
        _print_check(dataset, found, flagged, not_assessed)
    if found.no_manual:
        err.print(f"not compared with manually matched poses: {found.no_manual}", soft_wrap=True, markup=False)
    sys.exit(1 if flagged else 0)


def _summary(found: "Registrations") -> dict[str, dict[str, Any]]:
    """Verdicts by component, and how far the poses that converged have moved."""
    summary: dict[str, dict[str, Any]] = {}
    rows = found.poses.to_pylist()
    for component in dict.fromkeys(row["component"] for row in rows):
        own = [row for row in rows if row["component"] == component]
        counts = Counter(row["verdict"] for row in own)
        summary[component] = {verdict: counts[verdict] for verdict in ("converged", "ambiguous", "failed")}
        summary[component]["from_neighbour"] = sum(row["start"] not in ("given", None) for row in own)
        for name in ("moved_mm", "moved_deg"):
            moved = [row[name] for row in own if row["verdict"] == "converged" and row[name] is not None]
            summary[component][f"median_{name}"] = float(np.median(moved)) if moved else None
    return summary


def _print_summary(summary: dict[str, dict[str, Any]]) -> None:
    head = ("component", "converged", "ambiguous", "failed", "from a neighbour", "median moved mm", "deg")
    rows = [
        (component, *(value if isinstance(value, int) else _number(value) for value in found.values()))
        for component, found in summary.items()
    ]
    _say_table(head, rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _print_check(
    dataset: str, found: "LabelCheck", flagged: list[dict[str, Any]], not_assessed: list[dict[str, Any]]
) -> None:
    say(f"{len(found.rows)} labels: {len(flagged)} flagged, {len(not_assessed)} not assessed")
    _print_degrees_of_freedom("label minus registration, median +- spread (1.4826 MAD)", found.spread, "spread")
    for what, by_component in found.manual.items():
        poses = ", ".join(f"{each['poses']} {component}" for component, each in by_component.items())
        title = f"{what} minus manually matched pose, median +- MAD ({poses})"
        _print_degrees_of_freedom(title, by_component, "mad")
    if flagged:
        _print_flagged(dataset, found.registered, flagged)
    if not_assessed:
        say("\nnot assessed: the registration has not converged, so it says nothing about the label")
        for row in not_assessed[:_SHOWN]:
            at = f"measurement {row['measurement_id']} (trial {row['trial_id']}, frame {row['frame_index']})"
            say(f"  {at}, {row['component']} {row['anatomy_id']}: {row['verdict']}: {row['detail']}")
        _say_more(not_assessed)
    say(f"\nwritten to {found.output}, registrations to {found.registered}")


def _print_flagged(dataset: str, registered: Path, flagged: list[dict[str, Any]]) -> None:
    from veriserum_hf.dataset import is_archive

    say("\nflagged, the worst first: label minus registration in mm (depth: along the rays of a plane) and degrees")
    head = ("measurement", "trial", "frame", "implant", "SD", "x", "y", "z", "depth bs", "fs")
    rows = []
    for row in flagged[:_SHOWN]:
        ids = [row[name] for name in ("measurement_id", "trial_id", "frame_index")]
        mm = [f"{row[f'{name}_mm']:+.2f}" for name in ("world_x", "world_y", "world_z", "bs_depth", "fs_depth")]
        turns = [f"{row[f'rotation_{axis}_deg']:+.2f}" for axis in "xyz"]
        rows.append((*ids, f"{row['component']} {row['anatomy_id']}", f"{row['disagreement_sd']:.0f}", *mm, *turns))
    _say_table((*head, "rotation x", "y", "z"), rows)
    _say_more(flagged)
    if is_archive(dataset):
        convert = shlex.join(["veriserum", "convert", dataset, "OUT"])
        say(f"\nlook at them with `veriserum show`, which takes what `{convert}` makes")
        return
    say("\nlook at them:")
    for id in dict.fromkeys(row["measurement_id"] for row in flagged[:_SHOWN]):
        options = ["--measurement", str(id), "--poses", str(registered), "--output", f"measurement_{id:06d}.png"]
        say(f"  {shlex.join(['veriserum', 'show', dataset, *options])}")


def _say_more(rows: list[dict[str, Any]]) -> None:
    if len(rows) > _SHOWN:
        say(f"  ... and {len(rows) - _SHOWN} more")


def _print_degrees_of_freedom(title: str, by_component: dict[str, Any], width: str) -> None:
    say(f"\n{title}")
    head = ("component", "x mm", "y mm", "z mm", "rotation x deg", "y deg", "z deg")
    rows = [
        (name, *(f"{one['median']:+.3f} +- {one[width]:.3f}" for one in found.values() if isinstance(one, dict)))
        for name, found in by_component.items()
    ]
    _say_table(head, rows)


def _say_table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print columns under their names; never cut to the width of a terminal."""
    cells = [[str(value) for value in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        say("  ".join(value.rjust(width) for value, width in zip(row, widths, strict=True)))
