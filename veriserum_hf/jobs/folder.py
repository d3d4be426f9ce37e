"""The folder that unfinished work is kept in until it is complete: ``OUT.incomplete`` next to ``OUT``."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from veriserum_hf.errors import VeriserumError
from veriserum_hf.jobs.files import remove_abandoned, sync, sync_all, write_file
from veriserum_hf.jobs.sums import SUMS, remove_unlisted

_LOCK, _RECORD = "lock", "record.json"


def incomplete_folder(target: Path) -> Path:
    """Where unfinished work for a folder is kept."""
    return target.with_name(target.name + ".incomplete")


def check_place(target: Path, error: type[VeriserumError], *sources: Path) -> None:
    """Raise an error where a folder or file cannot be put in place at the end of the work.

    Parameters
    ----------
    target : to make, without links in its path.
    error : to raise.
    sources : folders and files that the work reads, which it must neither replace nor write into.

    """
    here = Path.cwd()
    if target == here or target in here.parents:
        raise error(
            f"{target} is the current folder, or one above it, and would be replaced while this program and your "
            "shell are in it. Choose a new folder."
        )
    if target.is_mount():
        raise error(f"{target} is a mount point and cannot be replaced in one step. Choose a folder in it.")
    for source in (source.resolve() for source in sources):
        if target == source or target in source.parents:
            raise error(f"{target} is or holds {source}, which is read. Choose another folder.")
        if source in target.parents:
            raise error(f"{target} is within {source}, which is read and not changed. Choose a folder outside of it.")


@contextmanager
def staging_folder(
    target: Path, record: Mapping[str, object], what: str, error: type[VeriserumError]
) -> Iterator[Path]:
    """Lock the folder of unfinished work, new or left by the same work, and report errors of the disk.

    What the same work left is kept; which of it is whole is for `keep_whole` to find out.

    Parameters
    ----------
    target : folder that is to be made.
    record : what makes two pieces of work the same, as JSON.
    what : what it is called in messages, such as ``"conversion"``.
    error : raised where the folder cannot be used.

    """
    incomplete = incomplete_folder(target)
    check_place(target, error)
    try:
        _make(incomplete, error)
        with FileLock(incomplete / _LOCK, timeout=0):
            found, wanted = _read(incomplete / _RECORD), json.loads(json.dumps(record))
            if found is not None and found != wanted:
                raise error(
                    f"{incomplete} holds an unfinished {what} with other input, options or versions. Finish it with "
                    "the same ones, choose another folder, or remove it."
                )
            if found is None:  # new, or lost in a power cut: nobody knows what the rest belongs to
                (incomplete / SUMS).unlink(missing_ok=True)
                keep_whole(incomplete)
                write_file(incomplete / _RECORD, json.dumps(record))
            remove_abandoned(incomplete)
            yield incomplete
    except Timeout:
        raise error(f"Another {what} is writing to {incomplete}. Wait for it, or stop it.") from None
    except OSError as problem:
        raise error(
            f"Cannot write below {incomplete}: {problem.strerror or problem}. What is finished is kept: free "
            "disk space or grant write permission, then run the same command again to resume."
        ) from problem


def keep_whole(incomplete: Path) -> None:
    """Remove files of unfinished work that are not listed with their content; see `veriserum_hf.jobs.listed_path`."""
    remove_unlisted(incomplete, (_LOCK, _RECORD))


def put_in_place(whole: Path, target: Path) -> None:
    """Rename a finished file or folder below the unfinished work to the target, and remove the rest of it.

    All of it is on the disk before, and under its name in one step. What worker processes left that were killed
    meanwhile is not part of it.
    """
    remove_abandoned(whole)
    sync_all(whole)
    if target.is_dir() and not target.is_symlink():
        target.rmdir()  # empty, or the work would not have come this far
    whole.rename(target)
    sync(target.parent)
    shutil.rmtree(incomplete_folder(target))


def _make(incomplete: Path, error: type[VeriserumError]) -> None:
    """Make the folder, unless it is there; refuse one that something else made."""
    incomplete.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in incomplete.iterdir()}
    if incomplete.is_symlink() or (there and not there & {_LOCK, _RECORD}):
        raise error(
            f"{incomplete} is not a folder of unfinished work, but the work is done there. Nothing was changed. "
            "Choose another name, or move it away."
        )


def _read(record: Path) -> object:
    """The record, or None if it is not there or not whole."""
    try:
        return json.loads(record.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
