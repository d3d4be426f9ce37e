"""Commands and long work: in this process, or in one of their own that is stopped while something is left to do."""

import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

from tests.forked import FORKED
from veriserum_hf.cli.app import main

VERISERUM = Path(sys.executable).with_name("veriserum")


def run_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``veriserum`` in this process, which does not have to start first."""
    command, status = ["veriserum", *map(str, arguments)], 0
    with (
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
        mock.patch.object(sys, "argv", command),
    ):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


@contextmanager
def small_disk(size_bytes: int) -> Iterator[None]:
    """Limit the size of files, in place of a full disk: writing fails in the same way, half-way through."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def at_work(
    *command: object, until: Callable[[], object], environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own that heeds interrupts, as soon as something is so and work is left."""
    with subprocess.Popen(
        list(map(str, command)),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        preexec_fn=_give_way,  # noqa: PLW1509
    ) as process:
        try:
            deadline = time.monotonic() + 600
            while not until():
                assert process.poll() is None, "it ended before it could be stopped"
                assert time.monotonic() < deadline
                time.sleep(0.002)
            yield process
        finally:
            process.kill()


def _give_way() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # programs that are started in the background ignore it
    os.nice(19)  # so that the process that stops it comes first, however busy the machine is


def written(folder: Path, pattern: str) -> dict[str, int]:
    """When each of the files below a folder was written, ns; none while the folder is being moved away."""
    try:
        return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.glob(pattern)}
    except FileNotFoundError:
        return {}


def killed_at(step: int, work: Callable[..., object], *arguments: Any, **options: Any) -> bool:
    """Do work in a process of its own, and kill it (-9) just before so many steps are done: False if it has fewer.

    A step is to put a file or folder in its place, or to remove a folder.
    """
    process = FORKED.Process(target=_work_until, args=(step, work, arguments, options), daemon=True)
    process.start()
    process.join(timeout=600)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def killed_at_event(event: int, folder: Path, work: Callable[..., object], *arguments: Any, **options: Any) -> bool:
    """Do work in a process of its own, and kill it (-9) just before so many events below a folder.

    An event opens a file to write, makes, renames or removes a file or folder, or waits for the disk. Returns False
    if there are fewer.
    """
    inputs = (event, folder, work, arguments, options)
    process = FORKED.Process(target=_work_until_event, args=inputs, daemon=True)
    process.start()
    process.join(timeout=600)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _work_until_event(
    event: int, folder: Path, work: Callable[..., object], arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    events, below, fsync = count(1), str(folder), os.fsync

    def happen() -> None:
        if next(events) == event:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(name: str, values: tuple[object, ...]) -> None:
        if name == "open":
            path, _, flags = values
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) and str(path).startswith(below):
                happen()
        elif name in ("os.mkdir", "os.rename", "os.remove", "os.rmdir") and str(values[0]).startswith(below):
            happen()

    def synced(descriptor: int) -> None:
        happen()
        fsync(descriptor)

    os.fsync = synced
    sys.addaudithook(hook)
    work(*arguments, **options)


def _work_until(step: int, work: Callable[..., object], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    steps = count(1)

    def or_be_killed(do: Callable[..., object]) -> Callable[..., object]:
        def done(*arguments: Any, **options: Any) -> object:
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return do(*arguments, **options)

        return done

    os.replace, os.rename, shutil.rmtree = map(or_be_killed, (os.replace, os.rename, shutil.rmtree))
    work(*arguments, **options)
