"""Arguments and options with the same meaning in several commands."""

from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.core import ShardFormat

Archive = Annotated[
    Path, typer.Argument(help="Folder of the download, its database, or its pose CSV.", show_default=False)
]
Dataset = Annotated[
    str, typer.Argument(help="Converted or imported folder, or a data set on the hub.", show_default=False)
]
DatasetOrArchive = Annotated[
    str, typer.Argument(help="Converted or imported folder, data set on the hub, or archive.", show_default=False)
]
Split = Annotated[str, typer.Option(help="Split: train, validation, test or all.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes; one for each core if not given.", show_default=False)
]
RegistrationWorkers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes; if not given, one for each core, or a single one where there is a GPU.",
        show_default=False,
    ),
]
SchedulerFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Use the workers of a Dask cluster: the file that its scheduler has written. Needs the extra cluster.",
        show_default=False,
    ),
]
Axes = Annotated[
    Path | None,
    typer.Option(metavar="YAML", help="Side of the knee, and landmarks of its implants.", show_default=False),
]
PosesOutput = Annotated[
    Path, typer.Option("--output", "-o", metavar="PARQUET", help="File to write.", show_default=False)
]
Cameras = Annotated[
    Path | None,
    typer.Option(
        metavar="CAMERAS.json",
        help="Refined cameras, which replace the stored ones of all trials.",
        show_default=False,
    ),
]
White = Annotated[
    int | None,
    typer.Option(
        min=255,
        max=65535,
        help="Grey level that is white in raw frames of 16 bits; decided by a sample of them if not given.",
        show_default=False,
    ),
]
Shards = Annotated[ShardFormat, typer.Option(help="Format of the shards.")]
ShardSize = Annotated[str, typer.Option(help="Approximate maximum size of a shard.")]
AllowRejects = Annotated[bool, typer.Option("--allow-rejects", help="Exit with 0 even if frames were rejected.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document, and nothing else, on standard output.")
]

# For uploads to the hub.
Repository = Annotated[str, typer.Argument(metavar="ORG/NAME", help="Repository on the hub.", show_default=False)]
Public = Annotated[bool, typer.Option("--public", help="Make the repository public; private if not given.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only list what would be uploaded; change nothing on the hub.")
]
