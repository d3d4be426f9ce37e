"""Jobs that are done by one process or several, each of them wholly or not at all."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any, Protocol

from veriserum_hf.errors import WorkerError
from veriserum_hf.jobs.board import notice_board, units_on
from veriserum_hf.jobs.interrupts import SIGNALS
from veriserum_hf.jobs.provenance import versions
from veriserum_hf.jobs.worker import Needed, run_in_worker

_PACKAGE = "veriserum_hf"
_HANDED_OUT = 256  # jobs that an executor gets at once
_LOOK_EVERY_S = 0.2
_LATEST_S = 90.0  # that NFS may take to show a file of another machine


class Job(Protocol):
    """A piece of work; ``units`` is its size, such as the rows or frames that it makes."""

    @property
    def units(self) -> int:
        """Size of the job, in what progress is counted in."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""

    def run(self, advance: Callable[[int], None]) -> None:
        """Run it, calling ``advance`` with the units that were done since the last call."""


def cores() -> int:
    """Cores that this process may use; on a cluster, fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    jobs: Sequence[Job],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
    *,
    executor: Executor | None = None,
    folder: Path | None = None,
    reads: Sequence[Path] = (),
) -> None:
    """Run the jobs that are not done, the long ones first, in this process or in several.

    Parameters
    ----------
    jobs : what there is to do; they travel to other processes.
    workers : processes, 1 is this one, None for one a core; with an executor, jobs that are handed out at once.
    progress : called with the number of units done and of all.
    executor : runs the jobs instead of processes of this machine; it is not shut down.
    folder : that all processes can write to, on whatever machine they are; for the jobs' progress, see
        `veriserum_hf.jobs.board`. Without an executor, the folder of temporary files if not given.
    reads : files and folders that the executor's processes must see, too.

    Raises
    ------
    WorkerError
        If a worker process was killed from outside, the executor is lost, or one of its processes does not see a
        folder or has other versions.

    """
    total = sum(job.units for job in jobs)
    done_before = sum(job.units for job in jobs if job.done)
    report = progress or (lambda done, all: None)
    report(done_before, total)
    waiting = sorted((job for job in jobs if not job.done), key=lambda job: -job.units)

    def count(done: int) -> None:
        report(done_before + done, total)

    if executor is not None:
        needed = Needed(versions(), reads)
        _run_elsewhere(waiting, workers or _HANDED_OUT, executor, folder, needed, count)
        return
    processes = min(workers or cores(), len(waiting))
    if processes <= 1:
        _run_here(waiting, count)
        return
    pool = local_pool(processes)
    try:
        _run_elsewhere(waiting, 2 * processes, pool, folder, None, count)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _LocalPool(ProcessPoolExecutor):
    """Processes that get no signals, know nothing of the main script, and end with this process."""

    def submit(self, *arguments: Any, **options: Any) -> Future[Any]:
        """Hand a call out, as in `_run_elsewhere`."""
        with _signals_held(), _without_main_script():
            return super().submit(*arguments, **options)


def local_pool(processes: int, begin: Callable[[], object] = int) -> ProcessPoolExecutor:
    """Processes of this machine; each calls ``begin`` first. They end with this process, however that ends."""
    # A fresh interpreter each: forking a process that has threads (OpenCV, Arrow) is not safe.
    with _signals_held():  # its semaphores have a process of their own
        spawn = multiprocessing.get_context("spawn")
        return _LocalPool(processes, spawn, initializer=_start_worker, initargs=(begin,))


def _run_here(jobs: Sequence[Job], count: Callable[[int], None]) -> None:
    done = 0

    def advance(units: int) -> None:
        nonlocal done
        done += units
        count(done)

    for job in jobs:
        job.run(advance)


def _run_elsewhere(
    jobs: Sequence[Job],
    at_once: int,
    executor: Executor,
    folder: Path | None,
    needed: Needed | None,
    count: Callable[[int], None],
) -> None:
    """Hand jobs out, some at once, so that neither this process nor a scheduler holds all of them."""
    # Neither `concurrent.futures.wait` nor a lock is used here: an interrupt while one takes its lock would leave it
    # locked, and the shutdown would wait for ever.
    finished: SimpleQueue[Future[None]] = SimpleQueue()
    left, under_way = deque(enumerate(jobs)), dict[Future[None], tuple[Path, Job]]()
    done = most = 0
    with notice_board(folder) as board, _lost_workers_reported(needed is None):
        try:
            while left or under_way:
                with _signals_held(), _without_main_script():  # a pool's processes start with the first submission
                    while left and len(under_way) < at_once:
                        number, job = left.popleft()
                        note = board / str(number)
                        future = executor.submit(run_in_worker, job, note, needed)
                        under_way[future] = note, job
                        future.add_done_callback(finished.put)
                with suppress(Empty):
                    future = finished.get(timeout=_LOOK_EVERY_S)
                    future.result()
                    note, job = under_way.pop(future)
                    _wait_until_seen(job)
                    note.unlink(missing_ok=True)
                    done += job.units
                # A job that is run again, as its process was killed, begins at 0.
                most = max(most, done + sum(units_on(note) for note, _ in under_way.values()))
                count(most)
        finally:
            for future in under_way:
                future.cancel()


@contextmanager
def _lost_workers_reported(local: bool) -> Iterator[None]:
    kept = "What is finished is kept: run the same command again"
    try:
        yield
    except BrokenExecutor as error:
        raise WorkerError(
            f"A worker process was killed, perhaps for lack of memory. {kept} with fewer --workers to resume."
            if local
            else f"The executor is broken: {error}. {kept} to resume."
        ) from error
    except CancelledError as error:
        raise WorkerError(
            "The jobs were cancelled, as they are when the connection to the scheduler is lost. "
            f"{kept} to resume, when there is a scheduler."
        ) from error
    except OSError as error:
        if local:
            raise
        raise WorkerError(
            f"A worker process cannot read or write what its job needs: {error}. It must be shared by all machines, "
            f"under the same path; for a cache, see HF_HOME. {kept} to resume."
        ) from error
    except ImportError as error:
        if local or not (error.name or "").startswith(_PACKAGE):
            raise
        raise WorkerError(
            f"A worker process has no {_PACKAGE}, or another version of it: {error}. All machines need the same "
            f"versions, such as one environment on the shared file system. {kept} to resume."
        ) from error


def _wait_until_seen(job: Job) -> None:
    """Wait for the files of a job that is finished: on a shared file system, those of other machines appear late."""
    deadline = time.monotonic() + _LATEST_S
    while not job.done:
        if time.monotonic() > deadline:
            raise WorkerError(
                "A worker process has finished a job, but its files are not here. The folders of input and output "
                "must be shared by all machines, under the same paths."
            )
        time.sleep(0.05)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Block signals in processes that are started in here: the parent gets them, and says when to stop."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, where `_start_worker` ignores them
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main_script() -> Iterator[None]:
    """Hide the main script from processes that are started in here.

    They need nothing of it, and would run it again: all of it, where it has no ``if __name__ == "__main__"``.
    """
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _start_worker(begin: Callable[[], object]) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin()


def _end_with_parent() -> None:
    """End this process when its parent is killed: it would wait for work for ever, or race with the next run."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
