"""Strict decoding of TIFF: one image, whose strips or tiles decode to exactly their size."""

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

from veriserum_hf.archive.raw_image import Header, Levels, RawImage
from veriserum_hf.archive.tags import Tags, directories, orientation, without_orientation
from veriserum_hf.errors import FrameError

_NONE, _LZW, _PACKBITS, _DEFLATE = 1, 5, 32773, (8, 32946)
_COMPRESSIONS = {
    2: "CCITT",
    3: "CCITT",
    4: "CCITT",
    6: "JPEG",
    7: "JPEG",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "ZSTD",
    50001: "WebP",
    50002: "JPEG XL",
}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = 0, 1, 2, 3
_SAVE = "save it with 8 or 16 bits of grey and LZW, deflate or no compression"
_muting = threading.Lock()


@dataclass(frozen=True)
class _Layout:
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


def read_header(data: bytes) -> Header:
    """Size and orientation; FrameError where there are none."""
    return _header(next(directories(data), {}))


def decode(data: bytes) -> RawImage:
    """Grey levels of a TIFF, (rows, columns, channels); 0 is black, also where the file says that it is white.

    Raises
    ------
    FrameError
        With the reason ``truncated``, ``damaged``, ``unreadable``, ``several images``, ``wrong channel count`` or
        ``wrong bit depth``.

    """
    pages = [tags for tags in directories(data) if not _value(tags, 254, 0) & 0b101]  # no previews, no masks
    if not pages:
        raise FrameError("truncated", f"no image can be found in the {len(data)} bytes of the TIFF")
    if len(pages) != 1:
        raise FrameError("several images", f"the TIFF holds {len(pages)} images, expected one; save each as a file")
    layout = _layout(pages[0], data)
    decoder = _by_libtiff if layout.compression == _LZW else _segments
    levels = decoder(data, layout)
    if layout.inverted:
        levels = _upright(levels)
    return RawImage(layout.header, levels, plain=layout.bits == 8 or (layout.bits == 16 and not layout.inverted))


def _value(tags: Tags, tag: int, default: int) -> int:
    values = tags.get(tag, ())
    return values[0] if values else default


def _header(tags: Tags) -> Header:
    width, height = _value(tags, 256, 0), _value(tags, 257, 0)
    if not width or not height:
        raise FrameError("damaged", "the TIFF states no size")
    return Header(width, height, orientation(tags))


