"""``veriserum report``: argument parsing and exit statuses; the work is done elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.cli.options import AsJson, Dataset, Split
from veriserum_hf.cli.output import say, say_json, show_progress
from veriserum_hf.errors import TrainingError


def report(
    dataset: Dataset,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="HTML", help="File to write.")],
    poses: Annotated[
        list[Path] | None,
        typer.Option(metavar="PARQUET", help="What `predict` or `register` wrote; repeatable."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Output folder of a training, or a hub name, to predict with first."),
    ] = None,
    config: Annotated[
        str, typer.Option(help="Configuration whose frames and poses to compare with: calibrated, manual or target.")
    ] = "calibrated",
    split: Split = "test",
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="PARQUET",
            help="Poses to compare with, such as an archive's truth.parquet; the data set's own if not given.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    r"""Compare poses with the labels of a data set on one page, an HTML file that needs nothing else.

    The worst frames are shown of the last file, or of the model where there is no file.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum report OUT --poses registered.parquet --output report.html
    veriserum report OUT --model RUN --poses registered.parquet \
        --labels ARCHIVE/truth.parquet --output report.html
    """
    if not poses and not model:
        raise TrainingError("no poses to compare: give --poses FILE, --model RUN, or several of them")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise TrainingError(f"--output needs a file in a folder that exists; got {output}")
    if output.suffix.lower() not in (".html", ".htm"):
        raise TrainingError(f"--output is an HTML page, such as report.html; got {output}")
    from veriserum_hf.evaluation import summarise
    from veriserum_hf.poses import read_poses
    from veriserum_hf.reports import (
        about_file,
        check_count,
        open_reference,
        predicted,
        report_page,
        save_report,
        source_names,
    )

    files = poses or []
    names = source_names([*([model] if model else []), *map(str, files)])
    check_count(len(names))
    tables = [(read_poses(path), {"poses": str(path)} | about_file(path)) for path in files]
    reference = open_reference(dataset, split, labels, config=config)
    if model:
        with show_progress("predicting", "frames") as progress:
            tables.insert(0, predicted(model, dataset, split, progress, config=config))
    sources = [reference.compare(name, table, about) for name, (table, about) in zip(names, tables, strict=True)]
    summaries = {source.name: summarise(source.errors) for source in sources}
    save_report(report_page(reference, sources, summaries), output)
    medians = ("rotation_deg", "translation_mm", "mtre_mm")
    document = {
        "output": str(output),
        "dataset": dataset,
        "config": config,
        "split": split,
        "labels": str(labels) if labels else None,
        "sources": [
            {
                "name": source.name,
                "frames": summaries[source.name]["overall"]["frames"],
                "poses": summaries[source.name]["overall"]["count"],
                "median": {metric: summaries[source.name]["overall"][metric]["median"] for metric in medians},
            }
            for source in sources
        ],
    }
    if as_json:
        say_json(document)
    else:
        compared = (f"{name} in {summaries[name]['overall']['frames']}" for name in names)
        say(f"compared with labels: {', '.join(compared)} of {len(reference.rows)} frames; written to {output}")
