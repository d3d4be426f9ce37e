"""``veriserum poses ...``: one file for each command."""

import typer

from veriserum_hf.cli.help import add_command, verbatim
from veriserum_hf.cli.poses.convert import convert
from veriserum_hf.cli.poses.move import move

_EXAMPLES = """\
veriserum poses convert registered.parquet registered.csv
veriserum poses move registered.parquet OUT --cameras C.json -o new.parquet
veriserum poses convert --help"""

app = typer.Typer(
    help="Files of poses.\n\nExit status: 0 done, 2 not done.",
    short_help="Files of poses.",
    epilog=verbatim("Examples:", _EXAMPLES),
    no_args_is_help=True,
    rich_markup_mode=None,
)
add_command(app, convert)
add_command(app, move)
