"""Frames that are copies of each other, byte for byte: no two exposures are the same."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress

import pyarrow as pa

from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.problems import Findings
from veriserum_hf.core import PLANES, listed

_PIECE_BYTES = 4096


def report_copies(frames: pa.Table, layout: Layout, findings: Findings) -> None:
    """Report frames of the archive, by ``FRAME_SCHEMA``, that hold the same bytes as another one.

    Files of other sizes differ, and nearly all others differ in a piece from their centre: only the rest is read.
    """
    size_of = {file.path: file.size_bytes for files in layout.frames.values() for file in files.values()}
    paths = [path for plane in PLANES for path in frames[f"path_{plane}"].to_pylist() if path and size_of[path]]
    groups: Iterable[list[str]] = [paths]
    for key in (lambda path: size_of[path], lambda path: _piece(path, size_of[path]), _hash):
        groups = list(_with_same(groups, key))
    for first, *others in groups:
        findings.problem(
            "identical frames",
            layout.relative(first),
            f"it holds the same bytes as {listed(layout.relative(path) for path in others)}, expected another image "
            "in every file",
            "Restore the files from the download; at most one of them shows its frame. They are kept.",
        )


def _with_same(groups: Iterable[list[str]], key: Callable[[str], Hashable]) -> Iterator[list[str]]:
    """Groups of paths with the same key, of those within one group; without those that are alone."""
    for group in groups:
        by_key: defaultdict[Hashable, list[str]] = defaultdict(list)
        for path in group:
            with suppress(OSError):  # decoding it reports why
                by_key[key(path)].append(path)
        yield from (same for same in by_key.values() if len(same) > 1)


def _piece(path: str, size_bytes: int) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - of a hundred thousand files
        file.seek(max(0, size_bytes // 2 - _PIECE_BYTES // 2))
        return file.read(_PIECE_BYTES)


def _hash(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").digest()
