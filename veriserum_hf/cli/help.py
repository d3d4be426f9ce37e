"""Help of the commands: their docstrings, with the examples last."""

from collections.abc import Callable
from inspect import getdoc

import typer

_HEADING = "\n\nExamples\n--------\n"


def add_command(app: typer.Typer, command: Callable[..., None], **context: bool) -> None:
    """Add a command under the name of its function; the Examples of its docstring end its help, verbatim.

    ``context`` are settings of its click context.
    """
    text, _, examples = (getdoc(command) or "").partition(_HEADING)
    summary = text.partition("\n\n")[0].replace("\n", " ")
    name = command.__name__.rstrip("_").replace("_", "-")  # of a word that Python keeps for itself, import_
    epilog = verbatim("Examples:", examples)
    app.command(name, help=text, short_help=summary, epilog=epilog, context_settings=context)(command)


def verbatim(title: str, lines: str) -> str:
    """Part of a help text whose line breaks are kept."""
    return "\n".join(["\b", title, *(f"  {line}" for line in lines.splitlines())])
