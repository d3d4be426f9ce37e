"""Signals that end a program in an orderly way: an interrupt by the user, or what a cluster and a terminal send."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """An interrupt by a signal, whose number is its only argument."""


@contextmanager
def heed_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt this process in the block, as SIGINT does.

    A signal that this process was started to ignore, as ``nohup`` does, stays ignored. Only a process's main thread
    receives signals; in another one nothing is changed.
    """
    heeded = []
    with suppress(ValueError):  # not the main thread
        for number in SIGNALS:
            if number != signal.SIGINT and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _stop)
                heeded.append(number)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)


def exit_status(interrupt: KeyboardInterrupt) -> int:
    """128 and the number of the signal, as a shell reports it."""
    return 128 + int(interrupt.args[0] if isinstance(interrupt, Stopped) else signal.SIGINT)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)
