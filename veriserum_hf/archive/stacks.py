"""Frames of any laboratory's image file, one after the other: PNG, JPEG, TIFF with pages, DICOM.

A frame is read as the raw frames of the archive are: strictly, in stored order whatever a tag says of how a viewer
should rotate it, and 0 is black. Every frame is read from the disk when it is asked for, and no file stays open.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from veriserum_hf.archive import tiff
from veriserum_hf.archive.dicom import Dicom, heeded, read_dicom
from veriserum_hf.archive.dicom_levels import decode_levels
from veriserum_hf.archive.dicom_proposal import CameraProposal
from veriserum_hf.archive.files import opened, read_bytes
from veriserum_hf.archive.formats import is_dicom
from veriserum_hf.archive.frames import check_contrast, decode_frame, one_channel, read_header
from veriserum_hf.archive.jpeg import MAGIC as JPEG_MAGIC
from veriserum_hf.archive.raw_image import RawImage
from veriserum_hf.archive.tags import MAGICS as TIFF_MAGICS
from veriserum_hf.archive.tiff_levels import Layout
from veriserum_hf.core import Grey
from veriserum_hf.errors import FrameError

_DEPTHS = (8, 10, 12, 14, 16)


class Frames(Protocol):
    """Frames of one file, by their index."""

    def read(self, index: int) -> Grey:
        """Grey levels of one frame, (rows, columns)."""


@dataclass(frozen=True)
class Stack:
    """Frames of one image file.

    Attributes
    ----------
    path : the file.
    kind : ``"PNG"``, ``"JPEG"``, ``"TIFF"`` or ``"DICOM"``.
    count : number of frames. Previews and masks of a TIFF (NewSubfileType) are none.
    size : (rows, columns) of every frame.
    bits : of a grey level, as the file states it; TIFF and PNG files of 16 bits often hold fewer.
    inverted : whether the file stores X-rays dark, as it states (WhiteIsZero of TIFF, and see
        `veriserum_hf.archive.dicom_levels.level_table` on MONOCHROME1 of DICOM); `read` returns them bright.
    proposal : camera and frame rate, of DICOM only.

    """

    path: Path
    kind: str
    count: int
    size: tuple[int, int]
    bits: int
    inverted: bool
    proposal: CameraProposal | None
    frames: Frames

    def read(self, index: int) -> Grey:
        """Grey levels of one frame, (rows, columns) uint8 or uint16; the open field is bright.

        Raises
        ------
        IndexError
            If there is no such frame.
        FrameError
            With the reasons of `read_frame`.

        """
        if not 0 <= index < self.count:
            raise IndexError(f"{self.path.name} has {self.count} frames, and none with the index {index}")
        return self.frames.read(index)


def open_stack(path: Path) -> Stack:
    """Frames of a PNG, JPEG, TIFF or DICOM file; what it holds is known by its first bytes, not by its name.

    Raises
    ------
    FrameError
        With the reasons of `read_frame` and ``pages of different sizes``, as far as headers show it.
    ArchiveError
        If the file is gone.

    """
    with opened(path) as content:
        first = content[:132]
        if not is_dicom(first) and first.startswith(TIFF_MAGICS):
            return _of_tiff(path, list(tiff.pages(content)))
    return _of_dicom(path) if is_dicom(first) else _of_image(path)


@dataclass(frozen=True)
class _OneImage:
    path: Path

    def read(self, index: int) -> Grey:
        return decode_frame(read_bytes(self.path))


@dataclass(frozen=True)
class _TiffPages:
    path: Path
    layouts: list[Layout]

    def read(self, index: int) -> Grey:
        with opened(self.path) as content:
            levels = one_channel(tiff.decode_page(content, self.layouts[index]))
        check_contrast(levels, self.layouts[index].bits)
        return levels


@dataclass(frozen=True)
class _DicomFrames:
    path: Path
    dicom: Dicom

    def read(self, index: int) -> Grey:
        stored = self.dicom.stored
        with opened(self.path) as content:
            coded = b"".join(content[place : place + size] for place, size in self.dicom.frames[index])
        with heeded(f"frame {index + 1}"):
            levels = one_channel(RawImage(stored.header, decode_levels(coded, stored, self.dicom.table)))
        check_contrast(levels, self.dicom.bits)
        return levels


def _of_dicom(path: Path) -> Stack:
    dicom = read_dicom(path)
    size = dicom.stored.header.height, dicom.stored.header.width
    frames = _DicomFrames(path, dicom)
    return Stack(path, "DICOM", len(dicom.frames), size, dicom.bits, dicom.inverted, dicom.proposal, frames)


def _of_image(path: Path) -> Stack:
    data = read_bytes(path)
    header = read_header(data)
    kind = "JPEG" if data.startswith(JPEG_MAGIC) else "PNG"
    if header.bits not in _DEPTHS:
        raise FrameError("wrong bit depth", f"it is a {kind} of {header.bits} bits, expected 8 or 16")
    return Stack(path, kind, 1, (header.height, header.width), header.bits, False, None, _OneImage(path))


def _of_tiff(path: Path, layouts: list[Layout]) -> Stack:
    kinds = [(each.header.height, each.header.width, each.bits, each.inverted) for each in layouts]
    first = kinds[0]
    if other := next((k for k, kind in enumerate(kinds) if kind != first), None):
        detail = f"image {other + 1} is {_described(kinds[other])}, the first one {_described(first)}"
        raise FrameError("pages of different sizes", f"{detail}; expected the same. Save them in files of their own")
    return Stack(path, "TIFF", len(layouts), first[:2], first[2], first[3], None, _TiffPages(path, layouts))


def _described(kind: tuple[int, int, int, bool]) -> str:
    rows, columns, bits, inverted = kind
    return f"{columns} x {rows} px of {bits} bits{' with 0 as white' * inverted}"
