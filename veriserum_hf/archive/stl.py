"""Triangles of an STL file, binary or text, as the programs of many laboratories write them."""

import array
import re
from dataclasses import dataclass

import numpy as np

from veriserum_hf.core import FloatArray
from veriserum_hf.errors import FrameError

MOST_TRIANGLES = 5_000_000  # 250 MB as binary STL
_HEADER_BYTES, _TRIANGLE_BYTES = 84, 50
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_AFTER_TEXT = b" \t\r\n\0\x1a"  # padding, and the end mark of old systems

# What one part of a pattern has taken is never given back (++, *+): a line of millions of digits is read once.
_NUMBER = rb"([-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:e[-+]?\d++)?)"
_CORNER = rb"vertex\s++" + rb"\s++".join([_NUMBER] * 3)
# Normals are not used: some programs write nan there.
_FACET = re.compile(
    rb"\s*+facet\s++normal\s++\S++\s++\S++\s++\S++\s++outer\s++loop\s++"
    + rb"\s++".join([_CORNER] * 3)
    + rb"\s++endloop\s++endfacet(?=\s|$)",
    re.IGNORECASE,
)
_SOLID = re.compile(rb"\s*+solid(?=\s|$)[^\r\n]*+", re.IGNORECASE)
_END = re.compile(rb"\s*+endsolid(?=\s|$)[^\r\n]*+", re.IGNORECASE)
_WORDS: tuple[str | None, ...] = (  # None: a number
    *("facet", "normal", None, None, None, "outer", "loop"),
    *("vertex", None, None, None) * 3,
    *("endloop", "endfacet"),
)


@dataclass(frozen=True)
class Stl:
    """Content of an STL file.

    Attributes
    ----------
    corners_mm : (n, 3, 3) corners of every triangle, as stored.
    solids : number of solids that a text file names; 1 for a binary one.
    clean : whether any reader accepts the file: not so with bytes after the end, or text of another encoding.
    doubt : why triangles may be missing; empty if nothing suggests that.
    binary : whether every reader gets exactly these corners; numbers of a text may be rounded differently.

    """

    corners_mm: FloatArray
    solids: int
    clean: bool
    doubt: str = ""
    binary: bool = False


def parse_stl(data: bytes, name: str) -> Stl:
    """Triangles of an STL file.

    Parameters
    ----------
    data : the file's bytes.
    name : of the file, for messages.

    Raises
    ------
    FrameError
        With the reason ``unreadable`` where it is not STL, is cut off, or has more than five million triangles.

    """
    text = data.removeprefix(_UTF8_MARK)
    if data.startswith(_UTF16_MARKS):
        text = data.decode("utf-16", errors="replace").encode()
    count = int.from_bytes(data[80:_HEADER_BYTES], "little")
    exact = len(data) >= _HEADER_BYTES and len(data) == _HEADER_BYTES + count * _TRIANGLE_BYTES
    if not exact and _SOLID.match(text) and b"\0" not in text[: 2 * _HEADER_BYTES]:
        return _text(text, name, clean=data.startswith(b"solid") and data.isascii())
    trailing = len(data) - _HEADER_BYTES - count * _TRIANGLE_BYTES
    if len(data) < _HEADER_BYTES or trailing < 0:
        room = max(0, len(data) - _HEADER_BYTES) // _TRIANGLE_BYTES
        raise FrameError(
            "unreadable",
            f"{name} is not an STL mesh, or only part of one ({len(data)} bytes; as binary STL it states {count} "
            f"triangles and has room for {room})",
        )
    _check_count(count, name)
    triangles = np.frombuffer(data, _TRIANGLE, count, _HEADER_BYTES)
    doubt = f"{trailing} bytes follow the {count} triangles that it states" if trailing >= _TRIANGLE_BYTES else ""
    return Stl(triangles["corners"].astype(np.float64), 1, exact, doubt, binary=True)


def _check_count(count: int, name: str) -> None:
    if count > MOST_TRIANGLES:
        raise FrameError(
            "unreadable",
            f"{name} has more than {MOST_TRIANGLES:,} triangles, expected at most that; reduce their number",
        )


def _text(text: bytes, name: str, *, clean: bool) -> Stl:
    position = solids = 0
    numbers = array.array("d")
    ended = True
    while ended and (start := _SOLID.match(text, position)):
        solids, position = solids + 1, start.end()
        while facet := _FACET.match(text, position):
            numbers.extend(map(float, facet.groups()))
            position = facet.end()
            _check_count(len(numbers) // 9, name)
        end = _END.match(text, position)
        ended, position = end is not None, end.end() if end else position
    if rest := text[position : position + 10_000].strip(_AFTER_TEXT):
        where = f"triangle {len(numbers) // 9 + 1} of {name}" if not ended else f"{name}, after its last solid"
        raise FrameError("unreadable", f"{where}: {_first_difference(rest)}")
    corners_mm = np.frombuffer(numbers, np.float64).reshape(-1, 3, 3)
    doubt = "" if ended else "it breaks off before the word endsolid"
    return Stl(corners_mm, solids, clean and ended and solids == 1, doubt)


def _first_difference(rest: bytes) -> str:
    """What was found where a triangle was expected, and what should be there."""
    found = rest.decode(errors="replace").split(maxsplit=len(_WORDS))[: len(_WORDS)]
    number = re.compile(_NUMBER.decode(), re.IGNORECASE | re.ASCII)
    for index, expected in enumerate(_WORDS):
        if index >= len(found):
            return f"it ends where {_named(expected)} was expected"
        fits = found[index].lower() == expected if expected else index < 5 or number.fullmatch(found[index])
        if not fits:
            return f"found {found[index][:40]!a}, expected {_named(expected)}"
    return "it is not followed by another facet or by endsolid"


def _named(word: str | None) -> str:
    return f"the word {word}" if word else "a finite number"
