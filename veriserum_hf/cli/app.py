"""``veriserum``: its commands, and what becomes of their errors."""

import sys

import typer
from rich.markup import escape

from veriserum_hf.cli.audit import audit
from veriserum_hf.cli.calibrate import app as calibrate_app
from veriserum_hf.cli.convert import convert
from veriserum_hf.cli.output import err
from veriserum_hf.cli.predict import predict
from veriserum_hf.cli.push import push_dataset, push_model
from veriserum_hf.cli.register import check_labels, register
from veriserum_hf.cli.report import report
from veriserum_hf.cli.show import show
from veriserum_hf.cli.simulate import simulate
from veriserum_hf.errors import VeriserumError

app = typer.Typer(
    help="Veriserum, dual-plane fluoroscopy of knee implants, as Hugging Face datasets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# In the order of --help.
app.command()(audit)
app.command()(convert)
app.command()(simulate)
app.add_typer(calibrate_app, name="calibrate")
app.command()(show)
app.command()(predict)
app.command()(register)
app.command("check-labels")(check_labels)
app.command()(report)
app.command("push-dataset")(push_dataset)
app.command("push-model")(push_model)


def main() -> None:
    """Run the command line; what a user can mend is one message and exit status 2."""
    try:
        app()
    except VeriserumError as error:
        err.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("interrupted; what is finished is kept, the same command goes on from there")
        sys.exit(130)
