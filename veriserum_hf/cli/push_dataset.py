"""``veriserum push-dataset``."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.cli.options import AsJson, DryRun, Public, Repository
from veriserum_hf.cli.output import warn
from veriserum_hf.cli.push import push_with_progress
from veriserum_hf.core import listed


def push_dataset(
    folder: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder that `veriserum convert` made.", show_default=False)
    ],
    repository: Repository,
    poses: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Parquet or CSV of poses that `veriserum match` wrote, pushed as the configuration matched; "
            "repeatable, for several observers.",
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Tag; the version of the row schema if not given.", show_default=False)
    ] = None,
    public: Public = False,
    accept_data_licence: Annotated[
        bool,
        typer.Option("--accept-data-licence", help="You know the terms of the images, and may publish them."),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Push a converted data set to the hub.

    Run an interrupted push again with the same command to resume it: files on the hub are not uploaded again. If the
    repository has an earlier version, main contains files of both until the last commit: load the tag. With --poses,
    the names of those who matched them are pushed too.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum push-dataset OUT my-lab/veriserum --dry-run
    veriserum push-dataset OUT my-lab/veriserum --poses manual.parquet
    """
    from veriserum_hf.dataset import ROWS_VERSION
    from veriserum_hf.hub import ConvertedFolder, MatchedPoses, push_dataset as push, what_stays

    if stays := what_stays(ConvertedFolder.open(folder)):
        warn(stays)
    matched = MatchedPoses.read(poses, folder) if poses else None
    if matched is not None:
        warn(f"{len(matched.table)} poses are pushed with the name of who matched them: {listed(matched.observers)}")
    do = partial(push, folder, repository, poses=matched, public=public, accept_data_licence=accept_data_licence)
    push_with_progress(do, version or ROWS_VERSION, dry_run=dry_run, as_json=as_json)
