"""Files and folders that appear whole or not at all."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(target: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary path next to a target; what is there when the block ends becomes the target in one step.

    The path is hidden and different each time, so that several processes may write the same target: the last one
    wins. Where the block raises an error, the target stays unchanged and nothing else is left. What a killed process
    leaves is found by `remove_abandoned`.

    Parameters
    ----------
    target : file or folder to make or to replace. A folder that is to be replaced is moved aside first: for a moment
        there is neither, but never half of one.
    suffix : that the path must end in, for writers that choose the format by it, such as ``".mp4"``.

    """
    temporary, replaced = _next_to(target, suffix), _next_to(target)
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():
            target.rename(replaced)
        temporary.replace(target)
    finally:
        _remove(temporary)
        _remove(replaced)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file so that it appears whole or not at all, and nothing else is left."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left of `atomic_path` below a folder, which no other process may write to now."""
    for abandoned in list(folder.rglob(".*.partial*")):
        _remove(abandoned)


def _next_to(target: Path, suffix: str = "") -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial{suffix}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
