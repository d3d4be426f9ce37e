"""What the user can do where a disk does not take an output."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from veriserum_hf.errors import VeriserumError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def way_out(error: OSError) -> str:
    """The way out of an error of the disk, as the end of a sentence; empty where it is not known."""
    if error.errno in _FULL:
        return "free disk space, then run the same command again"
    if error.errno in _FORBIDDEN:
        return (
            "grant yourself permission, or choose another place; for a cache below a folder that is read-only, set "
            "NUMBA_CACHE_DIR, HF_HOME or MPLCONFIGDIR to one that is not"
        )
    return "give a path in a folder that exists" if error.errno in (errno.ENOENT, errno.ENOTDIR) else ""


@contextmanager
def writing(output: str | os.PathLike[str], raised: type[VeriserumError] = VeriserumError) -> Iterator[None]:
    """Raise an error that names the output and the way out, where the block cannot write it.

    Parameters
    ----------
    output : the file or folder, for the message.
    raised : the error.

    """
    try:
        yield
    except OSError as error:
        reason = f"cannot write {os.fspath(output)}: {error.strerror or error}"
        raise raised(f"{reason}; {way}" if (way := way_out(error)) else reason) from error
