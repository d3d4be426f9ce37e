"""``veriserum kinematics``: arguments and exit statuses; the work is done in `knee`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.options import AsJson, Axes
from veriserum_hf.cli.output import print_json, print_text
from veriserum_hf.core import JointConvention, Side, Table, listed
from veriserum_hf.errors import KinematicsError

if TYPE_CHECKING:
    import pyarrow as pa

    from veriserum_hf.dataset import Frames, Rows
    from veriserum_hf.knee import Event, Kinematics

_CONFIGS = ("calibrated", "manual", "target", "raw")
_ARCHIVE_PX = 512  # images are not read


def kinematics(
    poses: Annotated[Path, typer.Argument(help="Parquet or CSV of poses of both components.", show_default=False)],
    axes: Axes = None,
    side: Annotated[
        Side | None,
        typer.Option(help="Instead: side of the knee, with axes from the meshes alone.", show_default=False),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Data set or archive with the implants' meshes and the tasks.", show_default=False),
    ] = None,
    trial: Annotated[list[int] | None, typer.Option(help="Only this trial; repeatable.", show_default=False)] = None,
    frame_rate: Annotated[
        float | None,
        typer.Option(metavar="HZ", help="Gives times, unless the poses have a column time_s.", show_default=False),
    ] = None,
    convention: Annotated[JointConvention, typer.Option(help="Of the translations.")] = "grood-suntay",
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Also smooth over time and interpolate, in further columns.")
    ] = False,
    all_verdicts: Annotated[
        bool, typer.Option("--all-verdicts", help="Use frames of every verdict, not only converged ones.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="To write: .csv, .parquet, .mot or .sto.", show_default=False
        ),
    ] = None,
    cycles: Annotated[
        str | None,
        typer.Option(
            metavar="EVENT",
            help="Cut into cycles at min_flexion, max_flexion or the times of a YAML file.",
            show_default=False,
        ),
    ] = None,
    cycles_output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Cycles to write: .csv or .parquet.", show_default=False)
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write figures as SVG and PNG.", show_default=False)
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Further poses in the figures; repeatable.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    r"""Compute the six degrees of freedom of a knee from the poses of its implants, with standard deviations.

    Angles and translations follow Grood and Suntay (1983), between axes from landmarks or from the meshes. The
    deviations follow from the covariances of the poses. Frames that have not converged are marked, and count neither
    in velocities nor in cycles nor in smoothing. Without an output, a summary is printed.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum kinematics registered.parquet --side right --dataset OUT \
        --frame-rate 30 --output knee.csv
    veriserum kinematics registered.parquet --axes axes.yaml --trial 3 \
        --frame-rate 30 --output knee.mot
    veriserum kinematics registered.parquet --side right --dataset OUT \
        --frame-rate 30 --smooth --cycles max_flexion --figures FOLDER
    """
    from veriserum_hf.knee import cycles_of, kinematics as compute, write_kinematics

    given = _given_axes(axes, side)
    _check_written(output, cycles_output, figures, cycles=cycles is not None, compare=bool(compare))
    rows = None if dataset is None else _rows(dataset)
    meshes = {} if rows is None else rows.meshes

    def computed(path: Path) -> "Kinematics":
        return compute(
            path if not trial else _of_trials(path, trial),
            given,
            meshes=meshes,
            frame_rate_hz=frame_rate,
            convention=convention,
            smoothed=smooth,
            all_verdicts=all_verdicts,
        )

    found = computed(poses)
    events = None if cycles is None else _events(cycles)
    cut = None if events is None else cycles_of(found.table, events, all_verdicts=all_verdicts)
    if output is not None:
        write_kinematics(output, found.table, all_verdicts=all_verdicts)
    if cycles_output is not None and cut is not None:
        write_kinematics(cycles_output, cut)
    if figures is not None:
        from veriserum_hf.knee import draw_all

        sources = {str(path): computed(path) for path in compare or []}
        draw_all(figures, {str(poses): found} | sources, meshes, _tasks(rows), events, all_verdicts=all_verdicts)
    if as_json:
        print_json(_document(found, cut))
    else:
        print_text(_summary(found).text())
        for written in filter(None, (output, cycles_output, figures)):
            print_text(f"written to {written}")


def _check_written(
    output: Path | None, cycles_output: Path | None, figures: Path | None, *, cycles: bool, compare: bool
) -> None:
    """Before anything is computed, refuse files that could not be written, or would hold nothing."""
    from veriserum_hf.knee import TABLE_SUFFIXES, check_suffix

    if output is not None:
        check_suffix(output)
    if cycles_output is not None:
        check_suffix(cycles_output, TABLE_SUFFIXES)
        if not cycles:
            raise KinematicsError("--cycles-output needs events: give --cycles min_flexion or the like")
    if figures is not None and not figures.absolute().parent.is_dir():
        raise KinematicsError(f"--figures needs a folder, or a name in a folder that exists; got {figures}")
    if compare and figures is None:
        raise KinematicsError("--compare draws poses beside the others; give --figures FOLDER")


def _given_axes(axes: Path | None, side: Side | None) -> Path | Side:
    if axes is not None and side is None:
        return axes
    if side is not None and axes is None:
        return side
    raise KinematicsError(
        "give the axes of the implants: either a file that states the side and landmarks (--axes FILE), or the side "
        "of the knee, with axes from the meshes of a data set (--side right --dataset OUT)"
    )


def _rows(dataset: str) -> "Rows[Frames]":
    from veriserum_hf.dataset import open_rows

    return open_rows(dataset, _CONFIGS, archive_px=_ARCHIVE_PX)


def _of_trials(path: Path, trials: Sequence[int]) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    from veriserum_hf.poses import read_poses

    poses = read_poses(path)
    there = poses["trial_id"].to_pylist() if "trial_id" in poses.column_names else []
    if missing := sorted(set(trials) - set(there)):
        shown = listed(sorted({id for id in there if id is not None}), 20) or "none"
        raise KinematicsError(f"{path} has no trial {listed(missing)}; it has the trials {shown}")
    return poses.filter(pc.is_in(poses["trial_id"], pa.array(trials, pa.int64())))


def _events(cycles: str) -> "Event | Mapping[int, Sequence[float]]":
    from veriserum_hf.knee import EVENTS, read_events

    for event in EVENTS:
        if cycles == event:
            return event
    if not Path(cycles).exists():
        raise KinematicsError(
            f"--cycles is {cycles}; expected {', '.join(EVENTS)} or a YAML file of times by trial id"
        )
    return read_events(Path(cycles))


def _tasks(rows: "Rows[Frames] | None") -> dict[int, str]:
    tables = [] if rows is None else [frames.table("trial_id", "task") for frames in rows.splits.values()]
    return {row["trial_id"]: row["task"] or "unknown task" for table in tables for row in table.to_pylist()}


def _document(found: "Kinematics", cycles: "pa.Table | None") -> dict[str, object]:
    """All numbers: frames as in the file, pivots by trial, and cycles."""
    about = {key.decode(): value.decode() for key, value in (found.table.schema.metadata or {}).items()}
    pivots = [{"trial_id": trial, "medial_mm": at[0], "anterior_mm": at[1]} for trial, at in found.pivots_mm.items()]
    frames = found.table.drop_columns(["convention"]).to_pylist()
    document: dict[str, object] = {"about": about, "frames": frames, "pivots": pivots}
    return document if cycles is None else document | {"cycles": cycles.to_pylist()}


def _summary(found: "Kinematics") -> Table:
    """Range of each coordinate in the frames that have converged, and its median deviation."""
    import numpy as np

    from veriserum_hf.knee import COORDINATES, counted

    good = counted(found.table["verdict"].to_pylist())
    shown = good if good.any() else np.isfinite(found.table[COORDINATES[0]].to_numpy())
    lines = []
    for name in COORDINATES:
        values, deviations = (found.table[column].to_numpy()[shown] for column in (name, f"{name}_sd"))
        known = deviations[np.isfinite(deviations)]
        deviation = f"{np.median(known):.2f}" if len(known) else "unknown"
        lines.append([name, f"{values.min():.2f}", f"{values.max():.2f}", deviation])
    return Table(
        ["", "smallest", "largest", "median SD"],
        lines,
        note=f"{shown.sum()} of {len(good)} frames{'' if good.any() else ', none of which has converged'}; "
        f"{found.axes.side} knee",
    )
