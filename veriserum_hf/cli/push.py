"""``veriserum push-...``: argument parsing and exit statuses; the work is done elsewhere."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.options import AsJson
from veriserum_hf.cli.output import err, say, show_progress

if TYPE_CHECKING:
    from veriserum_hf.hub import Pushed

Repository = Annotated[str, typer.Argument(metavar="ORG/NAME", help="Repository on the hub.", show_default=False)]
Public = Annotated[bool, typer.Option("--public", help="For everybody; private if not given.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only list what would go; change nothing on the hub.")]
_WHEN_INTERRUPTED = "; what is uploaded is kept, the same command goes on from there"


def push_dataset(
    folder: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder that `veriserum convert` made.", show_default=False)
    ],
    repository: Repository,
    version: Annotated[
        str | None, typer.Option(help="Tag; the version of the rows' layout if not given.", show_default=False)
    ] = None,
    public: Public = False,
    accept_data_licence: Annotated[
        bool,
        typer.Option("--accept-data-licence", help="You know the images' terms, and may publish them."),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Push a converted data set to the hub.

    An interrupted push goes on with the same command; what is there already is not uploaded again. Where an earlier
    version is there, main mixes both until the last commit: load the tag.

    Exit status: 0 done, 2 not done.
    """
    from veriserum_hf.dataset import VERSION
    from veriserum_hf.hub import ConvertedFolder, push_dataset as push, what_stays

    if stays := what_stays(ConvertedFolder.open(folder)):
        err.print(stays, soft_wrap=True, highlight=False, markup=False)
    with show_progress("uploading", "files", when_interrupted=_WHEN_INTERRUPTED) as progress:
        pushed = push(
            folder,
            repository,
            version=version or VERSION,
            public=public,
            accept_data_licence=accept_data_licence,
            dry_run=dry_run,
            progress=progress,
        )
    print_pushed(pushed, version or VERSION, dry_run=dry_run, as_json=as_json)


def push_model(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Output folder of a training.", show_default=False)],
    repository: Repository,
    evaluation: Annotated[
        Path | None,
        typer.Option(help="evaluation.json for the card, or its folder; RUN/evaluation.json if not given and there."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Tag; 1.0.0 if not given. A changed model needs another.", show_default=False)
    ] = None,
    public: Public = False,
    accept_data_licence: Annotated[
        bool,
        typer.Option(
            "--accept-data-licence", help="With --public: you know the terms of the images that it learned from."
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Push the best checkpoint of a run to the hub, with its own code and a card filled from the run.

    An interrupted push goes on with the same command; what is there already is not uploaded again.

    Exit status: 0 done, 2 not done.
    """
    from transformers.utils.logging import disable_progress_bar

    from veriserum_hf.hub import VERSION, push_model as push

    disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]
    with show_progress("uploading", "files", when_interrupted=_WHEN_INTERRUPTED) as progress:
        pushed = push(
            run,
            repository,
            evaluation=evaluation,
            version=version or VERSION,
            public=public,
            accept_data_licence=accept_data_licence,
            dry_run=dry_run,
            progress=progress,
        )
    print_pushed(pushed, version or VERSION, dry_run=dry_run, as_json=as_json)


def print_pushed(pushed: "Pushed", version: str, *, dry_run: bool, as_json: bool) -> None:
    """Print what a push did, or would do."""
    if as_json:
        print(json.dumps(asdict(pushed) | {"version": version, "dry_run": dry_run}, indent=1))
        return
    if dry_run:
        for path in pushed.uploaded:
            say(path)
    done = "would be uploaded" if dry_run else "uploaded"
    counts = f"{len(pushed.uploaded)} files {done}, {len(pushed.already_there)} were there"
    say(f"{counts}: {pushed.url}, version {version}")
