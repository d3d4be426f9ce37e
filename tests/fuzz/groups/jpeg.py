"""JPEG files of frames."""

import struct

import PIL.Image

from tests.fuzz.cases import HARMLESS, NOTICED, SAFE, Case
from tests.fuzz.groups.frames import grey, jpeg, saved, unchanged


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
    return f"{saved(case, unchanged, **options)} {options}"


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
