"""``veriserum import``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.cli.convert import print_result
from veriserum_hf.cli.options import AllowRejects, AsJson, Cameras, SchedulerFile, Shards, ShardSize, White, Workers
from veriserum_hf.cli.output import KEPT, show_progress
from veriserum_hf.core import Encoding
from veriserum_hf.jobs import dask_executor


def import_(
    study: Annotated[
        Path, typer.Argument(help="YAML file that describes the frames, or a .cfg of Autoscoper.", show_default=False)
    ],
    output: Annotated[Path, typer.Argument(help="Folder to create.", show_default=False)],
    split: Annotated[
        str | None,
        typer.Option(
            help="Put all rows in this split: train, validation or test; by trial if not given.", show_default=False
        ),
    ] = None,
    encoding: Annotated[Encoding, typer.Option(help="Lossless PNG, JPEG of quality 95, or raw: plain TIFF.")] = "png",
    bits: Annotated[int, typer.Option(help="Depth of the images, 8 or 16.")] = 8,
    white: White = None,
    cameras: Cameras = None,
    format: Shards = "parquet",
    shard_size: ShardSize = "500MB",
    workers: Workers = None,
    scheduler_file: SchedulerFile = None,
    allow_rejects: AllowRejects = False,
    as_json: AsJson = False,
) -> None:
    """Import own frames of any laboratory to a folder as convert makes it.

    STUDY is a YAML file that names images, cameras, implants and initial poses; the page Own frames of the
    documentation lists its fields. All of it is checked before anything is written. Run an interrupted import again
    with the same command to resume it.

    Exit status: 0 done, 2 not done, 3 done but frames were rejected (see rejected.jsonl).

    Examples
    --------
    veriserum import study.yaml OUT
    veriserum import study.yaml OUT --split test --bits 16
    """
    from veriserum_hf.dataset import ImportOptions, import_study, parse_size

    options = ImportOptions(encoding=encoding, bits=bits, white=white, split=split)
    with (
        dask_executor(scheduler_file) as executor,
        show_progress("importing", "frames", when_interrupted=KEPT) as progress,
    ):
        result = import_study(
            study,
            output,
            options=options,
            cameras=cameras,
            format=format,
            shard_size_bytes=parse_size(shard_size),
            workers=workers,
            executor=executor,
            progress=progress,
        )
    print_result(result, as_json)
    sys.exit(3 if result.rejected and not allow_rejects else 0)
