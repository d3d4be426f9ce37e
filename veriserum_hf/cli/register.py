"""``veriserum register``: arguments and printed results; the work is done in `registration`."""

import sys
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Annotated, Literal

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
from veriserum_hf.core import FAILED, VERDICTS, Table
from veriserum_hf.jobs import dask_executor

if TYPE_CHECKING:
    from veriserum_hf.registration import Registrations

_Summary = dict[str, dict[str, int | float | None]]  # by component


def register(
    dataset: DatasetOrArchive,
    start: Annotated[
        str,
        typer.Option(
            metavar="target|refined|manual|initial|model|none|FILE",
            help="Initial poses: of the data set (initial: of own frames, refined: those of calibrated), of --model, "
            "of a Parquet or CSV file of poses, or none: found in the images.",
            show_default=False,
        ),
    ],
    output: PosesOutput,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="With --start model: output folder of a training, released checkpoint, or model on the hub.",
        ),
    ] = None,
    method: Annotated[
        Literal["auto", "outline", "intensity"],
        typer.Option(
            help="What is compared with the images: the outlines of the implants, or the intensities of rendered "
            "images; auto: outlines, and intensities where they explain the image."
        ),
    ] = "auto",
    split: Split = "all",
    trial: Annotated[list[int] | None, typer.Option(help="Id of a trial; repeatable. All if not given.")] = None,
    cameras: Cameras = None,
    workers: RegistrationWorkers = None,
    scheduler_file: SchedulerFile = None,
    as_json: AsJson = False,
) -> None:
    r"""Refine poses by 2D/3D registration, trial by trial.

    One row for each implant and frame, with covariance, score and verdict: converged, ambiguous or failed. A frame
    that does not converge from its initial pose is registered again from the poses of neighbouring frames; one whose
    pose jumps against its neighbours is ambiguous. With the starts model and none, implants that are lost are
    searched for in the images, in at most 5 frames of a trial, up to a minute each, and tracked from there. By how
    much the planes disagree is summed up by session: all trials with the same stored cameras. Run an interrupted
    registration again with the same command to resume it.

    Exit status: 0 done, 2 not done, 3 done but not every pose has converged (see verdict and detail).

    Examples
    --------
    veriserum register OUT --start refined --split test -o registered.parquet
    veriserum register OUT --start initial -o registered.parquet
    veriserum register OUT --start none --method outline -o registered.parquet
    veriserum register OUT --start model --model RUN -o registered.parquet
    veriserum register ARCHIVE --start predicted.parquet --trial 3 \
        --output registered.parquet
    """
    from veriserum_hf.registration import register_dataset

    with (
        dask_executor(scheduler_file) as executor,
        show_progress("predicting", "frames", when_interrupted=KEPT) as model_progress,
        show_progress("registering", "frames", when_interrupted=KEPT) as progress,
    ):
        found = register_dataset(
            dataset,
            output,
            start=start,
            model=model,
            method=method,
            split=split,
            trials=trial or (),
            cameras=cameras,
            workers=workers,
            executor=executor,
            progress=progress,
            model_progress=model_progress,
        )
    _print_found(found, as_json)
    sys.exit(3 if found.not_converged else 0)


def _print_found(found: "Registrations", as_json: bool) -> None:
    from veriserum_hf.poses import planes_table

    summary, sessions = _summary(found), found.planes_by_session()
    if as_json:
        counts = {"frames": found.frames, "frames_without_start": found.without_start}
        planes = [session.document() for session in sessions]
        print_json({"output": str(found.output), **counts, "by_component": summary, "planes_by_session": planes})
    else:
        _print_summary(summary)
        if sessions:
            print_text(f"\nby how much the planes disagree\n{planes_table(sessions).text()}\n")
        print_text(f"written to {found.output}")
    if found.without_start:
        warn(f"{found.without_start} of {found.frames} frames are in trials without any initial pose: skipped")
    if found.not_converged:
        verdicts = Counter(found.poses["verdict"].to_pylist())
        left = " and ".join(f"{verdicts[name]} {name}" for name in VERDICTS[1:] if verdicts[name])
        warn(f"{left} of {len(found.poses)} poses; their detail states why")


def _summary(found: "Registrations") -> _Summary:
    """Verdicts by component, and the median change of all poses but failed ones, which are initial poses."""
    summary: _Summary = {}
    rows = found.poses.to_pylist()
    for component in dict.fromkeys(row["component"] for row in rows):
        own = [row for row in rows if row["component"] == component]
        counts = Counter(row["verdict"] for row in own)
        summary[component] = {verdict: counts[verdict] for verdict in VERDICTS}
        origins = Counter(row["start"] for row in own)
        summary[component]["from_neighbour"] = origins["previous frame"] + origins["next frame"]
        summary[component]["from_search"] = origins["search"]
        for name in ("moved_mm", "moved_deg"):
            moved = [row[name] for row in own if row["verdict"] != FAILED and row[name] is not None]
            summary[component][f"median_{name}"] = float(median(moved)) if moved else None
    return summary


def _print_summary(summary: _Summary) -> None:
    header = (
        "component",
        "converged",
        "ambiguous",
        "failed",
        "from neighbours",
        "from search",
        "median moved mm",
        "deg",
    )
    rows = [
        (component, *(value if isinstance(value, int) else _number(value) for value in found.values()))
        for component, found in summary.items()
    ]
    print_text(Table(header, rows).text())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
