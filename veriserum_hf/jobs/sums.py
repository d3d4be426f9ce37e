"""``SHA256SUMS``: hashes of finished files, in the format of the program ``sha256sum``.

A folder of unfinished work has one that grows by a line for each file, before the file appears under its name. What a
power cut or a damaged disk left of a file is found by it, so nothing has to wait for the disk meanwhile. A finished
folder has one, sorted, that ``sha256sum -c SHA256SUMS`` checks too.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from veriserum_hf.jobs.files import in_one_step, write_file, write_new

try:
    import fcntl
except ImportError:  # Windows
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def listed_path(root: Path, target: Path) -> Iterator[Path]:
    """Yield a temporary path for a file below a folder of unfinished work, which lists it before it appears.

    Parameters
    ----------
    root : folder of unfinished work.
    target : the file.

    """
    with in_one_step(target) as partial:
        yield partial
        list_files(root, {target: _sha256(partial)})


def write_listed(root: Path, target: Path, content: str | bytes) -> None:
    """Write a file below a folder of unfinished work as `listed_path` does."""
    with listed_path(root, target) as partial:
        write_new(partial, content)


def list_whole(root: Path, files: Iterable[Path]) -> None:
    """Add files that are in place to the list of a folder of unfinished work."""
    list_files(root, {file: _sha256(file) for file in files})


def list_files(root: Path, hashes: dict[Path, str]) -> None:
    """Add lines to the list of a folder of unfinished work, also where other processes do."""
    # A line break first: the last line may be half of one.
    lines = "".join(f"\n{sha256}  {file.relative_to(root).as_posix()}\n" for file, sha256 in hashes.items())
    descriptor = os.open(root / SUMS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINKS, 0o666)
    try:
        _lock(descriptor)
        left = memoryview(lines.encode())
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Be the only writer of a file until it is closed: over NFS, lines of two machines would replace each other."""
    if _HAS_LOCKS:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def listed_files(root: Path) -> dict[str, str]:
    """Hashes by path below a folder; the last line of a file counts, and what is not a line is skipped."""
    try:
        lines = (root / SUMS).read_bytes().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    return {found[2]: found[1] for line in lines if (found := _LINE.fullmatch(line))}


def remove_unlisted(root: Path, others: Iterable[str]) -> None:
    """Remove every file below a folder of unfinished work that is not listed with this content.

    A folder that has a listed file's name is removed as well: it would count as that file.

    Parameters
    ----------
    root : the folder.
    others : names of files in it that are kept, without the list.

    """
    hashes, kept = listed_files(root), {SUMS, *others}
    for path in list(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            if name in hashes:
                shutil.rmtree(path)
            continue
        if not path.exists() and not path.is_symlink():  # it was in such a folder
            continue
        if path.is_symlink() or not path.is_file() or name not in hashes or _sha256(path) != hashes[name]:
            path.unlink()


def write_sums(root: Path, folder: Path) -> None:
    """Write the list of a folder that is to be put in place, from that of the folder of unfinished work above it."""
    prefix = f"{folder.relative_to(root).as_posix()}/"
    lines = (
        f"{sha256}  {name.removeprefix(prefix)}\n"
        for name, sha256 in sorted(listed_files(root).items())
        if name.startswith(prefix) and (root / name).exists()
    )
    write_file(folder / SUMS, "".join(lines))


def damaged_files(folder: Path) -> list[str]:
    """Files that a finished folder lists and lacks, or has with other content; its list if that cannot be read."""
    hashes = listed_files(folder)
    return [name for name, sha256 in hashes.items() if not _is(folder / name, sha256)] if hashes else [SUMS]


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and _sha256(path) == sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
