"""The workers of a Dask cluster as an executor, found by the file that its scheduler has written."""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from veriserum_hf.errors import WorkerError

if TYPE_CHECKING:
    from distributed import Client

_SCHEDULER_S, _WORKER_S = 15.0, 120.0  # to wait for the scheduler's answer, and for a first worker
_LOGGERS = ("distributed", "tornado", "asyncio")
_RESUME = "What is finished is kept: run the same command again to resume"


@contextmanager
def dask_executor(scheduler_file: str | os.PathLike[str] | None) -> Iterator[Executor | None]:
    """Yield an executor whose jobs run on the workers of a Dask cluster, which goes on running after the block.

    Parameters
    ----------
    scheduler_file : that ``dask scheduler --scheduler-file FILE`` has written; None yields None.

    Raises
    ------
    WorkerError
        If the file cannot be used, there is no such scheduler or no worker, one of them lacks this package, or the
        workers die of a job.

    """
    if scheduler_file is None:
        yield None
        return
    address = _address(Path(scheduler_file))
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise WorkerError(
            f'--scheduler-file needs Dask ({error}): pip install "veriserum-hf[cluster]", on all machines'
        ) from error
    with _quiet():
        try:
            client = Client(address, timeout=_SCHEDULER_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise WorkerError(
                f"the scheduler of {scheduler_file} does not answer at {address} within {_SCHEDULER_S:.0f} s. Start "
                "one with `dask scheduler --scheduler-file FILE`, whose port this machine can reach. "
                f"{_RESUME}"
            ) from error
        try:
            _check(client, scheduler_file)
            # The same job may be handed out again after an error: it is another task then.
            yield client.get_executor(pure=False)
        except KilledWorker as error:
            raise WorkerError(
                f"{error.allowed_failures + 1} worker processes died of the same job, the last one at "
                f"{error.last_worker.address}, perhaps for lack of memory. {_RESUME}, with fewer worker processes a "
                "machine"
            ) from error
        finally:
            client.close(timeout=_SCHEDULER_S)


def _address(file: Path) -> str:
    expected = "expected the file that `dask scheduler --scheduler-file FILE` writes when it is ready"
    try:
        address = json.loads(file.read_bytes())["address"]
    except OSError as error:
        raise WorkerError(f"cannot read {file}: {error.strerror}; {expected}") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise WorkerError(f"{file} states no address of a scheduler; {expected}") from error
    if not isinstance(address, str):
        raise WorkerError(f"{file} states the address {address!r:.60} of a scheduler; {expected}")
    return address


def _check(client: "Client", scheduler_file: str | os.PathLike[str]) -> None:
    """Raise WorkerError where there is no worker, or the scheduler or a worker has another version or none."""
    try:
        client.wait_for_workers(1, timeout=_WORKER_S)
    except TimeoutError as error:
        raise WorkerError(
            f"the scheduler of {scheduler_file} has had no worker for {_WORKER_S:.0f} s. Start some with "
            f"`dask worker --scheduler-file {scheduler_file} --nthreads 1`. {_RESUME}"
        ) from error
    found = client.get_versions(packages=["veriserum_hf"])
    if not isinstance(found, dict):  # which it is of a client that is not asynchronous
        raise TypeError(f"versions are {found!r}")
    nodes = {"the scheduler": found["scheduler"]} | {f"the worker {name}": v for name, v in found["workers"].items()}
    here = found["client"]["packages"]["veriserum_hf"]
    for name, node in nodes.items():
        there = node["packages"]["veriserum_hf"]
        if there != here:
            raise WorkerError(
                f"{name} of {scheduler_file} has veriserum_hf {there or 'not installed'} instead of {here}. All "
                "machines need the same versions, such as one environment on the shared file system"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Dask logs of lost connections and large jobs: it is reported once, in words of this package."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _LOGGERS]
    loggers = [logger for name in names if not (logger := logging.getLogger(name)).disabled]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed")
            yield
    finally:
        for logger in loggers:
            logger.disabled = False
