"""``veriserum convert``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriserum_hf.cli.options import (
    AllowRejects,
    Archive,
    AsJson,
    Cameras,
    SchedulerFile,
    Shards,
    ShardSize,
    White,
    Workers,
)
from veriserum_hf.cli.output import KEPT, print_json, print_text, show_progress, warn
from veriserum_hf.core import Encoding, SplitBy, Table
from veriserum_hf.jobs import dask_executor

if TYPE_CHECKING:
    from veriserum_hf.dataset import ConversionResult, Counts

_DEFAULT_CONFIGS = ["calibrated", "anatomies"]


def convert(
    archive: Archive,
    output: Annotated[Path, typer.Argument(help="Folder to create.", show_default=False)],
    config: Annotated[list[str], typer.Option(help="Configuration to write; repeatable.")] = _DEFAULT_CONFIGS,
    size: Annotated[int, typer.Option(help="Edge length of the corrected images, px.")] = 512,
    encoding: Annotated[
        Encoding, typer.Option(help="JPEG of quality 95, lossless PNG, or raw: plain TIFF.")
    ] = "jpeg",
    bits: Annotated[int, typer.Option(help="Depth of the corrected images, 8 or 16.")] = 8,
    include_obsolete: Annotated[
        bool, typer.Option("--include-obsolete", help="Also include frames that have obsolete poses only.")
    ] = False,
    anatomy_id: Annotated[
        list[int] | None, typer.Option(help="Only frames that show this implant; repeatable.")
    ] = None,
    split_by: Annotated[SplitBy, typer.Option(help="By implant: holds out tibial components.")] = "trial",
    white: White = None,
    cameras: Cameras = None,
    format: Shards = "parquet",
    shard_size: ShardSize = "500MB",
    workers: Workers = None,
    scheduler_file: SchedulerFile = None,
    allow_rejects: AllowRejects = False,
    as_json: AsJson = False,
) -> None:
    """Convert an archive to a folder that every Hugging Face tool reads.

    Run an interrupted conversion again with the same command to resume it.

    Exit status: 0 done, 2 not done, 3 done but frames were rejected (see rejected.jsonl).

    Examples
    --------
    veriserum convert ARCHIVE OUT
    veriserum convert ARCHIVE OUT --config raw --config anatomies
    veriserum convert ARCHIVE OUT --size 1024 --bits 16 --encoding png
    """
    from veriserum_hf.dataset import Options, convert_archive, parse_size

    options = Options(
        size=size,
        encoding=encoding,
        bits=bits,
        include_obsolete=include_obsolete,
        anatomy_id=anatomy_id or None,
        split_by=split_by,
        white=white,
    )
    with (
        dask_executor(scheduler_file) as executor,
        show_progress("converting", "frames", when_interrupted=KEPT) as progress,
    ):
        result = convert_archive(
            archive,
            output,
            configs=tuple(config),
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


def print_result(result: "ConversionResult", as_json: bool) -> None:
    """Print what a conversion or an import wrote, and what is to be known of it."""
    from veriserum_hf.dataset import SPECIAL, described_meshes

    if as_json:
        found = {"counts": result.counts, "empty_splits": result.empty_splits, "above_white": result.above_white}
        found |= {"rejected": result.rejected, "meshes": result.meshes, "problems": result.problems}
        print_json({"output": str(result.output)} | found)
    else:
        _print_counts(result.counts)
        print_text(f"written to {result.output}")
    for config, splits in result.empty_splits.items():
        warn(f"{config} has no frame in {' and '.join(splits)}: none of its trials is there")
    for sentence in (*described_meshes(result.meshes), *result.problems):
        warn(sentence)
    if bright := sum(map(len, result.above_white.values())):
        warn(
            f"{bright} rows have frames with more than 0.1 % of their pixels above white, which are clipped; "
            f"{result.output / 'conversion.json'} lists them. If the frames are right, state their white with --white"
        )
    if any(each in str(result.output) for each in SPECIAL):
        warn(
            f"load_dataset of Hugging Face takes {' '.join(SPECIAL)} in a path for a pattern, and finds nothing "
            "there: rename the folder before you load it with anything but this program"
        )
    if result.rejected:
        warn(f"{len(result.rejected)} rows were rejected; {result.output / 'rejected.jsonl'} states why")


def _print_counts(counts: "dict[str, Counts]") -> None:
    table = []
    for config, count in counts.items():
        rows = ", ".join(f"{split} {number}" for split, number in count["rows"].items())
        rejected = ", ".join(f"{reason} {number}" for reason, number in count["rejected"].items()) or "0"
        table.append((config, rows, rejected, count["without_pose"], count["filtered"]))
    header = ("configuration", "rows", "rejected", "without pose", "excluded")
    print_text(Table(header, table, alignment="lllr").text())
