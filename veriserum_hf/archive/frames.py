"""Decode one raw frame, and say what is wrong where it cannot be used."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from veriserum_hf.errors import FrameError

Grey = NDArray[np.uint8] | NDArray[np.uint16]

# What each format ends with; a file that was cut off decodes to a picture whose lower part is grey.
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"


def read_frame(path: str | Path) -> Grey:
    """Grey levels of one raw frame, (rows, columns) uint8 or uint16, of a JPEG, PNG or TIFF file.

    Raises
    ------
    FrameError
        With the reason ``missing``, ``zero bytes``, ``truncated``, ``unreadable``, ``wrong channel count``,
        ``wrong bit depth`` or ``all black``.

    """
    return decode_frame(read_bytes(path))


def read_bytes(path: str | Path) -> bytes:
    """Content of a frame's file; raises FrameError with the reason ``missing`` or ``unreadable``."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise FrameError("missing", f"{Path(path).name} is not there any more") from None
    except OSError as error:
        raise FrameError("unreadable", f"{Path(path).name}: {error.strerror}") from error


def decode_frame(data: bytes) -> Grey:
    """Grey levels of a raw frame's bytes; see `read_frame`."""
    if not data:
        raise FrameError("zero bytes", "the file is empty")
    if data[:3] == b"\xff\xd8\xff" and data.rfind(_JPEG_END) <= data.rfind(_JPEG_SCAN):
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
        raise FrameError(reason, f"its {len(data)} bytes are no whole JPEG, PNG or TIFF picture")
    if frame.ndim != 2:
        raise FrameError("wrong channel count", f"found {frame.shape[2]} channels, expected one grey channel")
    if frame.dtype not in (np.uint8, np.uint16):
        raise FrameError("wrong bit depth", f"found {frame.dtype}, expected 8 or 16 bits")
    if frame.max() <= 2:
        raise FrameError("all black", f"its brightest pixel has grey level {frame.max()}")
    grey: Grey = frame  # type: ignore[assignment]
    return grey
