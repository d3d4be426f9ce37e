"""Files of frames: JPEG, PNG, and TIFF of 8 and 16 bits."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, SAFE, Case, Group
from tests.fuzz.commands import check_archive

jpeg = Group("jpeg", "jpeg", check_archive, times=11)
png = Group("png", "png", check_archive, times=9)
tiff8 = Group("tiff-8", "tiff8", check_archive, times=7)
tiff16 = Group("tiff-16", "tiff16", check_archive, times=7)

EVERY = (jpeg, png, tiff8, tiff16)


def in_every_group(expected: object) -> Callable[[Callable[[Case], object]], Callable[[Case], object]]:
    """Add a mutation to the groups of all formats."""

    def add(apply: Callable[[Case], object]) -> Callable[[Case], object]:
        for group in EVERY:
            group(expected)(apply)  # type: ignore[arg-type]
        return apply

    return add


def grey(path: Path) -> np.ndarray:
    """Grey levels as they are stored."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image if image.ndim == 2 else image[..., 0]


def saved(case: Case, change: Callable[[PIL.Image.Image], PIL.Image.Image], **options: object) -> str:
    """Store one frame again in its own format."""
    path = case.frame()
    format = {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF"}[path.suffix]
    change(PIL.Image.fromarray(grey(path))).save(path, format, **({"quality": 95} | options))
    return path.name


def _unchanged(image: PIL.Image.Image) -> PIL.Image.Image:
    return image


# Every format


@in_every_group(NOTICED)
def cut(case: Case) -> str:
    """The file breaks off."""
    path = case.frame()
    content = path.read_bytes()
    length = case.one((0, 1, 10, 100, case.random.randrange(len(content) - 2), len(content) * 9 // 10))
    path.write_bytes(content[:length])
    return f"{path.name}: {length} of {len(content)} bytes"


@in_every_group(SAFE)
def bytes_zeroed(case: Case) -> str:
    """A run of 64 to 4,096 bytes is zero, as a bad sector leaves it."""
    path = case.frame()
    content = bytearray(path.read_bytes())
    length = case.one((64, 256, 512, 1024, 4096))
    at = case.random.randrange(max(1, len(content) - length))
    content[at : at + length] = bytes(min(length, len(content) - at))
    path.write_bytes(content)
    return f"{path.name}: {length} bytes from {at}"


@in_every_group(SAFE)
def bits_flipped(case: Case) -> str:
    """Some bits are flipped."""
    path = case.frame()
    content = bytearray(path.read_bytes())
    places = [case.random.randrange(len(content)) for _ in range(case.one((1, 1, 2, 16, 200)))]
    for place in places:
        content[place] ^= 1 << case.random.randrange(8)
    path.write_bytes(content)
    return f"{path.name}: {len(places)} bits, first in byte {places[0]}"


@in_every_group(OPEN)
def header_bytes_changed(case: Case) -> str:
    """Bytes of the first 64, or the last, are others."""
    path = case.frame()
    content = bytearray(path.read_bytes())
    for _ in range(case.one((1, 2, 8))):
        at = case.random.randrange(64)
        content[at if case.random.random() < 0.8 else -at - 1] = case.random.randrange(256)
    path.write_bytes(content)
    return path.name


@in_every_group(NOTICED)
def no_image(case: Case) -> str:
    """Something else under a frame's name."""
    path = case.frame()
    path.write_bytes(
        case.one(
            (
                b"",
                b"\n" * 1000,
                b"<html>404</html>",
                b'/* XPM */\nstatic char *x[] = {\n"9999 9999 1 1",\n"a c #000",\n',
                b"DDS " + bytes(124),
                b"II*\0" + b"\xff" * 100,
                b"\x89PNG\r\n\x1a\n",
                b"\xff\xd8\xff\xe0",
                b"BM" + bytes(60),
                b"GIF89a" + bytes(20),
                bytes(128) + b"DICM" + bytes(100),
                b"P5 100000 100000 255\n",
                b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\n",
                b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50),
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            )
        )
    )
    return f"{path.name}: {path.read_bytes()[:20]!r}"


@in_every_group(OPEN)
def other_format(case: Case) -> str:
    """Another format under the name of this one."""
    path = case.frame()
    image = PIL.Image.fromarray((grey(path) >> (8 if grey(path).dtype == np.uint16 else 0)).astype(np.uint8))
    format = case.one(("GIF", "BMP", "WEBP", "PPM", "ICO", "TGA", "PCX", "DDS", "JPEG2000", "PNG", "TIFF", "JPEG"))
    image.save(path, format)
    return f"{path.name} as {format}"


@in_every_group(NOTICED)
def other_size(case: Case) -> str:
    """One frame has another size than all others."""
    size = case.one(((415, 400), (400, 416), (208, 200), (1, 1), (416, 4), (1664, 1600), (2, 9000)))
    return f"{saved(case, lambda image: image.resize(size))} {size[0]} x {size[1]} px"


@in_every_group(OPEN)
def grey_as_rgb(case: Case) -> str:
    """Grey stored as colour with equal channels."""
    path = case.frame()
    image = grey(path)
    cv2.imwrite(str(path), np.dstack([image] * 3), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return path.name


@in_every_group(NOTICED)
def in_colour(case: Case) -> str:
    """A frame is in colour."""
    path = case.frame()
    image = grey(path)
    cv2.imwrite(str(path), np.dstack([image, image // 2, image // 4]))
    return path.name


@in_every_group(NOTICED)
def upside_down(case: Case) -> str:
    """One frame is upside down, mirrored or rotated by 180 degrees."""
    how = case.one((0, 1, -1))
    path = case.frame()
    cv2.imwrite(str(path), cv2.flip(grey(path), how), [cv2.IMWRITE_JPEG_QUALITY, 98])
    return f"{path.name} flip {how}"


@in_every_group(NOTICED)
def inverted(case: Case) -> str:
    """One frame is inverted: bright implants on a dark field."""
    path = case.frame()
    image = grey(path)
    cv2.imwrite(str(path), (image.max() - image).astype(image.dtype), [cv2.IMWRITE_JPEG_QUALITY, 98])
    return path.name


@in_every_group(NOTICED)
def blank(case: Case) -> str:
    """A frame shows nothing: black, white, or one grey level."""
    path = case.frame()
    image = grey(path)
    level = case.one((0, 128, int(np.iinfo(image.dtype).max)))
    cv2.imwrite(str(path), np.full_like(image, level))
    return f"{path.name} level {level}"


@in_every_group(NOTICED)
def copy_of_another(case: Case) -> str:
    """A frame is a byte copy of another one."""
    path = case.frame()
    other = case.one(sorted(each for each in path.parent.iterdir() if each != path))
    case.touch(f"calibrated {int(other.stem.split('_')[1])}")
    path.write_bytes(other.read_bytes())
    return f"{path.name} of {other.name}"


@in_every_group(HARMLESS)
def saved_again(case: Case) -> str:
    """The same grey levels, stored anew without loss."""
    path = case.frame()
    if path.suffix == ".jpg":  # another order of the same coefficients
        path.write_bytes(path.read_bytes() + case.one((b"\n", bytes(512))))
    elif path.suffix == ".png":
        PIL.Image.fromarray(grey(path)).save(path, compress_level=case.one((0, 1, 9)))
    else:
        compression = case.one((None, "tiff_lzw", "tiff_adobe_deflate"))
        PIL.Image.fromarray(grey(path)).save(path, "TIFF", compression=compression)
    return path.name


# JPEG


def _after_start(case: Case, segment: bytes) -> str:
    """Put a segment behind the start of a JPEG."""
    path = case.frame()
    content = path.read_bytes()
    path.write_bytes(content[:2] + segment + content[2:])
    return path.name


def _exif(orientation: int) -> bytes:
    exif = PIL.Image.Exif()
    exif[274] = orientation
    body = exif.tobytes()
    body = body if body.startswith(b"Exif") else b"Exif\0\0" + body
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@jpeg(SAFE)
def orientation(case: Case) -> str:
    """An EXIF tag says that the frame is to be rotated."""
    way = case.random.randint(2, 8)
    return f"{_after_start(case, _exif(way))} orientation {way}"


@jpeg(HARMLESS)
def comment(case: Case) -> str:
    """A comment or a profile in the file."""
    kind = case.one((0xFE, 0xE2, 0xED, 0xEF))
    return _after_start(case, bytes((0xFF, kind)) + struct.pack(">H", 1002) + bytes(1000))


@jpeg(SAFE)
def half_a_scan(case: Case) -> str:
    """Part of the scan is missing, but the end marker is there."""
    path = case.frame()
    content = path.read_bytes()
    start = content.index(b"\xff\xda") + 14
    at = case.random.randrange(start, len(content) - 2)
    path.write_bytes(content[:at] + b"\xff\xd9")
    return f"{path.name}: {at} of {len(content)} bytes"


@jpeg(SAFE)
def progressive_cut(case: Case) -> str:
    """A progressive JPEG lacks its last scans, but has an end marker."""
    path = case.frame()
    PIL.Image.fromarray(grey(path)).save(path, "JPEG", quality=95, progressive=True)
    content = path.read_bytes()
    scans = [k for k in range(len(content) - 1) if content[k : k + 2] == b"\xff\xda"]
    path.write_bytes(content[: case.one(scans[1:])] + b"\xff\xd9")
    return path.name


@jpeg(SAFE)
def other_encoder(case: Case) -> str:
    """Progressive, optimised, or of another quality: a good frame of another encoder."""
    options = case.one(({"progressive": True}, {"optimize": True}, {"quality": 100}, {"restart_marker_blocks": 8}))
    return f"{saved(case, _unchanged, **options)} {options}"


@jpeg(NOTICED)
def four_channels(case: Case) -> str:
    """A JPEG of four channels."""
    return saved(case, lambda image: image.convert("CMYK"))


@jpeg(SAFE)
def scans_joined(case: Case) -> str:
    """Two scans of different frames are joined."""
    path = case.frame()
    other = case.one(sorted(path.parent.iterdir())).read_bytes()
    content = path.read_bytes()
    at = len(content) // 2
    path.write_bytes(content[:at] + other[at:])
    return path.name


@jpeg(NOTICED)
def said_to_be_large(case: Case) -> str:
    """The header says 65,500 x 65,500 px."""
    path = case.frame()
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", *case.one(((65500, 65500), (65500, 416), (400, 65500), (0, 416))))
    path.write_bytes(content)
    return path.name


# PNG


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, data: bytes, depth: int = 8, colour: int = 0) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")


@png(NOTICED)
def png_said_to_be_large(case: Case) -> str:
    """The header says many more pixels than the file holds."""
    path, size = (
        case.frame(),
        case.one(((16640, 16000), (100_000, 100_000), (2**31 - 1, 1), (416, 2**31 - 1), (0, 0))),
    )
    path.write_bytes(_png(*size, b"\0" * 1000))
    return f"{path.name} {size}"


@png(NOTICED)
def bomb(case: Case) -> str:
    """A small file that holds 256 million black pixels."""
    path = case.frame()
    path.write_bytes(_png(16000, 16000, bytes(16001 * 16000)))
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
    chunk = case.one(((b"gAMA", struct.pack(">I", 10000)), (b"pHYs", bytes(9)), (b"tEXt", b"a\0" + bytes(900))))
    path.write_bytes(content[:at] + _chunk(*chunk) + content[at:])
    return f"{path.name} {chunk[0].decode()}"


@png(NOTICED)
def one_deep_frame(case: Case) -> str:
    """One frame of 16 bits among those of 8."""
    path = case.frame()
    cv2.imwrite(str(path), grey(path).astype(np.uint16) * 257)
    return path.name


# TIFF


def _in_both_tiffs(expected: object) -> Callable[[Callable[[Case], object]], Callable[[Case], object]]:
    def add(apply: Callable[[Case], object]) -> Callable[[Case], object]:
        for group in (tiff8, tiff16):
            group(expected)(apply)  # type: ignore[arg-type]
        return apply

    return add


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
