"""Tags of TIFF directories, which EXIF uses too."""

import re
import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from veriserum_hf.errors import FrameError

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION, DESCRIPTION = 274, 270
_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the unsigned whole numbers
_TEXT = 2
_MOST_VALUES = 1_000_000
_MOST_DIRECTORIES = 100_000
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])")

Tags = dict[int, tuple[int, ...]]


class Content(Protocol):
    """Bytes of a file, in memory or read where they are needed."""

    def __len__(self) -> int:
        """Size of the file, bytes."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Bytes of a part."""


def directories(data: Content) -> Iterator[Tags]:
    """The tags with whole numbers of every directory of a TIFF or BigTIFF file; others have no values.

    The text of the description counts as bytes.

    Raises
    ------
    FrameError
        With the reason ``truncated`` where the file ends before a directory does.

    """
    order, big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    place = _unpack(order + "Q", data, 8)[0] if big else _unpack(order + "I", data, 4)[0]
    seen: set[int] = set()
    while place and place not in seen and len(seen) < _MOST_DIRECTORIES:
        seen.add(place)
        tags, place = _directory(data, place, order, big)
        yield tags


def _directory(data: Content, place: int, order: str, big: bool) -> tuple[Tags, int]:
    """Tags of one directory, and where the next one is."""
    entry, inline, number = (20, 8, "Q") if big else (12, 4, "I")
    (count,) = _unpack(order + ("Q" if big else "H"), data, place)
    first = place + (8 if big else 2)
    if first + count * entry > len(data):
        raise FrameError("truncated", f"the TIFF breaks off after {len(data)} bytes, within its directory")
    tags: Tags = {}
    left = 4 * _MOST_VALUES  # the same bytes may be the values of many tags
    for at in range(first, first + count * entry, entry):
        tag, kind, values = _unpack(f"{order}HH{number}", data, at)
        tags[tag] = ()
        letter = "B" if kind == _TEXT and tag == DESCRIPTION else _FORMATS.get(kind)
        if letter and values <= min(_MOST_VALUES, left):
            left -= values
            form = f"{order}{values}{letter}"
            where = at + entry - inline
            if struct.calcsize(form) > inline:
                (where,) = _unpack(order + number, data, where)
            tags[tag] = _unpack(form, data, where)
    (after,) = _unpack(order + number, data, first + count * entry)
    return tags, after


def _unpack(form: str, data: Content, place: int) -> tuple[int, ...]:
    end = place + struct.calcsize(form)
    if end > len(data):
        raise FrameError("truncated", f"the TIFF breaks off after {len(data)} bytes")
    return struct.unpack(form, data[place:end])


def orientation(tags: Tags) -> int:
    """Orientation of an image by its tags; 1 where they state none, or one that does not exist."""
    stated = tags.get(ORIENTATION, ())
    return stated[0] if len(stated) == 1 and 1 <= stated[0] <= 8 else 1


def orientation_of_exif(data: bytes) -> int:
    """Orientation that EXIF states; 1 where it states none or cannot be read."""
    if data[:4] not in MAGICS:
        return 1
    try:
        return orientation(next(directories(data), {}))
    except FrameError:
        return 1


def orientation_of_xmp(data: bytes) -> int:
    """Orientation that XMP states; 1 where it states none."""
    found = _XMP_ORIENTATION.search(data)
    return int(found[1]) if found else 1


def one_page(order: str, tags: Tags, segments: tuple[int, int], parts: Sequence[bytes]) -> bytes:
    """A TIFF file with one image.

    Parameters
    ----------
    order : its byte order, ``<`` or ``>``.
    tags : what it states; those without values are left out.
    segments : the tags of the places and of the sizes of strips or tiles.
    parts : the bytes of these.

    """
    sizes = [len(part) for part in parts]
    kept = {**tags, segments[0]: tuple(sizes), segments[1]: tuple(sizes)}  # the places follow
    kept = {tag: kept[tag] for tag in sorted(kept) if kept[tag]}
    kinds = {tag: 4 if tag in segments or max(values) > 0xFFFF else 3 for tag, values in kept.items()}
    forms = {tag: f"{order}{len(values)}{_FORMATS[kinds[tag]]}" for tag, values in kept.items()}
    outside = 14 + 12 * len(kept)
    first = outside + sum(size for form in forms.values() if (size := struct.calcsize(form)) > 4)
    kept[segments[0]] = tuple(accumulate(sizes[:-1], initial=first))
    entries, values = b"", b""
    for tag, numbers in kept.items():
        content = struct.pack(forms[tag], *numbers)
        entries += struct.pack(order + "HHI", tag, kinds[tag], len(numbers))
        if len(content) > 4:
            entries += struct.pack(order + "I", outside + len(values))
            values += content
        else:
            entries += content.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(kept))
    return b"".join([head, entries, bytes(4), values, *parts])
