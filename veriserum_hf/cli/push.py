"""What the two commands that push to the hub share."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from veriserum_hf.cli.output import print_json, print_text, show_progress, warn

if TYPE_CHECKING:
    from veriserum_hf.hub import Pushed

_KEPT = "; uploaded files are kept; run the same command again to resume"


def push_with_progress(push: Callable[..., "Pushed"], version: str, *, dry_run: bool, as_json: bool) -> None:
    """Push, and print what was uploaded, or would be.

    Parameters
    ----------
    push : takes ``version``, ``dry_run`` and ``progress``.
    version : the tag.
    dry_run : only look.
    as_json : print one JSON document.

    """
    from dataclasses import asdict

    with show_progress("uploading", "files", when_interrupted=_KEPT) as progress:
        pushed = push(version=version, dry_run=dry_run, progress=progress)
    if as_json:
        print_json(asdict(pushed) | {"version": version, "dry_run": dry_run})
        return
    if dry_run:
        for path in pushed.uploaded:
            print_text(path)
    if pushed.not_compared:
        warn(f"not compared with the hub: {pushed.not_compared}")
    done = "would be uploaded" if dry_run else "uploaded"
    counts = f"{len(pushed.uploaded)} files {done}, {len(pushed.already_there)} were there"
    print_text(f"{counts}: {pushed.url}, version {version}")
