"""What a decoder returns, and what every decoder checks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.errors import FrameError

MOST_PIXELS = 64_000_000
Levels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Header:
    """What a file states about its image.

    Attributes
    ----------
    width, height : as stored, px.
    orientation : of EXIF, XMP or TIFF, 1 to 8: how a viewer would rotate or mirror the image. 1: as stored.
    bits : of one grey level. Files of 16 bits often hold fewer and do not state it.

    """

    width: int
    height: int
    orientation: int = 1
    bits: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.width * self.height <= MOST_PIXELS:
            size = f"its header states {self.width} x {self.height} px"
            raise FrameError("unreadable", f"{size}, expected at most {MOST_PIXELS / 1e6:.0f} megapixels")


@dataclass(frozen=True)
class RawImage:
    """Decoded grey levels of a file.

    Attributes
    ----------
    header : what the file states.
    levels : (rows, columns) or (rows, columns, channels), uint8 or uint16, in stored order, 0 is black.
    plain : whether every common reader decodes the file to the same array.

    """

    header: Header
    levels: Levels
    plain: bool = True
