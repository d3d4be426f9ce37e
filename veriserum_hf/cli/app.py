"""``veriserum``: its commands, and how their errors are reported."""

import io
import logging
import os
import platform
import sys
from typing import Annotated

import typer

from veriserum_hf.cli.audit import audit
from veriserum_hf.cli.calibrate import app as calibrate_app
from veriserum_hf.cli.check_labels import check_labels
from veriserum_hf.cli.convert import convert
from veriserum_hf.cli.help import add_command, verbatim
from veriserum_hf.cli.output import print_error, show_log
from veriserum_hf.cli.predict import predict
from veriserum_hf.cli.push_dataset import push_dataset
from veriserum_hf.cli.push_model import push_model
from veriserum_hf.cli.register import register
from veriserum_hf.cli.report import report
from veriserum_hf.cli.show import show
from veriserum_hf.cli.simulate import simulate
from veriserum_hf.cli.train import train
from veriserum_hf.core import __version__
from veriserum_hf.errors import VeriserumError

_log = logging.getLogger(__name__)
_EXAMPLES = """\
veriserum simulate ARCHIVE --trials 4
veriserum convert ARCHIVE OUT
veriserum show OUT
veriserum register --help"""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # slower to load than the rest of the help, and it does not fill paragraphs
    context_settings={"max_content_width": 120},
)
# In the order of --help, which lists groups last.
add_command(app, audit)
add_command(app, convert)
add_command(app, simulate)
# The settings of a training are its options: they are read where they are defined.
add_command(app, train, allow_extra_args=True, ignore_unknown_options=True)
add_command(app, show)
add_command(app, predict)
add_command(app, register)
add_command(app, check_labels)
add_command(app, report)
add_command(app, push_dataset)
add_command(app, push_model)
app.add_typer(calibrate_app, name="calibrate")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"veriserum {__version__}")
        raise typer.Exit


@app.callback(epilog=verbatim("Examples:", _EXAMPLES))
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            metavar="",
            help="Before the command: log more to standard error; -vv also logs details and tracebacks.",
        ),
    ] = 0,
) -> None:
    """Veriserum, dual-plane fluoroscopy of knee implants, as Hugging Face datasets.

    Exit status: 0 done, 1 done and problems found, 2 not done, 3 done but not for every frame or pose, 130
    interrupted. The help of each command lists its own.
    """
    show_log(verbose)
    _log.info("veriserum %s, Python %s, %s", __version__, platform.python_version(), " ".join(sys.argv[1:]))


def main() -> None:
    """Run the command line; an error that the user can correct is one message and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal's encoding lacks is shown as its escape
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except VeriserumError as error:
        _log.debug("where the error arose", exc_info=error)
        print_error(str(error))
        sys.exit(2)
    except BrokenPipeError:
        # The reader, such as head, has closed the pipe. Python would flush again at exit, and print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
