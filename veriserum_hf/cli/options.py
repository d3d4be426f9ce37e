"""Arguments and options that mean the same in every command."""

from pathlib import Path
from typing import Annotated

import typer

Archive = Annotated[
    Path, typer.Argument(help="Folder of the download, its database, or its pose CSV.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")]
