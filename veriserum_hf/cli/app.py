"""``veriserum``: its commands."""

import io
import logging
import os
import platform
import sys
from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.cli.audit import audit
from veriserum_hf.cli.calibrate import app as calibrate_app
from veriserum_hf.cli.check_labels import check_labels
from veriserum_hf.cli.convert import convert
from veriserum_hf.cli.ending import Commands
from veriserum_hf.cli.export_onnx import export_onnx
from veriserum_hf.cli.help import add_command, verbatim
from veriserum_hf.cli.import_ import import_
from veriserum_hf.cli.kinematics import kinematics
from veriserum_hf.cli.match import match
from veriserum_hf.cli.output import show_log
from veriserum_hf.cli.poses import app as poses_app
from veriserum_hf.cli.predict import predict
from veriserum_hf.cli.push_dataset import push_dataset
from veriserum_hf.cli.push_model import push_model
from veriserum_hf.cli.refine_cameras import refine_cameras
from veriserum_hf.cli.register import register
from veriserum_hf.cli.report import report
from veriserum_hf.cli.show import show
from veriserum_hf.cli.simulate import simulate
from veriserum_hf.cli.train import train
from veriserum_hf.cli.use import use
from veriserum_hf.core import __version__
from veriserum_hf.jobs import heed_signals

_log = logging.getLogger(__name__)
_EXAMPLES = """\
veriserum simulate ARCHIVE --trials 4
veriserum convert ARCHIVE OUT
veriserum show OUT
veriserum register --help"""

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # slower to load than the rest of the help, and it does not fill paragraphs
    context_settings={"max_content_width": 120},
)
# In the order of --help, which lists groups last.
add_command(app, audit)
add_command(app, use)
add_command(app, convert)
add_command(app, import_)
add_command(app, simulate)
# The settings of a training are its options: they are read where they are defined.
add_command(app, train, allow_extra_args=True, ignore_unknown_options=True)
add_command(app, show)
add_command(app, predict)
add_command(app, export_onnx)
add_command(app, register)
add_command(app, check_labels)
add_command(app, refine_cameras)
add_command(app, match)
add_command(app, kinematics)
add_command(app, report)
add_command(app, push_dataset)
add_command(app, push_model)
app.add_typer(calibrate_app, name="calibrate")
app.add_typer(poses_app, name="poses")


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

    Exit status: 0 done, 1 done and problems found, 2 not done, 3 done but not for every frame or pose; 128 and the
    number of a signal: interrupted (130: Ctrl-C). The help of each command lists its own.
    """
    show_log(verbose)
    _log.info("veriserum %s, Python %s, %s", __version__, platform.python_version(), " ".join(sys.argv[1:]))


def main() -> None:
    """Run the command line; an error that the user can correct is one message and exit status 2."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started the program
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the program ends
        elif isinstance(stream, io.TextIOWrapper):  # what the terminal's encoding lacks is shown as its escape
            stream.reconfigure(errors="backslashreplace")
    with heed_signals():
        app()
