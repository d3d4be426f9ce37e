"""A process that helps the workbench: the page stays alive while it works, and it can be ended in the midst of it."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.process import BaseProcess
from typing import ParamSpec, TypeVar

from veriserum_hf.jobs import local_pool

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Helper:
    """One process, which begins with its first piece of work.

    Parameters
    ----------
    begin : called in the process before anything else.

    """

    def __init__(self, begin: Callable[[], object] = int) -> None:
        self._pool = local_pool(1, begin)
        self._processes: set[BaseProcess] = set()

    def submit(
        self, work: Callable[_Parameters, _Result], *arguments: _Parameters.args, **options: _Parameters.kwargs
    ) -> Future[_Result]:
        """Do a piece of work after those before it."""
        before = set(multiprocessing.active_children())
        result = self._pool.submit(work, *arguments, **options)
        self._processes |= set(multiprocessing.active_children()) - before
        return result

    def end(self) -> None:
        """End the process now: the program would wait at its end for what is being worked on."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()  # it ignores SIGTERM, see `veriserum_hf.jobs.local_pool`
