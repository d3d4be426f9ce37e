"""Reads regular files of plausible size only: a pipe or a device may never end."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_MOST_BYTES_OF_TEXT = 4_000_000
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotAFileError(OSError):
    """Something is no regular file of plausible size; ``strerror`` states what it is and what was expected."""


def not_a_file(status: os.stat_result, most_bytes: int) -> str | None:
    """Why something is no regular file of plausible size; None where it is one."""
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
        return f"it is {kind}, expected a regular file"
    if status.st_size > most_bytes:
        return f"it has {status.st_size / 1e6:,.0f} MB, expected at most {most_bytes / 1e6:,.0f} MB"
    return None


def read_regular(path: str | Path, most_bytes: int) -> bytes:
    """Content of a file; a pipe or device is never waited for.

    Raises
    ------
    NotAFileError
        If it is no regular file, or larger than that.
    OSError
        If it cannot be read.

    """
    with open_regular(path, most_bytes) as file:
        return file.read(most_bytes)


def open_regular(path: str | Path, most_bytes: int) -> BinaryIO:
    """A file to be read in parts; raises as `read_regular`."""
    _check(Path(path).stat(), path, most_bytes)  # before it is opened: some devices act on that alone
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        _check(os.fstat(file.fileno()), path, most_bytes)
    except NotAFileError:
        file.close()
        raise
    return file


def read_text(path: str | Path) -> str:
    """Text of a small file that a user gives, in UTF-8.

    Raises
    ------
    OSError
        As `read_regular`.
    UnicodeDecodeError
        If it is not UTF-8.

    """
    return read_regular(path, _MOST_BYTES_OF_TEXT).decode("utf-8")


def _check(status: os.stat_result, path: str | Path, most_bytes: int) -> None:
    if why := not_a_file(status, most_bytes):
        raise NotAFileError(errno.EINVAL, why, str(path))
