"""The console that every command prints on."""

from typing import Any

from rich.console import Console
from rich.text import Text

from veriserum_hf.core import visible


class VisibleConsole(Console):
    """A console that shows control characters instead of obeying them, wherever a text comes from."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as Console does."""
        super().print(*(visible(each) if isinstance(each, str) else each for each in objects), **options)

    def print_parts(self, *parts: str | tuple[str, str]) -> None:
        """Print parts of one line, each text alone or with its style; nothing in a text is taken for markup."""
        shown = (visible(part) if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts)
        super().print(Text.assemble(*shown))

    def on_broken_pipe(self) -> None:
        """Leave it to who ends the program; rich ends it with 1."""
        raise  # noqa: PLE0704 - the error that rich is handling
