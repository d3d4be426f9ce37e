"""A Dask cluster on this machine, whose workers join by the scheduler's file."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
DASK = (sys.executable, "-m", "dask")
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
# As docs/cluster.md recommends: otherwise Dask has workers give memory back, and ask for it again, for every image.
_ENVIRONMENT |= {"MALLOC_TRIM_THRESHOLD_": "67108864", "MALLOC_MMAP_THRESHOLD_": "33554432"}


class DaskCluster:
    """A scheduler and workers, each in a process of its own; output goes to files in a folder.

    Parameters
    ----------
    folder : to work in.
    nanny : whether a process watches each worker and starts it again, as it is by default.

    """

    def __init__(self, folder: Path, *, nanny: bool = False) -> None:
        self.folder, self.nanny = folder, nanny
        self.file = folder / "scheduler.json"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self, workers: int) -> None:
        """Start a scheduler and workers that join it when its file is there."""
        self.file.unlink(missing_ok=True)
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", self.file)
        self.scheduler = self._started("scheduler", *options)
        wait_for(self._is_written, f"the scheduler's file: see {self.folder / 'scheduler.log'}")
        for _ in range(workers):
            self.add_worker()

    def add_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start one more worker."""
        options = ("--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--scheduler-file", self.file)
        nanny = "--nanny" if self.nanny else "--no-nanny"
        self.workers.append(self._started("worker", *options, nanny, **environment))
        return self.workers[-1]

    def lose_scheduler(self) -> None:
        """Kill the scheduler."""
        if self.scheduler is not None:
            self.scheduler.kill()
            self.scheduler.wait()

    def stop(self) -> None:
        """End every process."""
        processes = [*self.workers, *([self.scheduler] if self.scheduler else [])]
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.workers, self.scheduler = [], None

    def _is_written(self) -> bool:
        with suppress(OSError, ValueError):
            return "address" in json.loads(self.file.read_bytes())
        return False

    def _started(self, what: str, *options: object, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{what}.log").open("ab") as log:
            return subprocess.Popen(
                [*DASK, what, *map(str, options)],
                cwd=self.folder,  # not where the command runs, as on another machine
                env=os.environ | _ENVIRONMENT | environment,
                stdout=log,
                stderr=log,
                process_group=0,
            )


def process_at_work(*folders: Path, latest_s: float = 120) -> int:
    """Wait for an unfinished file below some folders, and return the number of the process that writes it."""

    def found() -> int:
        with suppress(FileNotFoundError):
            for path in (path for folder in folders for path in folder.rglob(".*.partial")):
                if path.is_file():
                    return int(path.name.rpartition(".")[0].rpartition(".")[2].split("-")[1])
        return 0

    return wait_for(found, "an unfinished file", latest_s)


def wait_for(found: Callable[[], T], what: str, latest_s: float = 120) -> T:
    """Wait for something and return it; AssertionError if it does not come."""
    deadline = time.monotonic() + latest_s
    while not (it := found()):
        assert time.monotonic() < deadline, f"waited {latest_s:.0f} s for {what}"
        time.sleep(0.001)
    return it
