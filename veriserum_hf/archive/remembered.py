"""The archive that is used where none is given: that of the environment, or the one that the user has chosen once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from veriserum_hf.archive.layout import find_layout
from veriserum_hf.archive.problems import Findings
from veriserum_hf.errors import ArchiveError
from veriserum_hf.jobs import write_file

ARCHIVE_VARIABLE = "VERISERUM_ARCHIVE"
WAYS_TO_AN_ARCHIVE = f"Set {ARCHIVE_VARIABLE} to the folder of the download, or run `veriserum use PATH` once"


class ChosenArchive(NamedTuple):
    """The archive to use where none is given, and what states it."""

    path: Path
    stated_by: str


def chosen_archive() -> ChosenArchive | None:
    """Return the archive of ``VERISERUM_ARCHIVE``, else the remembered one, or None without either.

    Raises
    ------
    ArchiveError
        If there is nothing at its path.

    """
    stated = os.environ.get(ARCHIVE_VARIABLE)
    if stated:
        chosen = ChosenArchive(Path(stated).expanduser().absolute(), ARCHIVE_VARIABLE)
    elif (kept := _kept()) is not None:
        chosen = ChosenArchive(kept, "`veriserum use`")
    else:
        return None
    if not chosen.path.exists():
        raise ArchiveError(
            f"there is nothing at {chosen.path}, which {chosen.stated_by} states. Make it available there, or state "
            f"another: {WAYS_TO_AN_ARCHIVE}"
        )
    return chosen


def remember_archive(path: Path) -> Path:
    """Remember an archive for this user; return its absolute path.

    Raises
    ------
    ArchiveError
        If there is no archive, or the choice cannot be written; the earlier choice stays.

    """
    find_layout(path, Findings())
    found = path.expanduser().absolute()
    with _written() as file:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, os.fsencode(found))
    return found


def forget_archive() -> None:
    """Forget the remembered archive, if there is one; ArchiveError if that cannot be written."""
    with _written() as file:
        file.unlink(missing_ok=True)


def _file() -> Path:
    """File of the choice, among the user's settings."""
    settings = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(settings).expanduser() / "veriserum" / "archive"


def _kept() -> Path | None:
    try:
        return Path(os.fsdecode(_file().read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArchiveError(f"cannot read {_file()}: {error.strerror}. Set {ARCHIVE_VARIABLE} instead") from error


@contextmanager
def _written() -> Iterator[Path]:
    """Yield the file of the choice to write."""
    try:
        yield _file()
    except OSError as error:
        raise ArchiveError(f"cannot write {_file()}: {error.strerror}. Set {ARCHIVE_VARIABLE} instead") from error
