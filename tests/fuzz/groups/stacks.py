"""Own frames: DICOM files, and TIFF files of several pages."""

import struct
from pathlib import Path

from tests.fuzz.cases import NOTICED, OPEN, Case, Group, replaced
from tests.fuzz.commands import check_stacks

stacks = Group("stacks", "stacks", check_stacks, times=5)
_PIXELS = b"\xe0\x7f\x10\x00"


def _any(case: Case, pattern: str = "*") -> Path:
    path: Path = case.one(sorted(case.data.glob(pattern)))
    case.touched = {path.name}
    return path


def _set(case: Case, path: Path, keyword: str, value: object) -> str:
    """Another value of one element."""
    from pydicom import dcmread

    ds = dcmread(path)
    setattr(ds, keyword, value)
    if keyword == "PixelPaddingValue":
        ds[keyword].VR = "US"
    ds.save_as(path)
    return f"{path.name} {keyword} = {value}"


@stacks(NOTICED)
def cut(case: Case) -> str:
    """A file breaks off."""
    path = _any(case)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * case.random.uniform(0.0, 0.95))])
    return path.name


@stacks(OPEN)
def bits_flipped(case: Case) -> str:
    """Some bits of a file are flipped."""
    path = _any(case)
    content = bytearray(path.read_bytes())
    for _ in range(case.one((1, 10, 300))):
        content[case.random.randrange(len(content))] ^= 1 << case.random.randrange(8)
    path.write_bytes(content)
    return path.name


@stacks(OPEN)
def bits_of_the_head_flipped(case: Case) -> str:
    """Some bits before the pixels of a DICOM file are flipped."""
    path = _any(case, "*.dcm")
    content = bytearray(path.read_bytes())
    end = content.find(_PIXELS) + 12
    for _ in range(case.one((1, 3, 20))):
        content[case.random.randrange(128, end)] ^= 1 << case.random.randrange(8)
    path.write_bytes(content)
    return path.name


@stacks(OPEN)
def fragments_wrong(case: Case) -> str:
    """Bytes of compressed frames, of their table or of their lengths, are replaced."""
    path = case.data / case.one(("jpeg_2000.dcm", "lossless_jpeg.dcm", "rle.dcm", "jpeg.dcm"))
    case.touched = {path.name}
    content = bytearray(path.read_bytes())
    first = content.find(_PIXELS)
    at = case.random.randrange(first, min(first + 400, len(content) - 4))
    content[at : at + 4] = case.one((b"\xff" * 4, bytes(4), struct.pack("<I", 2**31), b"\xfe\xff\x00\xe0"))
    path.write_bytes(content)
    return f"{path.name} at {at}"


@stacks(NOTICED)
def element_wrong(case: Case) -> str:
    """An element of a DICOM file states what cannot be."""
    wrong = {
        "Rows": (0, 65535),
        "Columns": (1, 65535),
        "BitsAllocated": (1, 32, 64),
        "BitsStored": (40,),
        "NumberOfFrames": (999_999, -1),
        "Modality": ("CT", "", "MR"),
        "PhotometricInterpretation": ("PALETTE COLOR", "HSV", ""),
        "RescaleSlope": (0,),
        "SamplesPerPixel": (3, 60000),
    }
    keyword = case.one(list(wrong))
    if keyword == "RescaleSlope":
        _set(case, case.data / "native.dcm", "RescaleIntercept", 1)
    case.touched = {"native.dcm"}
    return _set(case, case.data / "native.dcm", keyword, case.one(wrong[keyword]))


@stacks(OPEN)
def odd_element(case: Case) -> str:
    """An element of a DICOM file states what is unusual."""
    odd = {
        "HighBit": (15, 12, 200),
        "PixelRepresentation": (1, 9),
        "RescaleSlope": ("1e300", "-1", "1e-300"),
        "PixelPaddingValue": (0, 65535),
        "PlanarConfiguration": (7,),
        "FrameTime": ("0", "-5", "1e400"),
        "ImagerPixelSpacing": (["0", "0"], ["1e400", "1"]),
        "NumberOfFrames": (1,),
    }
    keyword = case.one(list(odd))
    path = _any(case, "*.dcm")
    return _set(case, path, keyword, case.one(odd[keyword]))


@stacks(OPEN)
def nested(case: Case) -> str:
    """Thousands of sequences within each other stand before the pixels, or an element that states 4 GB."""
    path = _any(case, "*.dcm")
    content = path.read_bytes()
    at = content.find(struct.pack("<HH", 0x0028, 0x0002))
    sequence = struct.pack("<HH2sHI", 0x0018, 0x9999, b"SQ", 0, 2**32 - 1) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 2**32 - 1
    )
    extra = case.one((5000 * sequence, struct.pack("<HH2sHI", 0x0018, 0x9998, b"OB", 0, 2**32 - 16)))
    path.write_bytes(content[:at] + extra + content[at:])
    return f"{path.name} {len(extra)}"


@stacks(NOTICED)
def compressed_frame_said_to_be_large(case: Case) -> str:
    """A compressed frame states many more pixels than the file does."""
    path = case.data / case.one(("jpeg_2000.dcm", "lossless_jpeg.dcm", "jpeg.dcm"))
    case.touched = {path.name}
    content = bytearray(path.read_bytes())
    first = content.find(_PIXELS)
    if path.name == "jpeg_2000.dcm":
        at = content.find(b"\xff\x4f\xff\x51", first) + 8
        content[at : at + 8] = struct.pack(">II", *case.one(((60000, 60000), (2**31, 1), (7000, 9000))))
    else:
        at = min(k for code in (b"\xff\xc3", b"\xff\xc0") if (k := content.find(code, first)) >= 0) + 5
        content[at : at + 4] = struct.pack(">HH", *case.one(((65535, 65535), (7000, 9000), (1, 1))))
    path.write_bytes(content)
    return path.name


@stacks(OPEN)
def directory_wrong(case: Case) -> str:
    """A directory of a TIFF file names itself, another place, or a value that cannot be."""
    path = _any(case, "*.tif")
    content = bytearray(path.read_bytes())
    first = struct.unpack("<I", content[4:8])[0]
    count = struct.unpack("<H", content[first : first + 2])[0]
    after = first + 2 + 12 * count
    if case.random.random() < 0.4:
        content[after : after + 4] = struct.pack("<I", case.one((first, 2**32 - 1, 8, 0)))
    else:
        entry = first + 2 + 12 * case.random.randrange(count)
        content[entry + 4 : entry + 12] = struct.pack("<II", case.one((1, 0, 2**31)), case.one((0, 1, 2**32 - 1, 8)))
    path.write_bytes(content)
    return path.name


@stacks(NOTICED)
def special_file(case: Case) -> str:
    """A pipe, a device or a folder in the place of a file."""
    return replaced(case, _any(case), ("pipe", "folder", "/dev/zero"))


@stacks(OPEN)
def huge_file(case: Case) -> str:
    """A file with 10 GB of nothing behind it."""
    path = _any(case)
    with path.open("r+b") as file:
        file.truncate(10_000_000_000)
    return path.name


@stacks(NOTICED)
def other_content(case: Case) -> str:
    """A file is something else."""
    path = _any(case)
    content = path.read_bytes()
    path.write_bytes(
        case.one((b"", bytes(4000), content[200:], bytes(128) + b"DICM" + bytes(4000), b"\x08\0\x05\0CS" * 99))
    )
    return path.name
