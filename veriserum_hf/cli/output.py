"""What commands share: printing, logging and progress."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

KEPT = "; finished work is kept; run the same command again to resume"
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


@cache
def out() -> "Console":
    """Standard output; text is not wrapped, and only markup is coloured."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False, emoji=False)


@cache
def err() -> "Console":
    """Standard error, as `out`."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def print_text(text: str) -> None:
    """Print text unchanged on standard output."""
    out().print(text, markup=False)


def print_json(document: object) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(document, indent=1))


def warn(text: str) -> None:
    """Print text unchanged on standard error."""
    err().print(text, markup=False)


def print_error(text: str) -> None:
    """Print an error on standard error."""
    from rich.markup import escape

    err().print(f"[red]error:[/red] {escape(text)}")


class _OnStandardError(logging.Handler):
    """Prints records where the progress bar is drawn, so that they appear above it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        warn(self.format(record))


def show_log(verbose: int) -> None:
    """Let the package log to standard error: warnings; information from 1 on, everything from 2 on."""
    handler = _OnStandardError()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("veriserum_hf")
    logger.setLevel(_LEVELS[min(verbose, len(_LEVELS) - 1)])
    logger.handlers[:] = [handler]


@contextmanager
def show_progress(what: str, unit: str, when_interrupted: str = "") -> Iterator[Callable[[int, int], None]]:
    """Progress bar on standard error, shown from the first count on."""
    from veriserum_hf.cli.progress import new_bar

    bar = new_bar(what, unit, err())
    task = bar.add_task(what, total=None)

    def advance(done: int, total: int) -> None:
        if not bar.live.is_started:
            bar.start()
            bar.reset(task, total=total, completed=done)  # rows of an earlier run do not count towards the speed
        bar.update(task, total=total, completed=done)
        if done == total:
            bar.stop()  # only one at a time can be shown

    try:
        yield advance
    except KeyboardInterrupt:
        warn(f"interrupted{when_interrupted}")
        sys.exit(130)
    finally:
        if bar.live.is_started:
            bar.stop()
