"""Reading files of an archive: regular ones of plausible size only."""

from pathlib import Path

from veriserum_hf.core import NotAFileError, read_regular
from veriserum_hf.errors import ArchiveError, FrameError

# A frame of 64 megapixels in 16 bits has 128 MB; an implant of a million triangles as text about 250 MB.
MOST_BYTES = 256_000_000
MOST_TABLE_BYTES = 2_000_000_000


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
        return read_regular(path, MOST_BYTES)
    except (PermissionError, NotAFileError) as error:
        raise FrameError("unreadable", f"{Path(path).name}: {error.strerror}") from error
    except OSError as error:
        raise ArchiveError(
            f"{path}: {error.strerror}. The archive has changed or its disk has failed since it was opened. "
            "Restore or reconnect it, then run again."
        ) from error
