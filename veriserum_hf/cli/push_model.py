"""``veriserum push-model``."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.cli.options import AsJson, DryRun, Public, Repository
from veriserum_hf.cli.push import push_with_progress


def push_model(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Output folder of a training.", show_default=False)],
    repository: Repository,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            help="evaluation.json for the card, or its folder; RUN/evaluation.json, if it exists, if not given."
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Tag; 1.0.0 if not given. A changed model needs another.", show_default=False)
    ] = None,
    public: Public = False,
    accept_data_licence: Annotated[
        bool,
        typer.Option("--accept-data-licence", help="With --public: you know the terms of the training images."),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Push the best checkpoint of a run to the hub, with its code and a card filled from the run.

    Run an interrupted push again with the same command to resume it: files on the hub are not uploaded again.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum push-model RUN my-lab/veriserum-pose --dry-run
    veriserum push-model RUN my-lab/veriserum-pose --evaluation REPORT
    """
    from veriserum_hf.hub import MODEL_VERSION, push_model as push

    do = partial(push, run, repository, evaluation=evaluation, public=public, accept_data_licence=accept_data_licence)
    push_with_progress(do, version or MODEL_VERSION, dry_run=dry_run, as_json=as_json)
