"""Scripts in processes of their own, forked from one that has imported already what takes them seconds to import.

What a script does to its process stays in it, and it can be killed, as if a user had started it.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

from tests.forked import FORKED

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
LIMIT_S = 900


class Started:
    """A script in one process, or in several that find each other as those do that torchrun starts."""

    def __init__(self, script, *arguments, processes=1, cwd=ROOT):
        self._folder = tempfile.TemporaryDirectory()
        environments = [os.environ | ENVIRONMENT] * processes
        if processes > 1:
            self._store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            store = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._store.port)}
            store |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
            store |= {"WORLD_SIZE": str(processes)}
            environments = [
                environment | store | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                for rank, environment in enumerate(environments)
            ]
        self._processes = [
            FORKED.Process(
                target=_run, args=(self._folder.name, environment, cwd, str(script), list(map(str, arguments)))
            )
            for environment in environments
        ]
        for process in self._processes:
            process.start()

    def written(self, stream):
        """What it has written so far to ``output`` or ``errors``."""
        path = Path(self._folder.name, stream)
        return path.read_text() if path.exists() else ""

    def statuses(self):
        """Exit status of each process, None while it runs."""
        return [process.exitcode for process in self._processes]

    def wait(self, until=lambda: False):
        """Wait until something is so, all processes have ended, or one has failed."""
        end = time.monotonic() + LIMIT_S
        while not until() and None in self.statuses() and not any(self.statuses()):
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(self.written("errors"))
            time.sleep(0.01)

    def end(self):
        """Wait for all processes, and kill those that wait for one that has failed; exit status of each."""
        self.wait()
        self.kill()
        return self.statuses()

    def kill(self):
        """Kill what still runs, with the processes that load its data."""
        for process in self._processes:
            if process.is_alive():
                with suppress(ProcessLookupError):  # it ends just now
                    os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes:
            process.join()


def _run(folder, environment, cwd, script, arguments):
    multiprocessing.set_start_method(None, force=True)  # of processes that load data: Python's own, not this module's
    os.setsid()
    for descriptor, stream in ((1, "output"), (2, "errors")):
        os.dup2(os.open(Path(folder, stream), os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.update(environment)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))  # the server may have been started with more
    os.chdir(cwd)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
