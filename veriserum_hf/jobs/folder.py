"""The folder that unfinished work is kept in until it is complete: ``OUT.incomplete`` next to ``OUT``."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from veriserum_hf.errors import VeriserumError
from veriserum_hf.jobs.files import remove_abandoned, write_file


def incomplete_folder(target: Path) -> Path:
    """Where unfinished work for a folder is kept."""
    return target.with_name(target.name + ".incomplete")


@contextmanager
def staging_folder(
    target: Path, record: Mapping[str, object], what: str, error: type[VeriserumError]
) -> Iterator[Path]:
    """Lock the folder of unfinished work, new or left by the same work, and report errors of the disk.

    Parameters
    ----------
    target : folder that is to be made.
    record : what makes two pieces of work the same, as JSON.
    what : what it is called in messages, such as ``"conversion"``.
    error : raised where the folder cannot be used.

    """
    incomplete = incomplete_folder(target)
    if target.is_mount():
        raise error(f"{target} is a mount point and cannot be replaced in one step. Choose a folder in it.")
    try:
        incomplete.mkdir(parents=True, exist_ok=True)
        with FileLock(incomplete / "lock", timeout=0):
            record_file = incomplete / "record.json"
            if not record_file.exists():
                write_file(record_file, json.dumps(record))
            elif json.loads(record_file.read_text()) != json.loads(json.dumps(record)):
                raise error(
                    f"{incomplete} holds an unfinished {what} with other input, options or versions. Finish it with "
                    "the same ones, choose another folder, or remove it."
                )
            remove_abandoned(incomplete)
            yield incomplete
    except Timeout:
        raise error(f"Another {what} is writing to {incomplete}. Wait for it, or stop it.") from None
    except OSError as problem:
        raise error(
            f"Cannot write below {incomplete}: {problem.strerror or problem}. What is finished is kept: free "
            "disk space or grant write permission, then run the same command again to resume."
        ) from problem


def put_in_place(whole: Path, target: Path) -> None:
    """Rename a finished folder below the unfinished work to the target, in one step, and remove the rest of it."""
    if target.exists():
        target.rmdir()  # empty, or the work would not have come this far
    whole.rename(target)
    shutil.rmtree(incomplete_folder(target))
