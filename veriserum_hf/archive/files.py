"""Reading files of an archive: regular ones of plausible size only."""

import os
import stat
from pathlib import Path

from veriserum_hf.errors import ArchiveError, FrameError

# A frame of 64 megapixels in 16 bits has 128 MB; an implant of a million triangles as text about 250 MB.
MOST_BYTES = 256_000_000
MOST_TABLE_BYTES = 2_000_000_000
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def not_a_file(status: os.stat_result, most_bytes: int = MOST_BYTES) -> str | None:
    """Why something cannot be a file of an archive, by its kind and size; None where it can."""
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
        return f"it is {kind}, expected a regular file"
    if status.st_size > most_bytes:
        return f"it has {status.st_size / 1e6:,.0f} MB, expected at most {most_bytes / 1e6:,.0f} MB"
    return None


def read_bytes(path: str | Path) -> bytes:
    """Content of a file that the archive had when it was opened.

    Pipes and devices are never waited for, and nothing is read of a file above `MOST_BYTES`.

    Raises
    ------
    FrameError
        With the reason ``unreadable`` where the file's permissions forbid it, or it is no regular file of plausible
        size.
    ArchiveError
        If the file is gone or the disk fails: that is not a bad frame, and continuing would reject good ones.

    """
    try:
        _check(Path(path).stat(), path)  # before it is opened: some devices act on that alone
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            _check(os.fstat(file.fileno()), path)
            return file.read(MOST_BYTES)
    except PermissionError as error:
        raise FrameError("unreadable", f"{Path(path).name}: {error.strerror}") from error
    except OSError as error:
        raise ArchiveError(
            f"{path}: {error.strerror}. The archive has changed or its disk has failed since it was opened. "
            "Restore or reconnect it, then run again."
        ) from error


def _check(status: os.stat_result, path: str | Path) -> None:
    if why := not_a_file(status):
        raise FrameError("unreadable", f"{Path(path).name}: {why}")
