"""Files and folders that appear whole or not at all."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REPLACED = ".replaced"  # ending of a folder that was moved aside


@contextmanager
def atomic_path(target: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary path next to a target; what is there when the block ends becomes the target in one step.

    The path is hidden and different each time, so that several processes may write the same target: the last one
    wins. Where the block raises an error, the target stays unchanged and nothing else is left. What a killed process
    leaves is found by `remove_abandoned`.

    Parameters
    ----------
    target : file or folder to make or to replace. A folder that is to be replaced is moved aside first: for a moment
        there is neither. It is put back if the new one cannot take its place, or by `remove_abandoned` if the process
        is killed in this moment.
    suffix : that the path must end in, for writers that choose the format by it, such as ``".mp4"``.

    """
    temporary = _next_to(target, f".partial{suffix}")
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():
            _replace_folder(temporary, target)
        else:
            temporary.replace(target)
    finally:
        _remove(temporary)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file so that it appears whole or not at all, and nothing else is left."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left of `atomic_path` below a folder, which no other process may write to now.

    A folder that was moved aside and has no successor is put back.
    """
    for abandoned in list(folder.rglob(f".*{_REPLACED}")):
        target = abandoned.with_name(abandoned.name.removeprefix(".").removesuffix(_REPLACED).rpartition(".")[0])
        if target.exists():
            _remove(abandoned)
        else:
            abandoned.rename(target)
    for abandoned in list(folder.rglob(".*.partial*")):
        _remove(abandoned)


def _replace_folder(new: Path, target: Path) -> None:
    old = _next_to(target, _REPLACED)
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    _remove(old)


def _next_to(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}{ending}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
