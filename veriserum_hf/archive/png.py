"""Strict decoding of PNG: every chunk's checksum is compared."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from PIL import Image

from veriserum_hf.archive.raw_image import Header, Levels, RawImage
from veriserum_hf.archive.tags import orientation_of_exif, orientation_of_xmp
from veriserum_hf.errors import FrameError

MAGIC = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True)
class _Chunks:
    """What the chunks state, and where those of the image lie."""

    header: Header
    bits: int
    colour: int
    image: list[tuple[int, int]]  # first byte and the one after the last, length and checksum included
    ended: bool
    wrong: str | None  # the first chunk whose checksum is wrong


def read_header(data: bytes) -> Header:
    """Size and orientation; FrameError where there are none."""
    return _read_chunks(data, check=False).header


def decode(data: bytes) -> RawImage:
    """Grey levels of a PNG, (rows, columns, channels).

    Raises
    ------
    FrameError
        With the reason ``truncated``, ``damaged``, ``wrong channel count`` or ``wrong bit depth``.

    """
    chunks = _read_chunks(data, check=True)
    if not chunks.ended:
        raise FrameError("truncated", f"the PNG breaks off after {len(data)} bytes")
    if chunks.wrong:
        raise FrameError("damaged", f"the checksum of the PNG's chunk {chunks.wrong} is wrong")
    if chunks.colour == _PALETTE:
        raise FrameError("wrong channel count", "it is a PNG with a palette; save it with one grey channel")
    if chunks.bits not in (8, 16):
        raise FrameError("wrong bit depth", f"it is a PNG of {chunks.bits} bits, expected 8 or 16")
    # Colour profiles, gamma and text are left out: they do not change the levels, and libraries warn of some.
    critical = MAGIC + b"".join(data[first:last] for first, last in chunks.image)
    levels = _grey(critical) if chunks.colour == _GREY else _coloured(critical)
    shape = chunks.header.height, chunks.header.width, _CHANNELS[chunks.colour]
    return RawImage(chunks.header, levels.reshape(*shape[:2], -1))


def _grey(png: bytes) -> Levels:
    """Decode one channel by Pillow, which prints nothing where the compressed data are wrong."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            return cast(Levels, np.asarray(image))
    except (OSError, SyntaxError, ValueError) as error:
        raise FrameError("damaged", f"decoding the PNG: {error}") from error


def _coloured(png: bytes) -> Levels:
    """Decode several channels by OpenCV, which keeps their 16 bits."""
    levels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None:
        raise FrameError("damaged", "the compressed data of the PNG are wrong")
    return cast(Levels, levels)


def _read_chunks(data: bytes, *, check: bool) -> _Chunks:
    """Walk through the chunks; ``check`` compares checksums."""
    size, image, orientation = (0, 0, 0, 0), [], 1
    wrong, ended, place = None, False, len(MAGIC)
    while not ended and place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        last = place + 12 + length
        if last > len(data):
            break
        content = memoryview(data)[place + 8 : last - 4]
        if check and wrong is None and zlib.crc32(content, zlib.crc32(name)) != int.from_bytes(data[last - 4 : last]):
            wrong = name.decode("latin-1")
        if name == b"IHDR" and length == 13:
            size = struct.unpack(">IIBB", content[:10])
        elif name == b"eXIf":
            orientation = orientation_of_exif(bytes(content))
        elif name == b"iTXt" and orientation == 1 and bytes(content[:17]) == b"XML:com.adobe.xmp":
            orientation = orientation_of_xmp(bytes(content))
        if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            image.append((place, last))
        ended, place = name == b"IEND", last
    if size == (0, 0, 0, 0):
        raise FrameError("truncated", "the PNG breaks off within its header")
    width, height, bits, colour = size
    if colour not in _CHANNELS:
        raise FrameError("damaged", f"the PNG states a colour type {colour}, which does not exist")
    return _Chunks(Header(width, height, orientation, bits), bits, colour, image, ended, wrong)
