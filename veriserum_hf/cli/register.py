"""``veriserum register``: argument parsing and what is printed; the work is done elsewhere."""

import sys
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.options import AsJson, DatasetOrArchive, PosesOutput, RegistrationWorkers, Split
from veriserum_hf.cli.output import KEPT, say, say_json, show_progress, warn
from veriserum_hf.core import CONVERGED, VERDICTS, Table

if TYPE_CHECKING:
    from veriserum_hf.registration import Registrations

_Summary = dict[str, dict[str, int | float | None]]  # by component


def register(
    dataset: DatasetOrArchive,
    start: Annotated[
        str,
        typer.Option(
            metavar="target|refined|manual|model|FILE",
            help="Poses to start from: of the data set (refined are those of calibrated), of --model, or of a "
            "Parquet file such as predict or register writes.",
            show_default=False,
        ),
    ],
    output: PosesOutput,
    model: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="With --start model: output folder of a training, or a hub name."),
    ] = None,
    split: Split = "all",
    trial: Annotated[list[int] | None, typer.Option(help="Id of a trial; repeatable. All if not given.")] = None,
    workers: RegistrationWorkers = None,
    as_json: AsJson = False,
) -> None:
    r"""Refine poses by 2D/3D registration, whole trials at a time.

    One row for each implant and frame, with covariance, score and verdict: converged, ambiguous or failed. A frame
    whose own start does not converge is tried again from its neighbours in the trial. An interrupted registration
    goes on with the same command.

    Exit status: 0 done, 2 not done, 3 done but not every pose has converged (see verdict and detail).

    Examples
    --------
    veriserum register OUT --start refined --split test -o registered.parquet
    veriserum register OUT --start model --model RUN -o registered.parquet
    veriserum register ARCHIVE --start predicted.parquet --trial 3 \
        --output registered.parquet
    """
    from veriserum_hf.registration import register_dataset

    with (
        show_progress("predicting", "frames", when_interrupted=KEPT) as model_progress,
        show_progress("registering", "frames", when_interrupted=KEPT) as progress,
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
    _print_found(found, as_json)
    sys.exit(3 if found.not_converged else 0)


def _print_found(found: "Registrations", as_json: bool) -> None:
    summary = _summary(found)
    if as_json:
        counts = {"frames": found.frames, "frames_without_start": found.without_start}
        say_json({"output": str(found.output), **counts, "by_component": summary})
    else:
        _print_summary(summary)
        say(f"written to {found.output}")
    if found.without_start:
        warn(f"{found.without_start} of {found.frames} frames are of trials without any start: left out")
    if found.not_converged:
        warn(f"{found.not_converged} of {len(found.poses)} poses have not converged; their detail says why")


def _summary(found: "Registrations") -> _Summary:
    """Verdicts by component, and how far the poses that converged have moved."""
    summary: _Summary = {}
    rows = found.poses.to_pylist()
    for component in dict.fromkeys(row["component"] for row in rows):
        own = [row for row in rows if row["component"] == component]
        counts = Counter(row["verdict"] for row in own)
        summary[component] = {verdict: counts[verdict] for verdict in VERDICTS}
        summary[component]["from_neighbour"] = sum(row["start"] not in ("given", None) for row in own)
        for name in ("moved_mm", "moved_deg"):
            moved = [row[name] for row in own if row["verdict"] == CONVERGED and row[name] is not None]
            summary[component][f"median_{name}"] = float(median(moved)) if moved else None
    return summary


def _print_summary(summary: _Summary) -> None:
    header = ("component", "converged", "ambiguous", "failed", "from a neighbour", "median moved mm", "deg")
    rows = [
        (component, *(value if isinstance(value, int) else _number(value) for value in found.values()))
        for component, found in summary.items()
    ]
    say(Table(header, rows).text())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
