"""Decode one raw frame, and report why it cannot be used.

One rule for all formats: the levels are those of the file in stored order, whatever a tag says of how a viewer should
rotate the image; 0 is black. Only the three decoders here are ever tried, chosen by a file's first bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.archive import jpeg, png, tiff
from veriserum_hf.archive.files import read_bytes
from veriserum_hf.archive.formats import is_dicom, named
from veriserum_hf.archive.raw_image import Header, RawImage
from veriserum_hf.archive.tags import MAGICS as TIFF_MAGICS
from veriserum_hf.core import Grey
from veriserum_hf.errors import FrameError

# Grey levels, 1 % of white: of 8 bits, and of the 12 bits or more that 16-bit files hold.
_LEAST = {1: 2, 2: 40}
_SMALL = 65_536  # px
_FORMATS: tuple[tuple[tuple[bytes, ...], Callable[[bytes], Header], Callable[[bytes], RawImage]], ...] = (
    ((jpeg.MAGIC,), jpeg.read_header, jpeg.decode),
    ((png.MAGIC,), png.read_header, png.decode),
    (TIFF_MAGICS, tiff.read_header, tiff.decode),
)


@dataclass(frozen=True)
class RawFormat:
    """What the raw frames of an archive have in common.

    Attributes
    ----------
    white_level : grey level that counts as white.
    aspect : width / height, px.

    """

    white_level: int
    aspect: float

    def check_shape(self, frame: Grey) -> None:
        """Raise FrameError with the reason ``wrong shape`` where a frame cannot show the field of the others."""
        height, width = frame.shape
        if abs(width / height / self.aspect - 1) > 0.01:
            detail = f"found {width} x {height} px, expected a width of {self.aspect:.3f} heights as most frames have"
            raise FrameError("wrong shape", detail)


@dataclass(frozen=True)
class RawFrame:
    """A raw frame as it is stored.

    Attributes
    ----------
    levels : (rows, columns) uint8 or uint16, in stored order, 0 is black.
    orientation : by EXIF, XMP or TIFF, 1 to 8: how a viewer would rotate or mirror the image. 1: as stored.
    plain : whether every common reader decodes the file to exactly these levels.

    """

    levels: Grey
    orientation: int
    plain: bool


def read_frame(path: str | Path) -> Grey:
    """Grey levels of one raw frame, (rows, columns) uint8 or uint16, of a JPEG, PNG or TIFF file.

    Raises
    ------
    FrameError
        With the reason ``zero bytes``, ``truncated``, ``damaged``, ``unreadable``, ``several images``,
        ``wrong channel count``, ``wrong bit depth``, ``wrong polarity``, ``all black`` or ``no contrast``.

    """
    return decode_frame(read_bytes(path))


def decode_frame(data: bytes) -> Grey:
    """Grey levels of a raw frame's bytes; see `read_frame`."""
    return decode_raw(data).levels


def decode_raw(data: bytes) -> RawFrame:
    """A raw frame of its bytes; raises as `read_frame`."""
    image = _format_of(data)[1](data)
    levels = one_channel(image)
    check_contrast(levels)
    orientation = image.header.orientation
    plain = image.plain and orientation == 1 and image.levels.shape[2] == 1
    return RawFrame(levels, orientation, plain)


def check_contrast(levels: Grey, bits: int = 16) -> None:
    """Raise FrameError where a frame shows nothing: no light, or one grey level everywhere."""
    # One pixel in 64 will do for all but small frames; a few hot or dead pixels are no content.
    step = 8 if levels.size > _SMALL else 1
    sample = levels[::step, ::step].ravel()
    ranks = [len(sample) - 1 - (rank := int(0.999 * (len(sample) - 1))), rank]
    dark, bright = map(int, np.partition(sample, ranks)[ranks])
    least = min(_LEAST[levels.dtype.itemsize], 2**bits // 100)
    if bright <= least:
        raise FrameError("all black", f"999 of 1,000 of its pixels have grey level {bright} or less")
    if bright - dark <= least:
        raise FrameError(
            "no contrast", f"the frame is blank: 998 of 1,000 of its pixels have grey levels from {dark} to {bright}"
        )


def read_header(data: bytes) -> Header:
    """Size and orientation that a raw frame's bytes state; raises as `read_frame`."""
    return _format_of(data)[0](data)


def _format_of(data: bytes) -> tuple[Callable[[bytes], Header], Callable[[bytes], RawImage]]:
    if not data:
        raise FrameError("zero bytes", "the file is empty")
    for magics, header, decode in _FORMATS:
        if data.startswith(magics):
            return header, decode
    if is_dicom(data[:132]):
        raise FrameError("unreadable", "this is DICOM: import own frames with `veriserum import`")
    raise FrameError("unreadable", f"{named(data)}, not a JPEG, PNG or TIFF image; save it as one of these")


def one_channel(image: RawImage) -> Grey:
    """The grey channel, of which there may be three equal ones, and an opaque alpha channel."""
    levels: NDArray[Any] = image.levels
    channels = levels.shape[2]
    if channels in (2, 4):
        if (levels[..., -1] != np.iinfo(levels.dtype).max).any():
            raise FrameError("wrong channel count", f"found {channels} channels, the last of which is not opaque")
        levels = levels[..., :-1]
    first = levels[..., 0]
    if any((levels[..., channel] != first).any() for channel in range(1, levels.shape[2])):
        raise FrameError("wrong channel count", f"found {channels} different channels, expected one grey channel")
    grey: Grey = np.ascontiguousarray(first)
    return grey