def _layout(tags: Tags, data: bytes) -> _Layout:
    """Check what the tags state, and refuse what is no grey image of 8 to 16 bits."""
    header, compression, photometric = _header(tags), _value(tags, 259, _NONE), _value(tags, 262, _BLACK_IS_ZERO)
    channels, bits = _value(tags, 277, 1), tags.get(258, (1,))
    if not bits:
        raise FrameError("damaged", "the TIFF does not state the number of its bits")
    if compression not in (_NONE, _LZW, _PACKBITS, *_DEFLATE):
        name = _COMPRESSIONS.get(compression, f"unknown ({compression})")
        raise FrameError("unreadable", f"the compression of the TIFF is {name}; {_SAVE}")
    if compression == _LZW and (bits[0] not in (8, 16) or (bits[0] == 16 and channels > 1)):
        raise FrameError("wrong bit depth", f"the TIFF has {channels} channels of {bits[0]} bits, packed; {_SAVE}")
    if (predictor := _value(tags, 317, 1)) not in (1, 2):
        raise FrameError("unreadable", f"the predictor of the TIFF is unknown ({predictor}); {_SAVE}")
    if (kind := _value(tags, 339, 1)) != 1:
        name = {2: "signed whole numbers", 3: "floating-point numbers"}.get(kind, "of another kind")
        raise FrameError("wrong bit depth", f"the grey levels of the TIFF are {name}; {_SAVE}")
    if len(set(bits)) != 1 or bits[0] not in (8, 10, 12, 14, 16) or (bits[0] % 8 and channels > 1):
        raise FrameError("wrong bit depth", f"the TIFF has {' + '.join(map(str, bits))} bits; {_SAVE}")
    if photometric == _PALETTE:
        raise FrameError("wrong channel count", f"the TIFF has a palette; {_SAVE}")
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or not 1 <= channels <= 4:
        raise FrameError("wrong channel count", f"the TIFF has {channels} channels of another colour space; {_SAVE}")
    if channels > 1 and _value(tags, 284, 1) != 1:
        raise FrameError("wrong channel count", f"the TIFF has {channels} separate channels; {_SAVE}")
    if _value(tags, 266, 1) != 1:
        raise FrameError("unreadable", f"the bits of the TIFF are stored in reversed order; {_SAVE}")
    tiled = 322 in tags
    where, lengths = (324, 325) if tiled else (273, 279)
    height = _value(tags, 323, 0) if tiled else min(_value(tags, 278, header.height), header.height)
    width = _value(tags, 322, 0) if tiled else header.width
    if not 0 < height * width <= 2 * header.width * header.height + 1_000_000:
        raise FrameError("damaged", f"the TIFF states strips or tiles of {width} x {height} px")
    offsets, sizes = tags.get(where, ()), tags.get(lengths, ())
    expected = -(-header.height // height) * -(-header.width // width)
    if len(offsets) != expected or len(sizes) != expected:
        raise FrameError("damaged", f"the TIFF has {len(offsets)} strips or tiles, expected {expected}")
    for offset, size in zip(offsets, sizes, strict=True):
        if offset + size > len(data):
            raise FrameError("truncated", f"the TIFF breaks off after {len(data)} bytes")
    order = "<" if data[:2] == b"II" else ">"
    return _Layout(
        header,
        bits[0],
        channels,
        compression,
        inverted=photometric == _WHITE_IS_ZERO,
        predictor=predictor == 2,
        order=order,
        segment=(height, width),
        tiled=tiled,
        offsets=offsets,
        sizes=sizes,
    )


def _segments(data: bytes, layout: _Layout) -> Levels:
    """Levels of a TIFF of any other compression, strip by strip or tile by tile."""
    shape = layout.header.height, layout.header.width, layout.channels
    levels = np.empty(shape, np.uint8 if layout.bits == 8 else np.uint16)
    height, width = layout.segment
    across = -(-shape[1] // width)
    for index, (offset, size) in enumerate(zip(layout.offsets, layout.sizes, strict=True)):
        row, column = index // across * height, index % across * width
        rows = height if layout.tiled else min(height, shape[0] - row)
        row_bytes = -(-width * layout.channels * layout.bits // 8)
        content = memoryview(data)[offset : offset + size]
        stored = _DECODERS.get(layout.compression, _as_it_is)(content, rows * row_bytes)
        if len(stored) < rows * row_bytes:
            raise FrameError("truncated", f"a strip of the TIFF has {len(stored)} bytes, expected {rows * row_bytes}")
        each: Levels = _unpacked(
            np.frombuffer(stored, np.uint8, rows * row_bytes).reshape(rows, row_bytes), layout, width
        )
        if layout.predictor and layout.compression != _NONE:
            each = cast(Levels, np.cumsum(each, axis=1, dtype=each.dtype))
        target = levels[row : row + rows, column : column + width]
        target[...] = each[: target.shape[0], : target.shape[1]]
    return levels


def _inflated(content: memoryview, size: int) -> bytes:
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


def _from_packbits(content: memoryview, size: int) -> bytes:
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
        raise FrameError("damaged", f"a strip of the TIFF decodes to {found} bytes, expected {size}")
    return b"".join(parts)


def _as_it_is(content: memoryview, size: int) -> memoryview:
    return content


_DECODERS: dict[int, Callable[[memoryview, int], bytes | memoryview]] = {
    _PACKBITS: _from_packbits,
    **dict.fromkeys(_DEFLATE, _inflated),
}


def _unpacked(rows: NDArray[np.uint8], layout: _Layout, width: int) -> Levels:
    """Levels (rows, columns, channels) of rows of bytes."""
    if layout.bits == 8:
        levels: Levels = rows
    elif layout.bits == 16:
        levels = rows.view(layout.order + "u2").astype(np.uint16, copy=False)
    else:
        bits = np.unpackbits(rows, axis=1, count=width * layout.bits).reshape(len(rows), width, layout.bits)
        levels = bits @ (2 ** np.arange(layout.bits - 1, -1, -1)).astype(np.uint16)
    return levels.reshape(len(rows), width, layout.channels)


def _by_libtiff(data: bytes, layout: _Layout) -> Levels:
    """Levels of a TIFF of LZW, by Pillow."""
    try:
        with _muted(), Image.open(io.BytesIO(without_orientation(data)), formats=["TIFF"]) as image:
            levels = np.asarray(image)
    # Pillow's errors for tags that it does not expect are of many kinds.
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        raise FrameError("damaged", f"decoding the TIFF: {error}") from error
    expected = layout.header.height, layout.header.width
    if levels.shape[:2] != expected or levels.dtype.itemsize != -(-layout.bits // 8):
        raise FrameError("unreadable", f"Pillow decodes the TIFF to {levels.shape} {levels.dtype}; {_SAVE}")
    if layout.inverted and layout.bits == 8:
        levels = ~levels  # Pillow inverts those of 8 bits alone
    kind = np.uint8 if layout.bits == 8 else np.uint16
    return cast(Levels, levels.astype(kind, copy=False).reshape(*expected, -1))


@contextmanager
def _muted() -> Iterator[None]:
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


def _upright(levels: Levels) -> Levels:
    """Levels whose 0 was white."""
    if levels.dtype == np.uint16 and levels.max() < 2**15:
        detail = f"0 is white in the TIFF, whose highest level is {levels.max()} of 65535: where black is, is unknown"
        raise FrameError("wrong polarity", f"{detail}; save it with 0 as black")
    return ~levels
