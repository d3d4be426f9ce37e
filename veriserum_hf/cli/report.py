"""``veriserum report``: arguments and exit statuses; the work is done in `reports`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.options import AsJson, Axes, Dataset, Split
from veriserum_hf.cli.output import print_json, print_text, show_progress, warn
from veriserum_hf.core import Side
from veriserum_hf.errors import KinematicsError, TrainingError

if TYPE_CHECKING:
    from veriserum_hf.evaluation import Metric
    from veriserum_hf.reports import PoseSource, Reference

_METRICS: "tuple[Metric, ...]" = ("rotation_deg", "translation_mm", "mtre_mm")


def report(
    dataset: Dataset,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="HTML", help="File to write.")],
    poses: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Parquet or CSV of poses, as `predict` or `register` write; repeatable."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Output folder of a training, released checkpoint, or model on the hub, to predict poses with.",
        ),
    ] = None,
    config: Annotated[
        str, typer.Option(help="Configuration of the frames and labels: calibrated, manual or target.")
    ] = "calibrated",
    split: Split = "test",
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="PARQUET",
            help="Poses to compare with, such as an archive's truth.parquet; those of the data set if not given.",
        ),
    ] = None,
    axes: Axes = None,
    side: Annotated[
        Side | None,
        typer.Option(
            help="Instead: side of the knee, with axes from the meshes; signs of a right one if not given.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    r"""Compare poses with the labels of a data set in one self-contained HTML page.

    It shows errors, limits of agreement, and the six degrees of freedom of the knee in every trial, with bands. The
    frames with the largest errors are shown for the last file, or for the model if no file is given. Any two
    files with poses of the same frames are compared with each other too: where one observer or two observers matched
    both by hand, that is the intra- or inter-observer repeatability.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum report OUT --poses registered.parquet --output report.html
    veriserum report OUT --model RUN --poses registered.parquet \
        --labels ARCHIVE/truth.parquet --output report.html
    veriserum report OUT --poses first.parquet --poses second.parquet \
        --output report.html
    """
    if not poses and not model:
        raise TrainingError("no poses to compare: give --poses FILE, --model RUN, or several of them")
    _check_output(output)
    if axes is not None and side is not None:
        raise KinematicsError(f"--side {side} and --axes {axes} both state the side of the knee; give one of them")
    from veriserum_hf.evaluation import summarise
    from veriserum_hf.knee import read_axes
    from veriserum_hf.reports import joint_of, label_agreements, report_page, save_report, source_agreements

    of_knee = side if axes is None else read_axes(axes)
    reference, sources = _compared(dataset, config, split, labels, poses or [], model)
    summaries = {source.name: summarise(source.errors) for source in sources}
    joint = joint_of([source.estimates for source in sources], reference.meshes, of_knee)
    against_labels = label_agreements(reference, sources, joint)
    agreements = source_agreements(reference, sources, joint)
    save_report(report_page(reference, sources, summaries, joint, against_labels, agreements), output)
    overall = {name: summary["overall"] for name, summary in summaries.items()}
    overlaps = {source.name: source.overlap for source in sources}
    for name, overlap in overlaps.items():
        if overlap and overlap["training_trials"] != 0:
            warn(f"{name}: {overlap['statement']}")
    if as_json:
        given = {"dataset": dataset, "config": config, "split": split, "labels": str(labels) if labels else None}
        found = []
        for (name, group), each in zip(overall.items(), against_labels, strict=True):
            medians = {metric: group[metric]["median"] for metric in _METRICS}
            entry = {"name": name, "frames": group["frames"], "poses": group["count"], "median": medians}
            found.append(entry | {"training_overlap": overlaps[name], "agreement": each.agreement})
        pairs = [each.document() for each in agreements]
        print_json({"output": str(output), **given, "sources": found, "agreements": pairs})
    else:
        compared = (f"{name} in {group['frames']}" for name, group in overall.items())
        print_text(
            f"compared with {reference.kind}s: {', '.join(compared)} of {len(reference.rows)} frames; written to "
            f"{output}"
        )


def _check_output(output: Path) -> None:
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise TrainingError(f"--output needs a file in a folder that exists; got {output}")
    if output.suffix.lower() not in (".html", ".htm"):
        raise TrainingError(f"--output is an HTML page, such as report.html; got {output}")


def _compared(
    dataset: str, config: str, split: str, labels: Path | None, files: Sequence[Path], model: str | None
) -> "tuple[Reference, list[PoseSource]]":
    """Labels, and the poses of the model and of each file compared with them."""
    from veriserum_hf.poses import read_poses
    from veriserum_hf.reports import about_file, check_count, open_reference, predicted, source_names

    names = source_names([*([model] if model else []), *map(str, files)])
    check_count(len(names))
    tables = [(read_poses(path), {"poses": str(path)} | about_file(path)) for path in files]
    reference = open_reference(dataset, split, labels, config=config)
    if model:
        with show_progress("predicting", "frames") as progress:
            tables.insert(0, predicted(model, dataset, split, progress, config=config))
    return reference, [
        reference.compare(name, table, about) for name, (table, about) in zip(names, tables, strict=True)
    ]
