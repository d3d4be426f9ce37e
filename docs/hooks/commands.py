"""The page of the command line: what `--help` prints, of every command."""

from collections.abc import Iterator

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.core import TyperCommand, TyperGroup

from veriserum_hf.cli.app import app

_COLUMNS = 88
_INTRODUCTION = """\
# Commands

What `veriserum COMMAND --help` prints. Progress and messages go to standard error, results to standard output.
[Errors and exit statuses](errors.md) says what a status means.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Write the page."""
    files.append(File.generated(config, "commands.md", content=page()))
    return files


def commands() -> Iterator[tuple[str, TyperCommand]]:
    """Every command with its whole name."""

    def below(name: str, command: TyperCommand | TyperGroup) -> Iterator[tuple[str, TyperCommand]]:
        if not isinstance(command, TyperGroup):
            yield name, command
            return
        for part, sub in command.commands.items():
            yield from below(f"{name} {part}", sub)

    return below("veriserum", typer.main.get_command(app))


def page() -> str:
    """Headings by command, each above its help without colours and frames."""
    text = _INTRODUCTION
    for name, command in commands():
        command.rich_markup_mode = None
        context = typer.Context(command, info_name=name, terminal_width=_COLUMNS, max_content_width=_COLUMNS)
        text += f"\n## {name}\n\n```text\n{command.get_help(context)}\n```\n"
    return text
