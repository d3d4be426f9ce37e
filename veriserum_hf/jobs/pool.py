"""Jobs that are done by one process or several, each of them wholly or not at all."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Protocol

from veriserum_hf.errors import WorkerError
from veriserum_hf.jobs.interrupts import SIGNALS

# In a worker process: units done by all workers, and whether to stop.
_worker_state: "tuple[Synchronized[int], Event]"


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


def run_jobs(jobs: Sequence[Job], workers: int, progress: Callable[[int, int], None] | None) -> None:
    """Run the jobs that are not done, the long ones first, in this process or in several.

    Parameters
    ----------
    jobs : what there is to do; they travel to other processes.
    workers : processes; 1 is this one.
    progress : called with the number of units done and of all.

    Raises
    ------
    WorkerError
        If a worker process was killed from outside.

    """
    total = sum(job.units for job in jobs)
    done_before = sum(job.units for job in jobs if job.done)
    report = progress or (lambda done, all: None)
    report(done_before, total)
    waiting = sorted((job for job in jobs if not job.done), key=lambda job: -job.units)
    if workers == 1 or len(waiting) <= 1:
        done = done_before

        def advance(units: int) -> None:
            nonlocal done
            done += units
            report(done, total)

        for job in waiting:
            job.run(advance)
        return
    # A fresh interpreter each: forking a process that has threads (OpenCV, Arrow) is not safe.
    context = multiprocessing.get_context("spawn")
    with _signals_held():  # semaphores have a process of their own
        state = (context.Value("q", 0), context.Event())
    pool = ProcessPoolExecutor(min(workers, len(waiting)), context, initializer=_start_worker, initargs=state)
    # Neither `concurrent.futures.wait` nor the counter's lock is used here: an interrupt while one takes its
    # lock would leave it locked, and the shutdown would wait for ever.
    finished: SimpleQueue[Future[None]] = SimpleQueue()
    try:
        with _signals_held(), _without_main_script():  # the workers start with the first submission
            for job in waiting:
                pool.submit(_run_in_worker, job).add_done_callback(finished.put)
        left = len(waiting)
        while left:
            with suppress(Empty):
                finished.get(timeout=0.2).result()
                left -= 1
            report(done_before + state[0].get_obj().value, total)
    except BrokenProcessPool as error:
        raise WorkerError(
            "A worker process was killed, perhaps for lack of memory. What is finished is kept: run the same command "
            "again with fewer --workers to resume."
        ) from error
    finally:
        state[1].set()
        pool.shutdown(wait=True, cancel_futures=True)


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


def _start_worker(counter: "Synchronized[int]", stop: Event) -> None:
    global _worker_state  # noqa: PLW0603 - the pool offers no other way to hand a worker what it shares
    _worker_state = counter, stop
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is killed: it would wait for work for ever, or race with the next run."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(job: Job) -> None:
    counter, stop = _worker_state

    def advance(units: int) -> None:
        with counter.get_lock():
            counter.value += units
        if stop.is_set():
            raise WorkerError("stopped")

    job.run(advance)
