"""How a command ends: what stops it is a message and an exit status, and never a traceback."""

import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from typer.core import TyperGroup

from veriserum_hf.cli.output import print_error, warn
from veriserum_hf.errors import VeriserumError
from veriserum_hf.jobs import exit_status, way_out

try:
    import resource
except ImportError:  # Windows
    _HAS_LIMITS = False
else:
    _HAS_LIMITS = True

_log = logging.getLogger(__name__)
_LEAST_BYTES = 1_500_000_000  # with less, native libraries abort the process where they get none
_SCARCE_BYTES = 3_000_000_000  # with more, an unknown error is a mistake of the program, and not hidden
_MEMORY = "Free memory, or use fewer --workers; a process needs up to 2 GB"
_NO_READER = 141  # 128 and the number of SIGPIPE, as a shell reports it


class Commands(TyperGroup):
    """Commands that end as `ending` says; the errors do not reach click, which has exit statuses of its own."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the arguments."""
        with ending():
            return super().make_context(*arguments, **options)

    def invoke(self, *arguments: Any) -> Any:
        """Run the command."""
        with ending():
            _check_memory()
            return super().invoke(*arguments)


@contextmanager
def ending() -> Iterator[None]:
    """End the program where the block is stopped: by an error of the user or the disk, a signal, or its reader."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except VeriserumError as error:
        _fail(error, str(error))
    except KeyboardInterrupt as interrupt:
        with suppress(OSError):
            warn("interrupted")
        sys.exit(exit_status(interrupt))
    except MemoryError as error:
        _fail(error, f"out of memory: {error or 'none left'}. {_MEMORY}{_limit()}")
    except BrokenPipeError:  # the reader, such as head, has enough
        _give_up_broken_streams()
        sys.exit(_NO_READER)
    except OSError as error:
        _give_up_broken_streams()
        _fail(error, _message(error))
    except Exception as error:
        if _limit_bytes() >= _SCARCE_BYTES:
            raise
        # With little memory, libraries fail in their own ways: they cannot be loaded, or start no thread.
        _fail(error, f"{error}. {_MEMORY}{_limit()}")


def _fail(error: BaseException, message: str) -> None:
    _log.debug("where the error arose", exc_info=error)
    with suppress(OSError):
        print_error(message)
    sys.exit(2)


def _message(error: OSError) -> str:
    where = "standard output or a file" if error.filename is None else error.filename
    if error.errno:
        reason = f"{where}: {error.strerror or error}"
        return f"{reason}; {way}" if (way := way_out(error)) else reason
    return f"{error}. {_MEMORY}{_limit()}" if _limit_bytes() < _SCARCE_BYTES else str(error)


def _check_memory() -> None:
    """Raise VeriserumError where native libraries could not work: some abort the process, some try for ever."""
    if _limit_bytes() < _LEAST_BYTES:
        raise VeriserumError(f"too little memory to begin. {_MEMORY}{_limit()}")


def _limit() -> str:
    """What the memory of this process is limited to; empty if it is not."""
    limit = _limit_bytes()
    return "" if limit == math.inf else f" (this one may use {limit / 1e9:.1f} GB: ulimit -v)"


def _limit_bytes() -> float:
    if not _HAS_LIMITS:
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _give_up_broken_streams() -> None:
    """Drop what a standard stream does not take. Python would try again at exit, and print an error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
