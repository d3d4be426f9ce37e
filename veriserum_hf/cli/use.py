"""``veriserum use``."""

from pathlib import Path
from typing import Annotated

import typer

from veriserum_hf.cli.output import print_text, warn
from veriserum_hf.errors import ArchiveError


def use(
    archive: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH", help="Folder of the download, its database, or its pose CSV.", show_default=False
        ),
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Forget the remembered archive.")] = False,
) -> None:
    """Remember an archive, which load_dataset("veriserum") then takes; without PATH, print which one it takes.

    The path is kept in a file below XDG_CONFIG_HOME, or ~/.config. The environment variable VERISERUM_ARCHIVE takes
    precedence.

    Exit status: 0 done, 2 not done.

    Examples
    --------
    veriserum use ARCHIVE
    veriserum use
    veriserum use --forget
    """
    from veriserum_hf.archive import (
        ARCHIVE_VARIABLE,
        WAYS_TO_AN_ARCHIVE,
        chosen_archive,
        forget_archive,
        remember_archive,
    )

    if forget and archive is not None:
        raise ArchiveError(f"--forget takes no path, got {archive}: omit one of the two")
    if forget:
        forget_archive()
        print_text("no archive is remembered")
    elif archive is not None:
        print_text(f'load_dataset("veriserum") takes {remember_archive(archive)}')
    elif chosen := chosen_archive():
        print_text(f"{chosen.path} (of {chosen.stated_by})")
        return
    else:
        raise ArchiveError(f"no archive is chosen. {WAYS_TO_AN_ARCHIVE}")
    if (now := chosen_archive()) and now.stated_by == ARCHIVE_VARIABLE:
        warn(f"{ARCHIVE_VARIABLE} is set, and takes precedence: {now.path}")
