"""How trainings in two processes end: written to RESULTS_ENDS.md.

    python -m tests.benchmarks.bench_ends [ENDS]

Two processes run short trainings one after the other, each with a group of processes of its own: one step, which
every third time fails and every third time is interrupted, then the end. Meanwhile one process per core keeps the
machine busy, so that the threads of a group often wait. An end that takes more than two minutes counts as blocked.
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tests.benchmarks.table import CORES, Row, write_table
from tests.training.processes import Started
from tests.training.runs import settings_file
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.plan import Options
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

RESULTS = Path(__file__).with_name("RESULTS_ENDS.md")
BLOCKED_S = 120.0


def small_training(folder: Path) -> list[str]:
    """Options of a training of one step on a data set of 64 px, which is made here."""
    archive = simulate(folder / "archive", Settings(20, 2, pairs=2, height_px=200, marker_frames=0), workers=1)
    convert_archive(archive, folder / "dataset", options=Options(size=64), workers=1)
    config = settings_file(folder / "tiny.yaml", num_workers=0, batch_size=2, crop_size=32)
    return ["--config", str(config), "--dataset", str(folder / "dataset"), "--max_train_steps", "1"]


def ends(count: int, folder: Path, settings: list[str]) -> list[list[tuple[str, int]]]:
    """Of each process: how each training ended, and how many wrapped models there were at that moment."""
    logs = [folder / f"{rank}.txt" for rank in range(2)]
    started = Started("tests/benchmarks/ends.py", count, folder, *settings, processes=len(logs))
    before, since = -1, time.monotonic()
    while None in started.statuses() and not any(started.statuses()) and time.monotonic() - since < BLOCKED_S:
        time.sleep(0.1)
        written = sum(log.stat().st_size for log in logs if log.exists())
        if written != before:
            before, since = written, time.monotonic()
    if any(started.statuses()):
        raise RuntimeError(started.written("errors"))
    started.kill()
    lines = [log.read_text().splitlines() if log.exists() else [] for log in logs]
    return [[(way, int(left)) for way, left in map(str.split, of_process)] for of_process in lines]


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy meanwhile."""
    processes = [multiprocessing.Process(target=_compute, daemon=True) for _ in range(CORES)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()


def _compute() -> None:
    while True:
        sum(range(10_000))


def rows(count: int) -> Iterator[Row]:
    """One line for each figure."""
    with tempfile.TemporaryDirectory() as folder, busy_cores():
        found = ends(count, Path(folder), small_training(Path(folder)))
    done = min(map(len, found))
    yield Row(f"{count} trainings of two processes, of which ended", str(done), str(count), done == count)
    left = sum(left for of_process in found for _, left in of_process)
    yield Row("wrapped models that were left when a group of processes ended", str(left), "0", left == 0)


def main() -> None:
    """Measure, print, and write the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    about = f"torch {torch.__version__} on one thread a process, {CORES} other processes that compute without a pause"
    write_table("Ends of trainings in two processes", rows(count), about, RESULTS)


if __name__ == "__main__":
    main()
