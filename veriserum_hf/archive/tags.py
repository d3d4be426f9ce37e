"""Tags of TIFF directories, which EXIF uses too."""

import re
import struct
from collections.abc import Iterator

from veriserum_hf.errors import FrameError

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 274
_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the unsigned whole numbers
_MOST_VALUES = 1_000_000
_MOST_DIRECTORIES = 100_000
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])")

Tags = dict[int, tuple[int, ...]]


def directories(data: bytes) -> Iterator[Tags]:
    """The tags with whole numbers of every directory of a TIFF or BigTIFF file; others have no values.

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


def _directory(data: bytes, place: int, order: str, big: bool) -> tuple[Tags, int]:
    """Tags of one directory, and where the next one is."""
    entry, inline, number = (20, 8, "Q") if big else (12, 4, "I")
    (count,) = _unpack(order + ("Q" if big else "H"), data, place)
    first = place + (8 if big else 2)
    if first + count * entry > len(data):
        raise FrameError("truncated", f"the TIFF breaks off after {len(data)} bytes, within its directory")
    tags: Tags = {}
    for at in range(first, first + count * entry, entry):
        tag, kind, values = _unpack(f"{order}HH{number}", data, at)
        tags[tag] = ()
        if kind in _FORMATS and values <= _MOST_VALUES:
            form = f"{order}{values}{_FORMATS[kind]}"
            where = at + entry - inline
            if struct.calcsize(form) > inline:
                (where,) = _unpack(order + number, data, where)
            tags[tag] = _unpack(form, data, where)
    (after,) = _unpack(order + number, data, first + count * entry)
    return tags, after


def _unpack(form: str, data: bytes, place: int) -> tuple[int, ...]:
    if place + struct.calcsize(form) > len(data):
        raise FrameError("truncated", f"the TIFF breaks off after {len(data)} bytes")
    return struct.unpack_from(form, data, place)


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


def without_orientation(data: bytes) -> bytes:
    """The same TIFF with the orientation 1 in its first directory.

    Raises
    ------
    FrameError
        With the reason ``unreadable`` where the tag is not stored as a short number.

    """
    if orientation(next(directories(data), {})) == 1:
        return data
    order, big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    place = _unpack(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    found = data.find(struct.pack(order + ("HHQ" if big else "HHI"), ORIENTATION, 3, 1), place)
    if found < 0:
        raise FrameError("unreadable", "the orientation of the TIFF is not a short number")
    at = found + (12 if big else 8)
    return data[:at] + struct.pack(order + "H", 1) + data[at + 2 :]
