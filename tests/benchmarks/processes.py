"""Commands that are measured in processes of their own, and the watch over them.

``python -m tests.benchmarks.processes export ARCHIVE OUT WORKERS SHARD_BYTES`` and
``... load DATABASE streaming|prepared`` print the seconds that the call took.
"""

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Container, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

_ROOT = Path(__file__).parents[2]
_SAMPLED_EVERY_S = 0.02


class _Memory(NamedTuple):
    """Peak resident memory of a process so far, and what it holds now without pages of files."""

    peak_mb: float
    held_mb: float

    def most(self, other: "_Memory") -> "_Memory":
        """Return the larger of each."""
        return _Memory(*map(max, self, other))


class Watched(NamedTuple):
    """What a command printed, how long it took, and its peak resident memory: its own and its largest child's.

    ``cpu_s`` is that of the command and its children. ``held_mb`` is the peak of a command or child without the
    pages of files that it maps, which the system takes back when it needs the memory.
    """

    output: str
    wall_s: float
    peak_mb: float
    worker_peak_mb: float
    cpu_s: float
    held_mb: float


def run_watched(*command: str, cache: Path, statuses: Container[int] = (0,)) -> Watched:
    """Run a command from the repository's root, with ``cache`` for datasets, and watch it and its workers.

    RuntimeError if it ends with another status than these. Linux hands the peak in ``ru_maxrss`` down from parent to
    child; ``VmHWM`` is reset with each program.
    """
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(cache),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    started, cpu_before_s = time.perf_counter(), _children_cpu_s()
    own, workers = _Memory(0.0, 0.0), _Memory(0.0, 0.0)
    with subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            own = own.most(_memory(process.pid))
            for child in _children(process.pid):
                workers = workers.most(_memory(child))
            time.sleep(_SAMPLED_EVERY_S)
        wall_s = time.perf_counter() - started
        output = process.stdout.read() if process.stdout else ""
    if process.returncode not in statuses:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {output[-500:]}")
    held_mb = max(own.held_mb, workers.held_mb)
    return Watched(output, wall_s, own.peak_mb, workers.peak_mb, _children_cpu_s() - cpu_before_s, held_mb)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _memory(pid: int) -> _Memory:
    """Memory of a process; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return _Memory(0.0, 0.0)
    kib = {name: int(number) for name, number in re.findall(r"^(VmHWM|Rss\w+):\s+(\d+)", status, re.MULTILINE)}
    peak, *held = (kib.get(name, 0) * 1024 / 1e6 for name in ("VmHWM", "RssAnon", "RssShmem"))
    return _Memory(peak, sum(held))


def run_export(archive: Path, output: Path, *, workers: int, shard_bytes: int, cache: Path) -> Watched:
    """Convert an archive; ``wall_s`` is of the conversion without the interpreter's start."""
    module = (sys.executable, "-m", "tests.benchmarks.processes")
    watched = run_watched(*module, "export", str(archive), str(output), str(workers), str(shard_bytes), cache=cache)
    return watched._replace(wall_s=float(watched.output))


def run_load(database: Path, how: str, *, cache: Path) -> float:
    """Seconds from ``load_dataset`` until the first row arrives (streaming) or generating starts (prepared)."""
    command = (sys.executable, "-m", "tests.benchmarks.processes", "load", str(database), how)
    return float(run_watched(*command, cache=cache).output.splitlines()[-1])


def _export(archive: str, output: str, workers: str, shard_bytes: str) -> float:
    from veriserum_hf.dataset.export import convert_archive

    started = time.perf_counter()
    convert_archive(archive, output, workers=int(workers), shard_size_bytes=int(shard_bytes))
    return time.perf_counter() - started


class _GeneratingError(Exception):
    """Raised where generating starts, which is all that is measured."""


def _load(database: str, how: str) -> float:
    from datasets import load_dataset

    from veriserum_hf.dataset.builder import Veriserum

    seconds: list[float] = []

    def generate(*_: Any, **__: Any) -> Iterator[Any]:
        seconds.append(time.perf_counter() - started)
        raise _GeneratingError

    started = time.perf_counter()
    if how == "streaming":
        next(iter(load_dataset("veriserum", data_files=database, split="train", streaming=True)))
        return time.perf_counter() - started
    Veriserum._generate_tables = generate
    with suppress(_GeneratingError):
        load_dataset("veriserum", data_files=database)
    return seconds[0]


if __name__ == "__main__":
    print({"export": _export, "load": _load}[sys.argv[1]](*sys.argv[2:]))
