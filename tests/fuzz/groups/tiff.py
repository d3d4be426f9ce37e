"""TIFF files of frames, of 8 and 16 bits."""

import io
import struct

import cv2
import numpy as np
import PIL.Image

from tests.fuzz.cases import NOTICED, OPEN, SAFE, Case, added_to
from tests.fuzz.groups.frames import grey, tiff8, tiff16

_in_both_tiffs = added_to(tiff8, tiff16)


def _tagged(case: Case, tag: int, value: int) -> str:
    """Store a frame with a tag of TIFF."""
    path = case.frame()
    image = PIL.Image.fromarray(grey(path))
    image.save(path, "TIFF", tiffinfo={tag: value})
    return f"{path.name} tag {tag} = {value}"


@_in_both_tiffs(SAFE)
def tiff_orientation(case: Case) -> str:
    """A tag says that the frame is to be rotated."""
    return _tagged(case, 274, case.random.randint(2, 8))


@_in_both_tiffs(NOTICED)
def several_pages(case: Case) -> str:
    """A TIFF of three pages."""
    path = case.frame()
    image = PIL.Image.fromarray(grey(path))
    image.save(path, "TIFF", save_all=True, append_images=[image, image])
    return path.name


@_in_both_tiffs(OPEN)
def zero_is_white(case: Case) -> str:
    """A TIFF whose zero is white: heeded, or refused."""
    path = case.frame()
    image = grey(path)
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "TIFF")
    content = bytearray(buffer.getvalue())
    at = content.find(struct.pack("<HHI", 262, 3, 1))
    if at >= 0:
        content[at + 8 : at + 10] = b"\0\0"
    path.write_bytes(content)
    return path.name


@_in_both_tiffs(OPEN)
def other_numbers(case: Case) -> str:
    """A TIFF of real numbers or of 32 bits."""
    path = case.frame()
    kind = case.one((np.float32, np.int32))
    PIL.Image.fromarray(grey(path).astype(kind)).save(path, "TIFF")
    return f"{path.name} {kind.__name__}"


@_in_both_tiffs(SAFE)
def compressed_with_a_hole(case: Case) -> str:
    """A compressed TIFF with a run of zeros."""
    path = case.frame()
    PIL.Image.fromarray(grey(path)).save(path, "TIFF", compression=case.one(("tiff_lzw", "tiff_adobe_deflate")))
    content = bytearray(path.read_bytes())
    at = case.random.randrange(200, len(content) - 600)
    content[at : at + 512] = bytes(512)
    path.write_bytes(content)
    return f"{path.name} at {at}"


@_in_both_tiffs(NOTICED)
def directory_wrong(case: Case) -> str:
    """A TIFF whose directory points to itself, outside, or says an absurd size."""
    path = case.frame()
    PIL.Image.fromarray(grey(path)).save(path, "TIFF")
    content = bytearray(path.read_bytes())
    how = case.one(("outside", "wide", "high", "strip"))
    if how == "outside":
        content[4:8] = struct.pack("<I", case.one((0, 2**31, 2**32 - 1)))
    else:
        tag = {"wide": 256, "high": 257, "strip": 273}[how]
        at = next(k for k in range(8, len(content)) if content[k : k + 2] == struct.pack("<H", tag))
        content[at + 8 : at + 12] = struct.pack("<I", 2**31 - 1)
    path.write_bytes(content)
    return f"{path.name} {how}"


@tiff16(SAFE)
def hot_pixels(case: Case) -> str:
    """Some pixels of a frame are at the highest level that 16 bits hold."""
    path = case.frame()
    image = grey(path).copy()
    count = case.one((1, 1, 3, 20))
    for _ in range(count):
        image[case.random.randrange(image.shape[0]), case.random.randrange(image.shape[1])] = 65535
    cv2.imwrite(str(path), image)
    return f"{path.name}: {count}"


@tiff16(NOTICED)
def over_exposed(case: Case) -> str:
    """A frame's levels reach beyond white."""
    path = case.frame()
    cv2.imwrite(str(path), (grey(path).astype(np.uint32) * 4).clip(0, 65535).astype(np.uint16))
    return path.name


@tiff16(NOTICED)
def one_shallow_frame(case: Case) -> str:
    """One frame of 8 bits among those of 16."""
    path = case.frame()
    cv2.imwrite(str(path), (grey(path) >> 4).astype(np.uint8))
    return path.name


@tiff16(NOTICED)
def other_byte_order(case: Case) -> str:
    """The bytes of every pixel are swapped."""
    path = case.frame()
    cv2.imwrite(str(path), grey(path).byteswap())
    return path.name


@tiff16(OPEN)
def every_frame_deeper(case: Case) -> str:
    """Every frame holds 10, 14 or 16 bits instead of 12."""
    shift = case.one((-2, 2, 4))
    case.touch_all()
    for path in sorted(case.frame().parent.iterdir()):
        image = grey(path).astype(np.int64)
        cv2.imwrite(str(path), (image << shift if shift > 0 else image >> -shift).clip(0, 65535).astype(np.uint16))
    return f"{12 + shift} bits"
