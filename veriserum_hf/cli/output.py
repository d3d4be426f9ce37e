"""What commands share: printing, logging and progress."""

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from veriserum_hf.core import masked
from veriserum_hf.jobs import exit_status

if TYPE_CHECKING:
    from veriserum_hf.cli.console import VisibleConsole

KEPT = "; finished work is kept; run the same command again to resume"
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


@cache
def out() -> "VisibleConsole":
    """Standard output; text is not wrapped, and shown as it is."""
    return _console()


@cache
def err() -> "VisibleConsole":
    """Standard error, as `out`."""
    return _console(stderr=True)


def _console(stderr: bool = False) -> "VisibleConsole":
    from veriserum_hf.cli.console import VisibleConsole

    return VisibleConsole(stderr=stderr, soft_wrap=True, highlight=False, emoji=False, markup=False)


def print_text(text: str) -> None:
    """Print text on standard output."""
    out().print(text)


def print_parts(*parts: str | tuple[str, str]) -> None:
    """Print parts of one line on standard output, each text alone or with its style."""
    out().print_parts(*parts)


def print_json(document: object) -> None:
    """Print one JSON document on standard output.

    Numbers that are not finite, which JSON has not, are null; bytes of names that are not UTF-8 are escaped.
    """
    print(json.dumps(_valid(document), indent=1, allow_nan=False))


def _valid(document: object) -> object:
    if isinstance(document, str):
        return document.encode("utf-8", errors="backslashreplace").decode("utf-8")
    if isinstance(document, float):
        return document if math.isfinite(document) else None
    if isinstance(document, dict):
        return {_valid(key): _valid(value) for key, value in document.items()}
    return [_valid(value) for value in document] if isinstance(document, list | tuple) else document


def warn(text: str) -> None:
    """Print text on standard error."""
    err().print(text)


def print_error(text: str) -> None:
    """Print an error on standard error."""
    err().print_parts(("error:", "red"), f" {masked(text)}")


class _OnStandardError(logging.Handler):
    """Prints records where the progress bar is drawn, so that they appear above it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        warn(masked(self.format(record)))


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
            bar.advance(task, 0)  # the rate counts from here: there is one as soon as the first row is done
        bar.update(task, total=total, completed=done)
        if done == total:
            bar.stop()  # only one at a time can be shown

    try:
        yield advance
    except KeyboardInterrupt as interrupt:
        warn(f"interrupted{when_interrupted}")
        sys.exit(exit_status(interrupt))
    finally:
        if bar.live.is_started:
            bar.stop()
