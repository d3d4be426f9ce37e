"""``veriserum convert``."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from veriserum_hf.cli.options import Archive, AsJson
from veriserum_hf.cli.output import err, out, show_progress
from veriserum_hf.core import Encoding, ShardFormat, SplitBy

_DEFAULT_CONFIGS = ["calibrated", "anatomies"]


def convert(
    archive: Archive,
    output: Annotated[Path, typer.Argument(help="Folder to make.", show_default=False)],
    config: Annotated[list[str], typer.Option(help="Configuration to write; repeatable.")] = _DEFAULT_CONFIGS,
    size: Annotated[int, typer.Option(help="Edge of the corrected images, px.")] = 512,
    encoding: Annotated[
        Encoding, typer.Option(help="JPEG of quality 95, lossless PNG, or raw: plain TIFF.")
    ] = "jpeg",
    bits: Annotated[int, typer.Option(help="Depth of the corrected images, 8 or 16.")] = 8,
    include_obsolete: Annotated[
        bool, typer.Option("--include-obsolete", help="Also frames with obsolete poses only.")
    ] = False,
    anatomy_id: Annotated[
        list[int] | None, typer.Option(help="Only frames that show this implant; repeatable.")
    ] = None,
    split_by: Annotated[SplitBy, typer.Option(help="By implant holds tibial components out.")] = "trial",
    format: Annotated[ShardFormat, typer.Option(help="Format of the shards.")] = "parquet",
    shard_size: Annotated[str, typer.Option(help="Size that no shard exceeds by much.")] = "500MB",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one a core if not given.", show_default=False)
    ] = None,
    allow_rejects: Annotated[
        bool, typer.Option("--allow-rejects", help="Exit with 0 though frames were rejected.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Convert an archive to a folder that every Hugging Face tool reads.

    An interrupted conversion goes on with the same command.

    Exit status: 0 done, 2 not done, 3 done but frames were rejected (see rejected.jsonl).
    """
    from veriserum_hf.dataset import Options, convert_archive, parse_size

    options = Options(
        size=size,
        encoding=encoding,
        bits=bits,
        include_obsolete=include_obsolete,
        anatomy_id=anatomy_id or None,
        split_by=split_by,
    )
    kept = "; what is finished is kept, the same command goes on from there"
    with show_progress("converting", "frames", when_interrupted=kept) as progress:
        result = convert_archive(
            archive,
            output,
            configs=tuple(config),
            options=options,
            format=format,
            shard_size_bytes=parse_size(shard_size),
            workers=workers,
            progress=progress,
        )
    if as_json:
        print(
            json.dumps({"output": str(result.output), "counts": result.counts, "rejected": result.rejected}, indent=1)
        )
    else:
        _print_counts(result.counts)
        out.print(f"written to {result.output}", soft_wrap=True, highlight=False)
    if result.rejected:
        err.print(
            f"{len(result.rejected)} rows were rejected; {result.output / 'rejected.jsonl'} says why",
            soft_wrap=True,
        )
    sys.exit(3 if result.rejected and not allow_rejects else 0)


def _print_counts(counts: dict[str, dict[str, Any]]) -> None:
    table = Table(
        "configuration", "rows", "rejected", "without pose", "left out", box=None, header_style="bold", pad_edge=False
    )
    for config, count in counts.items():
        rows = ", ".join(f"{split} {number}" for split, number in count["rows"].items())
        rejected = ", ".join(f"{reason} {number}" for reason, number in count["rejected"].items()) or "0"
        table.add_row(config, rows, rejected, str(count["without_pose"]), str(count["filtered"]))
    out.print(table)
