"""The levels of one image of a TIFF file, whose strips or tiles must decode to exactly their size."""

import io
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veriserum_hf.archive.raw_image import Header, Levels
from veriserum_hf.archive.tags import Content, Tags, one_page
from veriserum_hf.errors import FrameError

NONE, LZW, PACKBITS, DEFLATE = 1, 5, 32773, (8, 32946)
SAVE = "save it with 8 or 16 bits of grey and LZW, deflate or no compression"
_muting = threading.Lock()


@dataclass(frozen=True)
class Layout:
    """How the levels of one image are stored."""

    header: Header
    bits: int
    channels: int
    compression: int
    inverted: bool
    predictor: bool
    order: str
    segment: tuple[int, int]  # (height, width) of strips or tiles, px
    tiled: bool
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    tags: Tags


def stored_levels(data: Content, layout: Layout) -> Levels:
    """Levels of one image as they are stored, (rows, columns, channels).

    Raises
    ------
    FrameError
        With the reason ``truncated``, ``damaged`` or ``unreadable``.

    """
    return _by_libtiff(data, layout) if layout.compression == LZW else _segments(data, layout)


def _parts(data: Content, layout: Layout) -> Iterator[bytes]:
    """Bytes of every strip or tile, but not many more than it can need."""
    height, width = layout.segment
    most = 4 * height * width * layout.channels * layout.bits // 8 + 1_000_000
    for offset, size in zip(layout.offsets, layout.sizes, strict=True):
        yield data[offset : offset + min(size, most)]


def _segments(data: Content, layout: Layout) -> Levels:
    """Levels of a TIFF of any other compression, strip by strip or tile by tile."""
    shape = layout.header.height, layout.header.width, layout.channels
    levels = np.empty(shape, np.uint8 if layout.bits == 8 else np.uint16)
    height, width = layout.segment
    across = -(-shape[1] // width)
    for index, content in enumerate(_parts(data, layout)):
        row, column = index // across * height, index % across * width
        rows = height if layout.tiled else min(height, shape[0] - row)
        row_bytes = -(-width * layout.channels * layout.bits // 8)
        stored = _DECODERS.get(layout.compression, _as_it_is)(content, rows * row_bytes)
        if len(stored) < rows * row_bytes:
            raise FrameError("truncated", f"a strip of the TIFF has {len(stored)} bytes, expected {rows * row_bytes}")
        each: Levels = _unpacked(
            np.frombuffer(stored, np.uint8, rows * row_bytes).reshape(rows, row_bytes), layout, width
        )
        if layout.predictor and layout.compression != NONE:
            each = cast(Levels, np.cumsum(each, axis=1, dtype=each.dtype))
        target = levels[row : row + rows, column : column + width]
        target[...] = each[: target.shape[0], : target.shape[1]]
    return levels


def _inflated(content: bytes, size: int) -> bytes:
    """Deflated bytes, whose checksum zlib compares where the stream ends."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(content, size + 1)
        whole = stream.eof or not stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise FrameError("damaged", f"decoding the TIFF: {error}") from error
    if len(found) != size or not whole or not stream.eof:
        raise FrameError("damaged", f"a strip of the TIFF decodes to {len(found)} bytes, expected {size}")
    return found


def from_packbits(content: bytes, size: int) -> bytes:
    """Bytes of PackBits: runs of literal and of repeated bytes, which must end where the strip does."""
    parts: list[bytes] = []
    place = found = 0
    while place < len(content) and found < size:
        head = content[place]
        if head < 128:
            part = bytes(content[place + 1 : place + head + 2])
            place += head + 2
        else:
            part = bytes(content[place + 1 : place + 2]) * (257 - head if head > 128 else 0)
            place += 2 if head > 128 else 1
        parts.append(part)
        found += len(part)
    if found != size or len(content) - place > 1:  # strips may be padded to an even length
        raise FrameError("damaged", f"a PackBits part decodes to {found} bytes, expected {size}")
    return b"".join(parts)


def _as_it_is(content: bytes, size: int) -> bytes:
    return content


_DECODERS: dict[int, Callable[[bytes, int], bytes]] = {
    PACKBITS: from_packbits,
    **dict.fromkeys(DEFLATE, _inflated),
}


def _unpacked(rows: NDArray[np.uint8], layout: Layout, width: int) -> Levels:
    """Levels (rows, columns, channels) of rows of bytes."""
    if layout.bits == 8:
        levels: Levels = rows
    elif layout.bits == 16:
        levels = rows.view(layout.order + "u2").astype(np.uint16, copy=False)
    else:
        bits = np.unpackbits(rows, axis=1, count=width * layout.bits).reshape(len(rows), width, layout.bits)
        levels = bits @ (2 ** np.arange(layout.bits - 1, -1, -1)).astype(np.uint16)
    return levels.reshape(len(rows), width, layout.channels)


def _by_libtiff(data: Content, layout: Layout) -> Levels:
    """Levels of a TIFF of LZW, by Pillow."""
    segments = (324, 325) if layout.tiled else (273, 279)
    alone = one_page(layout.order, layout.tags, segments, list(_parts(data, layout)))
    try:
        with muted(), Image.open(io.BytesIO(alone), formats=["TIFF"]) as image:
            levels = np.asarray(image)
    # Pillow's errors for tags that it does not expect are of many kinds.
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        raise FrameError("damaged", f"decoding the TIFF: {error}") from error
    expected = layout.header.height, layout.header.width
    if levels.shape[:2] != expected or levels.dtype.itemsize != -(-layout.bits // 8):
        raise FrameError("unreadable", f"Pillow decodes the TIFF to {levels.shape} {levels.dtype}; {SAVE}")
    if layout.inverted and layout.bits == 8:
        levels = ~levels  # Pillow inverts those of 8 bits alone
    kind = np.uint8 if layout.bits == 8 else np.uint16
    return cast(Levels, levels.astype(kind, copy=False).reshape(*expected, -1))


@contextmanager
def muted() -> Iterator[None]:
    """Nothing on standard error: libtiff writes there without the name of the file, and Pillow raises as well."""
    with _muting:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)
