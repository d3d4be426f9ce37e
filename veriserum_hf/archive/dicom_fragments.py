"""Where the frames of a DICOM file lie, so that each can be read by itself."""

import os
import struct
from itertools import pairwise
from typing import BinaryIO

from veriserum_hf.errors import FrameError

Frames = tuple[tuple[tuple[int, int], ...], ...]
_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF
_MOST_ITEMS = 2_000_000


def frames_of_native(file: BinaryIO, count: int, frame_bytes: int, order: str, *, explicit: bool) -> Frames:
    """Of every frame, (place, size) in a file that stands at its pixels, which are not compressed."""
    length = _begin(file, order, explicit=explicit)
    if length == _UNDEFINED:
        raise FrameError("damaged", "the DICOM file states pixels that are not compressed, but stores them in parts")
    first, end = file.tell(), os.fstat(file.fileno()).st_size
    if first + count * frame_bytes > end:
        whole = f"{count} frames of {frame_bytes} bytes"
        raise FrameError(
            "truncated", f"the DICOM file states {whole}, and breaks off after {end - first} of them all"
        )
    if count * frame_bytes > length:
        raise FrameError(
            "damaged", f"the pixels of the DICOM file have {length} bytes, expected {count * frame_bytes}"
        )
    if length - count * frame_bytes >= frame_bytes:  # and not a few bytes of padding
        stated = f"{count} frames of {frame_bytes} bytes"
        raise FrameError("damaged", f"the DICOM file states {stated}, and has {length} bytes of pixels")
    return tuple(((first + k * frame_bytes, frame_bytes),) for k in range(count))


def frames_of_items(file: BinaryIO, count: int, frame_bytes: int) -> Frames:
    """Of every frame, (place, size) of its fragments in a file that stands at its compressed pixels."""
    if _begin(file, "<", explicit=True) != _UNDEFINED:
        raise FrameError("damaged", "the DICOM file states compressed pixels, but stores them in one part")
    table, *fragments = _items(file)
    if count == 1:
        frames: Frames = (tuple(fragments),)
    elif len(fragments) == count:
        frames = tuple((each,) for each in fragments)
    else:
        frames = _by_offsets(file, table, fragments, count)
    most = 2 * frame_bytes + 1_000_000
    if large := next((sum(size for _, size in frame) for frame in frames if sum(s for _, s in frame) > most), 0):
        raise FrameError("damaged", f"a frame of the DICOM file has {large} bytes, expected at most {most}")
    return frames


def _begin(file: BinaryIO, order: str, *, explicit: bool) -> int:
    """Length of the pixels, whose first byte comes next."""
    head = file.read(12 if explicit else 8)
    if len(head) < 8:
        raise FrameError("truncated", "the DICOM file ends before its pixels, or has none")
    if struct.unpack(order + "HH", head[:4]) != _PIXEL_DATA:
        raise FrameError("wrong bit depth", "the pixels of the DICOM file are no whole numbers")
    length: int = struct.unpack(order + "I", head[-4:])[0]
    return length


def _items(file: BinaryIO) -> list[tuple[int, int]]:
    """(place, size) of the table of offsets and of every fragment."""
    end = os.fstat(file.fileno()).st_size
    found: list[tuple[int, int]] = []
    while len(head := file.read(8)) == 8 and len(found) < _MOST_ITEMS:
        group, element, size = struct.unpack("<HHI", head)
        if (group, element) != _ITEM:
            break
        place = file.tell()
        if place + size > end:
            raise FrameError("truncated", f"the DICOM file breaks off after {end} bytes, within a frame")
        found.append((place, size))
        file.seek(size, os.SEEK_CUR)
    ended = len(head) == 8 and struct.unpack("<HH", head[:4]) == _END
    if len(found) < 2 or (not ended and len(head) == 8):
        raise FrameError("damaged", "the compressed pixels of the DICOM file are no list of fragments")
    return found


def _by_offsets(file: BinaryIO, table: tuple[int, int], fragments: list[tuple[int, int]], count: int) -> Frames:
    """Fragments of every frame by the table of offsets."""
    place, size = table
    if size != 4 * count:
        raise FrameError("truncated", f"the DICOM file states {count} frames, and has {len(fragments)} fragments")
    file.seek(place)
    offsets = struct.unpack(f"<{count}I", file.read(size))
    starts = {place - 8 - fragments[0][0] + 8: k for k, (place, _) in enumerate(fragments)}
    firsts = [starts.get(offset, -1) for offset in offsets]
    if firsts[0] != 0 or any(later <= one for one, later in pairwise(firsts)):
        raise FrameError("damaged", "the table of offsets of the DICOM file does not fit its fragments")
    ends = [*firsts[1:], len(fragments)]
    return tuple(tuple(fragments[first:last]) for first, last in zip(firsts, ends, strict=True))
