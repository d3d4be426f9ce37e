"""Frames of the phantoms, and the files that a calibration reads."""

import re
from pathlib import Path

import cv2
import numpy as np

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, SAFE, Case, Group, replaced
from tests.fuzz.commands import check_phantoms

phantoms = Group("phantoms", "phantoms", check_phantoms, times=5)


def _grid(case: Case) -> Path:
    return min(case.data.glob("cal_bs_*.tif"))


def _any(case: Case) -> Path:
    frames = sorted(case.data.glob("cal_bs_*.tif"))
    path: Path = case.one((frames[0], frames[-1]))
    return path


@phantoms(NOTICED)
def cut(case: Case) -> str:
    """A frame breaks off, is empty, or no image."""
    path = _any(case)
    content = path.read_bytes()
    path.write_bytes(
        case.one((b"", content[:200], content[: len(content) // 2], b"x" * 999, b"II*\0" + b"\xff" * 50))
    )
    return path.name


@phantoms(OPEN)
def bits_flipped(case: Case) -> str:
    """Some bits of a frame are flipped."""
    path = _any(case)
    content = bytearray(path.read_bytes())
    for _ in range(case.one((1, 10, 1000))):
        content[case.random.randrange(len(content))] ^= 1 << case.random.randrange(8)
    path.write_bytes(content)
    return path.name


@phantoms(NOTICED)
def nothing_to_see(case: Case) -> str:
    """The frame of the grid is blank, noise, or that of another phantom."""
    path = _grid(case)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    noise = np.random.default_rng(case.number).integers(0, 4096, image.shape).astype(np.uint16)
    other = cv2.imread(str(max(case.data.glob("cal_bs_*.tif"))), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), case.one((np.zeros_like(image), np.full_like(image, 4000), noise, other)))
    return path.name


@phantoms(NOTICED)
def half_the_grid(case: Case) -> str:
    """Half of the grid's frame is white."""
    path = _grid(case)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    image[:, : image.shape[1] // 2] = image.max()
    cv2.imwrite(str(path), image)
    return path.name


@phantoms(NOTICED)
def other_size(case: Case) -> str:
    """A frame is of another size."""
    path = _any(case)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    size = case.one(((400, 400), (1, 1), (4000, 3), (60, 50)))
    cv2.imwrite(str(path), cv2.resize(image, size))
    return f"{path.name} {size}"


@phantoms(OPEN)
def flipped(case: Case) -> str:
    """A frame is upside down, mirrored or rotated by 90 degrees."""
    path = _any(case)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    cv2.imwrite(str(path), case.one((image[::-1], image[:, ::-1], np.rot90(image))).copy())
    return path.name


@phantoms(NOTICED)
def special_file(case: Case) -> str:
    """A pipe, a device or a folder in the place of a frame."""
    return replaced(case, _any(case), ("pipe", "folder", "/dev/zero"))


@phantoms(NOTICED)
def huge_file(case: Case) -> str:
    """A frame with 10 GB of nothing behind it."""
    path = _any(case)
    with path.open("r+b") as file:
        file.truncate(10_000_000_000)
    return path.name


@phantoms(NOTICED)
def distortion_text_wrong(case: Case) -> str:
    """The file of a distortion is no list of numbers, or of another number of them."""
    path = case.data / "distortion.txt"
    parts = path.read_text().strip().split(",")
    text = case.one(
        (
            "",
            "x",
            ",".join(parts[:-1]),
            ",".join([*parts, "0"]),
            ",".join(["nan", *parts[1:]]),
            ",".join(["1e300"] * len(parts)),
            ",".join(["0"] * len(parts)),
            ",".join(["1_0", *parts[1:]]),
            ";".join(parts),
            "9" * 10_000_000,
            re.sub(r"[^,;]+", lambda number: repr(float(number[0]) * 10), path.read_text().strip()),
        )
    )
    path.write_text(text)
    return repr(text)[:30]


@phantoms(NOTICED)
def distortion_no_text(case: Case) -> str:
    """The file of a distortion is not text, a folder, a pipe or a device."""
    path = case.data / "distortion.txt"
    if case.random.random() < 0.2:
        path.write_bytes(b"\xff\xfe\x00" * 99)
        return "bytes"
    return replaced(case, path)


@phantoms(HARMLESS)
def distortion_in_another_form(case: Case) -> str:
    """The same numbers with blanks, or a line end."""
    path = case.data / "distortion.txt"
    parts = path.read_text().strip().split(",")
    path.write_text(case.one((", ".join(parts), "\n" + ",".join(parts) + "\n\n", ",".join(parts) + "\r\n")))
    return ""


@phantoms(SAFE)
def stored_again(case: Case) -> str:
    """A frame stored again without loss, with another compression."""
    path = _any(case)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    cv2.imwrite(str(path), image, [cv2.IMWRITE_TIFF_COMPRESSION, case.one((1, 5, 8))])
    return path.name
