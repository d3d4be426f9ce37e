"""Arguments and options that mean the same in several commands."""

from pathlib import Path
from typing import Annotated

import typer

Archive = Annotated[
    Path, typer.Argument(help="Folder of the download, its database, or its pose CSV.", show_default=False)
]
Dataset = Annotated[str, typer.Argument(help="Converted folder, or a data set on the hub.", show_default=False)]
DatasetOrArchive = Annotated[
    str, typer.Argument(help="Converted folder, data set on the hub, or archive.", show_default=False)
]
Split = Annotated[str, typer.Option(help="Split: train, validation, test or all.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; one a core if not given.", show_default=False)]
RegistrationWorkers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes; if not given, one a core, or one alone where there is a GPU, which they would share.",
        show_default=False,
    ),
]
PosesOutput = Annotated[
    Path, typer.Option("--output", "-o", metavar="PARQUET", help="File to write.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")]

# Of what goes to the hub.
Repository = Annotated[str, typer.Argument(metavar="ORG/NAME", help="Repository on the hub.", show_default=False)]
Public = Annotated[bool, typer.Option("--public", help="For everybody; private if not given.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only list what would go; change nothing on the hub.")]
