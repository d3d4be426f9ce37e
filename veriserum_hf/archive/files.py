"""Reading files of an archive: regular ones of plausible size only."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from veriserum_hf.core import NotAFileError, open_regular, read_regular
from veriserum_hf.errors import ArchiveError, FrameError

# A frame of 64 megapixels in 16 bits has 128 MB; an implant of a million triangles as text about 250 MB.
MOST_BYTES = 256_000_000
MOST_MESH_BYTES = 1_500_000_000  # of own implants: five million triangles as text, or a volume of labels
MOST_TABLE_BYTES = 2_000_000_000
MOST_STACK_BYTES = 100_000_000_000  # of frames one by one


def read_bytes(path: str | Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Content of a file that the archive had when it was opened.

    Pipes and devices are never waited for, and nothing is read of a larger file.

    Raises
    ------
    FrameError
        With the reason ``unreadable`` where the file's permissions forbid it, or it is no regular file of plausible
        size.
    ArchiveError
        If the file is gone or the disk fails: that is not a bad frame, and continuing would reject good ones.

    """
    with explained(path):
        return read_regular(path, most_bytes)


class PartsOfFile:
    """Bytes of a file that are read where a part of them is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        """Size of the file, bytes."""
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        """Bytes of a part; fewer where the file was cut off since it was opened."""
        first, last, _ = part.indices(self._size)
        self._file.seek(first)
        return self._file.read(max(0, last - first))


@contextmanager
def opened(path: str | Path) -> Iterator[PartsOfFile]:
    """A file of many frames, of which only parts are read; raises as `read_bytes`."""
    with explained(path), open_regular(path, MOST_STACK_BYTES) as file:
        yield PartsOfFile(file)


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Errors of reading a file as `read_bytes` raises them."""
    try:
        yield
    except (PermissionError, NotAFileError) as error:
        raise FrameError("unreadable", f"{Path(path).name}: {error.strerror}") from error
    except OSError as error:
        raise ArchiveError(
            f"{path}: {error.strerror}. The archive has changed or its disk has failed since it was opened. "
            "Restore or reconnect it, then run again."
        ) from error
