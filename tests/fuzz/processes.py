"""Each case in a process of its own, with limits on time and memory, forked from one that has imported everything.

The parent has no threads of its own: what is forked from it is whole.
"""

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

LIMIT_S, LIMIT_MB = 25.0, 1500.0
_ADDRESSES_MB = 12_000  # beyond those of the parent: so that a mistake cannot take the whole machine
_LOOKED_EVERY_S = 0.03


class Ended(NamedTuple):
    """How a process ended; ``result`` is what its work returned, if it came to that."""

    key: Any
    result: Any
    signal: int
    hung: bool
    wall_s: float
    cpu_s: float
    peak_mb: float
    failed: str  # what the work itself raised


@dataclass
class _Child:
    pid: int
    key: Any
    answer: Path
    log: Path
    started: float
    peak_mb: float = 0.0
    hung: bool = False
    killed: bool = False

    def look(self, limit_s: float, limit_mb: float) -> None:
        """Measure, and kill beyond a limit."""
        self.peak_mb = max(self.peak_mb, _resident_mb(self.pid))
        busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # other programs take part of its time
        self.hung = self.hung or time.monotonic() - self.started > limit_s * busy
        if (self.hung or self.peak_mb > limit_mb) and not self.killed:
            self.end()

    def end(self) -> None:
        """Kill it and whatever it has started."""
        self.killed = True
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):  # its group may not be there yet
            os.kill(self.pid, signal.SIGKILL)


def each_forked(
    keys: Iterable[Any],
    work: Callable[[Any], Any],
    folder: Path,
    *,
    at_once: int = 2,
    limit_s: float = LIMIT_S,
    limit_mb: float = LIMIT_MB,
) -> Iterator[Ended]:
    """Do the work of each key in a process of its own; yields how each ended, in the order of their ends.

    Parameters
    ----------
    keys, work : ``work(key)`` returns what JSON can hold.
    folder : for the answers of the processes.
    limit_s, limit_mb : wall-clock time; resident memory with that of processes that it starts.

    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting, running, number = iter(keys), [], 0
    try:
        while True:
            while len(running) < at_once and (key := next(waiting, None)) is not None:
                number += 1
                running.append(_start(key, work, folder / f"answer{os.getpid()}_{number}"))
            if not running:
                return
            for child in list(running):
                child.look(limit_s, limit_mb)
                pid, status, used = os.wait4(child.pid, os.WNOHANG)
                if pid:
                    running.remove(child)
                    yield _ended(child, status, used.ru_utime + used.ru_stime)
            time.sleep(_LOOKED_EVERY_S)
    finally:
        for child in running:
            child.end()
            os.waitpid(child.pid, 0)


def _start(key: Any, work: Callable[[Any], Any], answer: Path) -> _Child:
    log = answer.with_suffix(".log")
    pid = os.fork()
    if pid:
        return _Child(pid, key, answer, log, time.monotonic())
    status = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        here = pages * resource.getpagesize() + _ADDRESSES_MB * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (here, here))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        answer.write_text(json.dumps(work(key)))
        status = 0
    finally:
        if status:
            import traceback

            with log.open("a") as file:
                traceback.print_exc(file=file)
        os._exit(status)  # nothing of the parent is to be flushed or closed here


def _ended(child: _Child, status: int, cpu_s: float) -> Ended:
    wall_s = time.monotonic() - child.started
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # what it has left running
    result = None
    if child.answer.exists():
        with suppress(ValueError):
            result = json.loads(child.answer.read_text())
        child.answer.unlink()
    log = child.log.read_text(errors="replace") if child.log.exists() else ""
    child.log.unlink(missing_ok=True)
    failed = log[-3000:] if os.WIFEXITED(status) and os.WEXITSTATUS(status) else ""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return Ended(child.key, result, number, child.hung, wall_s, cpu_s, child.peak_mb, failed)


def _resident_mb(pid: int) -> float:
    """Resident memory of a process and all that it has started; pages that they share count once."""
    found_mb = _summed_mb(pid, "statm", lambda text: int(text.split()[1]) * resource.getpagesize())
    if found_mb < LIMIT_MB:  # often, and cheaply
        return found_mb
    return _summed_mb(pid, "smaps_rollup", lambda text: 1024 * int(text.split("\nPss:")[1].split()[0]))


def _summed_mb(pid: int, file: str, bytes_of: Callable[[str], int]) -> float:
    total, waiting = 0, [pid]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        with suppress(OSError):  # it has ended
            total += bytes_of((process / file).read_text())
            waiting += map(int, (process / f"task/{process.name}/children").read_text().split())
    return total / 1e6
