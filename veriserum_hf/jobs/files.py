"""Files and folders that appear whole or not at all, and are on the disk when they do."""

import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_REPLACED = ".replaced"  # ending of a folder that was moved aside
_LONGEST_NAME = 180  # bytes of a target's name that are repeated in the name of a temporary file
# Name of the target, machine, process, and random digits; the suffix that a writer needs comes last.
_TEMPORARY = re.compile(r"\.(.+)\.(?P<place>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}(\.partial(\.\w+)?|\.replaced)")


@contextmanager
def atomic_path(target: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary path next to a target; what is there when the block ends becomes the target in one step.

    The path is hidden and different each time, so that several processes may write the same target: the last one
    wins. It is written to the disk before it takes its place. Where the block raises an error, the target stays
    unchanged and nothing else is left. What a killed process left next to the target is removed by the next one that
    writes there, and by `remove_abandoned`.

    Parameters
    ----------
    target : file or folder to make or to replace; a link is replaced, not followed. A folder that is to be replaced
        is moved aside first: for a moment there is neither. It is put back if the new one cannot take its place, or
        by `remove_abandoned` if the process is killed in this moment.
    suffix : that the path must end in, for writers that choose the format by it, such as ``".mp4"``.

    """
    _remove_those_of_ended_processes(target.parent)
    with in_one_step(target, suffix) as temporary:
        yield temporary
        sync_all(temporary)
    sync(target.parent)


@contextmanager
def in_one_step(target: Path, suffix: str = "") -> Iterator[Path]:
    """As `atomic_path`, but the disk may have nothing or half of it after a power cut: the caller must find out."""
    temporary = next_to(target, f".partial{suffix}")
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
        write_new(temporary, content)


def write_new(path: Path, content: str | bytes) -> None:
    """Write a file that must not exist yet."""
    with path.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Wait until a file is on the disk; of a folder the names in it, where the file system can do that."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        if not path.is_dir():
            raise


def sync_all(path: Path) -> None:
    """Wait until a file, or a folder with everything below it, is on the disk."""
    from concurrent.futures import ThreadPoolExecutor

    if not path.is_dir():
        sync(path)
        return
    with ThreadPoolExecutor(16) as pool:  # a file system writes its journal once for those that wait together
        list(pool.map(sync, [path, *path.rglob("*")]))


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left of `atomic_path` below a folder, which no other process may write to now.

    A folder that was moved aside and has no successor is put back.
    """
    for abandoned in [*folder.rglob(f".*{_REPLACED}"), *folder.rglob(".*.partial*")]:
        _put_back_or_remove(abandoned)


def _remove_those_of_ended_processes(folder: Path) -> None:
    """The same in a folder, but not below it, that other processes may write to."""
    with suppress(OSError):  # reported by who writes there
        for path in list(folder.iterdir()):
            found = _TEMPORARY.fullmatch(path.name)
            if found and found["place"] == _place() and not _is_running(int(found["process"])):
                _put_back_or_remove(path)


def _put_back_or_remove(abandoned: Path) -> None:
    target = abandoned.with_name(abandoned.name.removeprefix(".").removesuffix(_REPLACED).rpartition(".")[0])
    if abandoned.name.endswith(_REPLACED) and not target.exists():
        abandoned.rename(target)
    else:
        _remove(abandoned)


def _replace_folder(new: Path, target: Path) -> None:
    old = next_to(target, _REPLACED)
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    _remove(old)


def next_to(target: Path, ending: str) -> Path:
    """Return a hidden path next to a target, different each time, that `remove_abandoned` knows by its ending."""
    name = os.fsdecode(os.fsencode(target.name)[:_LONGEST_NAME])
    return target.with_name(f".{name}.{_place()}-{os.getpid()}-{secrets.token_hex(8)}{ending}")


@cache
def _place() -> str:
    """Eight digits of this machine or container: the number of a process of another one says nothing."""
    try:
        container = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        container = ""
    return hashlib.sha256(f"{platform.node()} {container}".encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    if os.name != "posix":  # where signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
