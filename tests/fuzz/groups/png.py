"""PNG files of frames."""

import struct

import cv2
import numpy as np

from tests.fuzz.cases import NOTICED, OPEN, SAFE, Case
from tests.fuzz.groups.frames import grey, png, saved
from tests.fuzz.png import chunk, png as png_of


@png(NOTICED)
def png_said_to_be_large(case: Case) -> str:
    """The header says many more pixels than the file holds."""
    path, size = (
        case.frame(),
        case.one(((16640, 16000), (100_000, 100_000), (2**31 - 1, 1), (416, 2**31 - 1), (0, 0))),
    )
    path.write_bytes(png_of(*size, b"\0" * 1000))
    return f"{path.name} {size}"


@png(NOTICED)
def bomb(case: Case) -> str:
    """A small file that holds 256 million black pixels."""
    path = case.frame()
    path.write_bytes(png_of(16000, 16000, bytes(16001 * 16000)))
    return path.name


@png(NOTICED)
def check_sum_wrong(case: Case) -> str:
    """A chunk's check sum is wrong."""
    path = case.frame()
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT") + 5000
    content[at] ^= 0xFF
    path.write_bytes(content)
    return path.name


@png(OPEN)
def odd_depth(case: Case) -> str:
    """A PNG of 1, 2 or 4 bits, with a palette, or with transparency."""
    return saved(case, lambda image: image.convert(case.one(("1", "P", "LA", "RGBA"))))


@png(SAFE)
def interlaced_or_gamma(case: Case) -> str:
    """A gamma or a profile that a viewer would heed."""
    path = case.frame()
    content = path.read_bytes()
    at = content.index(b"IDAT") - 4
    extra = case.one(((b"gAMA", struct.pack(">I", 10000)), (b"pHYs", bytes(9)), (b"tEXt", b"a\0" + bytes(900))))
    path.write_bytes(content[:at] + chunk(*extra) + content[at:])
    return f"{path.name} {extra[0].decode()}"


@png(NOTICED)
def one_deep_frame(case: Case) -> str:
    """One frame of 16 bits among those of 8."""
    path = case.frame()
    cv2.imwrite(str(path), grey(path).astype(np.uint16) * 257)
    return path.name
