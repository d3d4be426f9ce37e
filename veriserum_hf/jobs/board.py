"""How far jobs in other processes are, and whether they shall go on: by files, which reach every machine.

The notice board is a folder that exists as long as its jobs are wanted. Each job writes the units that it has done to
a file there, and ends when it cannot: the folder is gone.
"""

import errno
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from veriserum_hf.errors import WorkerError
from veriserum_hf.jobs.files import next_to

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}


@contextmanager
def notice_board(folder: Path | None) -> Iterator[Path]:
    """Yield a new notice board in a folder, or in that of temporary files; jobs end after the block.

    That of a killed process is removed by `veriserum_hf.jobs.remove_abandoned`: its jobs end then.
    """
    board = next_to(Path(tempfile.gettempdir() if folder is None else folder) / "jobs", ".partial")
    board.mkdir()
    ended = board.with_name(f"{board.name}-ended")
    try:
        yield board
    finally:
        with suppress(OSError):  # the folder is gone, or its disk fails, which is reported elsewhere
            board.rename(ended)  # in one step, while jobs write there
        shutil.rmtree(ended, ignore_errors=True)


def writer_of(note: Path) -> Callable[[int], None]:
    """Return a job's ``advance``, which writes the units done so far to a file on the notice board.

    It raises WorkerError where there is no notice board any more, or never was on this machine.
    """
    done = 0

    def advance(units: int) -> None:
        nonlocal done
        done += units
        try:
            note.write_text(str(done))
        except OSError as error:
            if error.errno not in _GONE:
                raise
            # If the board was removed, nobody waits for the message.
            raise WorkerError(
                f"{place()} does not see {note.parent.parent}. The folders of input and output must be shared by all "
                "machines, under the same paths. What is finished is kept: run the same command again to resume."
            ) from None

    return advance


def units_on(note: Path) -> int:
    """Units that a job has done so far; 0 where it has written none, or is writing."""
    try:
        return int(note.read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0


def place() -> str:
    """Name of this process in messages."""
    return f"worker process {os.getpid()} on {platform.node()}"
