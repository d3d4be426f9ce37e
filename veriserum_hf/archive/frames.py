"""Decode one raw frame, and report why it cannot be used."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from veriserum_hf.core import Grey
from veriserum_hf.errors import ArchiveError, FrameError


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


def white_level(highest: Iterable[int]) -> int:
    """White of 16-bit frames by the highest grey level of some of them: that of the even bit depth that they use."""
    bits = max(highest).bit_length()
    return int(2 ** max(8, bits + bits % 2) - 1)


# What each format ends with; a file that was cut off decodes to an image whose lower part is grey.
_PNG_END = b"IEND\xaeB`\x82"
# 1 % of white: of 8 bits, and of the 12 bits or more that 16-bit files hold.
_BLACK = {1: 2, 2: 40}
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"


def read_frame(path: str | Path) -> Grey:
    """Grey levels of one raw frame, (rows, columns) uint8 or uint16, of a JPEG, PNG or TIFF file.

    Raises
    ------
    FrameError
        With the reason ``zero bytes``, ``truncated``, ``unreadable``, ``wrong channel count``,
        ``wrong bit depth`` or ``all black``.

    """
    return decode_frame(read_bytes(path))


def read_bytes(path: str | Path) -> bytes:
    """Content of a file that the archive had when it was opened.

    Raises
    ------
    FrameError
        With the reason ``unreadable`` where the file's permissions forbid it.
    ArchiveError
        If the file is gone or the disk fails: that is not a bad frame, and continuing would reject good ones.

    """
    try:
        return Path(path).read_bytes()
    except (PermissionError, IsADirectoryError) as error:
        raise FrameError("unreadable", f"{Path(path).name}: {error.strerror}") from error
    except OSError as error:
        raise ArchiveError(
            f"{path}: {error.strerror}. The archive has changed or its disk has failed since it was opened. "
            "Restore or reconnect it, then run again."
        ) from error


def decode_frame(data: bytes) -> Grey:
    """Grey levels of a raw frame's bytes; see `read_frame`."""
    if not data:
        raise FrameError("zero bytes", "the file is empty")
    if data[:3] == b"\xff\xd8\xff" and _breaks_off(data):
        raise FrameError("truncated", f"the JPEG breaks off after {len(data)} bytes")
    if data[:4] == b"\x89PNG" and data.rfind(_PNG_END) < 0:
        raise FrameError("truncated", f"the PNG breaks off after {len(data)} bytes")
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise FrameError("unreadable", str(error.err)) from error
    if frame is None:
        tiff = data[:4] in (b"II*\0", b"MM\0*")
        reason = "truncated" if tiff else "unreadable"
        raise FrameError(reason, f"its {len(data)} bytes are not a complete JPEG, PNG or TIFF image")
    if frame.ndim != 2:
        raise FrameError("wrong channel count", f"found {frame.shape[2]} channels, expected one grey channel")
    if frame.dtype not in (np.uint8, np.uint16):
        raise FrameError("wrong bit depth", f"found {frame.dtype}, expected 8 or 16 bits")
    # One pixel in 64 will do to see whether there is light; a few hot pixels are not light.
    sample = frame[::8, ::8].ravel()
    rank = int(0.999 * (len(sample) - 1))
    bright = int(np.partition(sample, rank)[rank])
    if bright <= _BLACK[frame.dtype.itemsize]:
        raise FrameError("all black", f"999 of 1,000 of its pixels have grey level {bright} or less")
    grey: Grey = frame  # type: ignore[assignment]
    return grey


def _breaks_off(jpeg: bytes) -> bool:
    """Whether the end is missing: its bytes cannot occur in a scan, but before one (a thumbnail has its own)."""
    if jpeg.rfind(_JPEG_END, -64) >= 0:  # nearly always; searching all of a frame takes a while
        return False
    return jpeg.rfind(_JPEG_END) <= jpeg.rfind(_JPEG_SCAN)
