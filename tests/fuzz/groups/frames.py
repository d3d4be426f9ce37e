"""Files of frames in every format: JPEG, PNG, and TIFF of 8 and 16 bits."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, SAFE, Case, Group, added_to
from tests.fuzz.commands import check_archive

jpeg = Group("jpeg", "jpeg", check_archive, times=11)
png = Group("png", "png", check_archive, times=9)
tiff8 = Group("tiff-8", "tiff8", check_archive, times=7)
tiff16 = Group("tiff-16", "tiff16", check_archive, times=7)

in_every_group = added_to(jpeg, png, tiff8, tiff16)


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


def unchanged(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return it."""
    return image


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
    """The same grey levels, stored again without loss."""
    path = case.frame()
    if path.suffix == ".jpg":  # another order of the same coefficients
        path.write_bytes(path.read_bytes() + case.one((b"\n", bytes(512))))
    elif path.suffix == ".png":
        PIL.Image.fromarray(grey(path)).save(path, compress_level=case.one((0, 1, 9)))
    else:
        compression = case.one((None, "tiff_lzw", "tiff_adobe_deflate"))
        PIL.Image.fromarray(grey(path)).save(path, "TIFF", compression=compression)
    return path.name
