"""Grey levels of the frames of a DICOM file: how they are compressed, and which value is which level."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.archive import jpeg
from veriserum_hf.archive.raw_image import Header, Levels
from veriserum_hf.archive.tiff_levels import from_packbits, muted
from veriserum_hf.core import FloatArray
from veriserum_hf.errors import FrameError

if TYPE_CHECKING:
    from pydicom import Dataset

Table = NDArray[np.uint8] | NDArray[np.uint16]
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_NATIVE = (_IMPLICIT, "1.2.840.10008.1.2.1", _BIG_ENDIAN)
_JPEG_8_BIT, _RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
_PACKAGES = "pip install pylibjpeg pylibjpeg-openjpeg python-gdcm"
_SIZE_OF_JPEG_2000, _SIZE_OF_JPEG_LS = b"\xff\x4f\xff\x51", b"\xff\xf7"
# Their images are shown with bones white: what MONOCHROME1 says is that X-rays are stored bright.
_BONES_WHITE = ("DX", "CR")
_MOST_LEVEL = 65535


@dataclass(frozen=True)
class Stored:
    """How every frame of a DICOM file is stored."""

    header: Header
    syntax: str
    modality: str
    photometric: str
    samples: int
    planar: bool
    allocated: int
    bits: int
    high: int
    signed: bool

    @property
    def encapsulated(self) -> bool:
        """Whether the pixels are compressed."""
        return self.syntax not in _NATIVE

    @property
    def explicit(self) -> bool:
        """Whether elements state their types."""
        return self.syntax != _IMPLICIT

    @property
    def order(self) -> str:
        """Byte order: ``<`` or ``>``."""
        return ">" if self.syntax == _BIG_ENDIAN else "<"

    @property
    def frame_bytes(self) -> int:
        """Size of one frame that is not compressed."""
        return self.header.width * self.header.height * self.samples * self.allocated // 8


def level_table(ds: "Dataset", stored: Stored) -> tuple[Table, int, bool]:
    """Grey level of every stored value, (2**bits,); bits of a level; and whether X-rays are stored dark.

    The modality LUT gives slope * value + intercept. Levels that could be below 0 are shifted until the lowest is 0;
    where the slope would lose steps, or levels beyond 65535 would be needed, they are counted in steps of the slope.
    Values of the padding are no image, and become 0. X-rays are bright by the sign of the pixel intensity
    relationship where that is stated. Otherwise MONOCHROME1 is shown inverted: of fluoroscopes, where the open field
    is shown bright, it stores X-rays dark; of DX and CR, where bones are shown white, it stores them bright.
    """
    values = np.arange(2**stored.bits, dtype=np.float64)
    if stored.signed:
        values[2 ** (stored.bits - 1) :] -= 2**stored.bits
    levels, rises = _rescaled(ds, values)
    levels = levels - min(levels.min(), 0.0)
    if levels.max() > _MOST_LEVEL:
        levels -= levels.min()
    levels = np.rint(levels)
    if (top := float(levels.max())) > _MOST_LEVEL:
        raise FrameError("wrong bit depth", f"the rescaled levels of the DICOM file reach {top:.6g}, beyond 65535")
    inverted = _is_inverted(ds, stored, rises=rises)
    if inverted:
        levels = top - levels
    levels[_padding(ds, values)] = 0
    bits = max(int(top).bit_length(), 1)
    return levels.astype(np.uint8 if bits <= 8 else np.uint16), bits, inverted


def _rescaled(ds: "Dataset", values: FloatArray) -> tuple[FloatArray, bool]:
    """Stored values after the modality LUT, and whether levels rise with values."""
    if ds.get("ModalityLUTSequence"):
        item = ds.ModalityLUTSequence[0]
        count, first, bits = (int(each) for each in item.LUTDescriptor)
        data = item.LUTData
        table = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.atleast_1d(np.asarray(data, np.float64))
        count = count or 65536
        if first >= 32768 and values.min() < 0:
            first -= 65536
        if len(table) < count or not 8 <= bits <= 16:
            raise FrameError("damaged", f"the modality LUT of the DICOM file has {len(table)} entries, not {count}")
        looked_up = table[:count].astype(np.float64)[np.clip(values - first, 0, count - 1).astype(np.int64)]
        return looked_up, bool(looked_up[-1] >= looked_up[0])
    slope = float(1 if ds.get("RescaleSlope") is None else ds.RescaleSlope)
    intercept = float(0 if ds.get("RescaleIntercept") is None else ds.RescaleIntercept)
    if not (np.isfinite([slope, intercept]).all() and slope):
        raise FrameError("damaged", f"the DICOM file rescales by {slope:g} and {intercept:g}")
    levels = slope * values + intercept
    if abs(slope) < 1 or levels.max() - min(levels.min(), 0.0) > _MOST_LEVEL:
        levels = levels / abs(slope)
    return levels, slope > 0


def _is_inverted(ds: "Dataset", stored: Stored, *, rises: bool) -> bool:
    sign = ds.get("PixelIntensityRelationshipSign")
    if sign in (1, -1):  # of the stored values
        return bool((sign == 1) != rises)
    shown_inverted = stored.photometric == "MONOCHROME1"
    return shown_inverted != (stored.modality in _BONES_WHITE)


def _padding(ds: "Dataset", values: FloatArray) -> NDArray[np.bool_]:
    """Which stored values are padding around the image."""
    if ds.get("PixelPaddingValue") is None:
        return np.zeros(len(values), bool)
    ends = [int(ds.PixelPaddingValue)]
    if ds.get("PixelPaddingRangeLimit") is not None:
        ends.append(int(ds.PixelPaddingRangeLimit))
    return (values >= min(ends)) & (values <= max(ends))


def check_decoder(stored: Stored) -> None:
    """Raise FrameError where compressed frames cannot be decoded with what is installed."""
    from pydicom.uid import UID

    if stored.syntax in (*_NATIVE, _JPEG_8_BIT, _RLE):
        return
    name = UID(stored.syntax).name
    try:
        available = _decoder(stored.syntax).is_available
    except NotImplementedError:
        raise FrameError("unreadable", f"the DICOM file is compressed as {name}; export its frames as PNG") from None
    if not available:
        raise FrameError("unreadable", f"the DICOM file is compressed as {name}, which needs a decoder: {_PACKAGES}")


def _decoder(syntax: str) -> Any:
    from pydicom.pixels import get_decoder  # type: ignore[attr-defined]
    from pydicom.uid import UID

    return get_decoder(UID(syntax))


def decode_levels(content: bytes, stored: Stored, table: Table) -> Levels:
    """Grey levels of one frame, (rows, columns, channels)."""
    decoder = _of_native if not stored.encapsulated else _DECODERS.get(stored.syntax, _by_pydicom)
    values = decoder(content, stored)
    if stored.samples > 1:
        return values
    in_range = (values >> (0 if stored.encapsulated else stored.high + 1 - stored.bits)) & (2**stored.bits - 1)
    levels: Levels = table[in_range]
    return levels


def _shape(stored: Stored) -> tuple[int, int, int]:
    return stored.header.height, stored.header.width, stored.samples


def _of_native(content: bytes, stored: Stored) -> Levels:
    values = np.frombuffer(content, stored.order + f"u{stored.allocated // 8}")
    rows, columns, samples = _shape(stored)
    if stored.planar and samples > 1:
        return np.moveaxis(values.reshape(samples, rows, columns), 0, -1)
    if len(values) and stored.order == ">" and stored.allocated == 8:
        raise FrameError("unreadable", "the DICOM file has 8 bits in big-endian order; export its frames as PNG")
    return values.astype(values.dtype.newbyteorder("="), copy=False).reshape(rows, columns, samples)


def _of_jpeg(content: bytes, stored: Stored) -> Levels:
    """Levels of a JPEG of 8 bits, by the strict decoder of frames."""
    _check_size(jpeg.read_header(content), stored)
    levels = jpeg.decode(content).levels
    if levels.shape != _shape(stored):
        raise FrameError("damaged", f"a frame of the DICOM file has {levels.shape[2]} channels, not {stored.samples}")
    return levels


def _of_rle(content: bytes, stored: Stored) -> Levels:
    """Levels of RLE: the bytes of a value from the highest to the lowest, each a segment of PackBits."""
    rows, columns, samples = _shape(stored)
    planes = samples * stored.allocated // 8
    if len(content) < 64 or (count := int.from_bytes(content[:4], "little")) != planes:
        raise FrameError("damaged", f"a frame of the DICOM file states other than {planes} segments of RLE")
    starts = [*struct.unpack(f"<{count}I", content[4 : 4 + 4 * count]), len(content)]
    if starts[0] < 64 or sorted(starts) != starts:
        raise FrameError("damaged", "the segments of a frame of the DICOM file are out of order")
    segments = [
        np.frombuffer(from_packbits(content[first:last], rows * columns), np.uint8)
        for first, last in pairwise(starts)
    ]
    values = np.stack(segments, axis=-1).reshape(rows, columns, samples, stored.allocated // 8)
    return values[..., 0] if stored.allocated == 8 else values.view(">u2")[..., 0].astype(np.uint16)


_DECODERS: dict[str, Callable[[bytes, Stored], Levels]] = {_JPEG_8_BIT: _of_jpeg, _RLE: _of_rle}


def _by_pydicom(content: bytes, stored: Stored) -> Levels:
    """Values of a frame of JPEG 2000, lossless JPEG or JPEG-LS; decoders trust its header, which is read first."""
    from pydicom.encaps import encapsulate

    _check_size(_stated_size(content, stored.samples), stored)
    described: dict[str, Any] = {
        "rows": stored.header.height,
        "columns": stored.header.width,
        "number_of_frames": 1,
        "samples_per_pixel": stored.samples,
        "planar_configuration": 0,
        "photometric_interpretation": stored.photometric,
        "bits_allocated": stored.allocated,
        "bits_stored": stored.bits,
        "pixel_representation": int(stored.signed),
        "pixel_keyword": "PixelData",
    }
    with muted():
        coded = encapsulate([content])
        values, _ = _decoder(stored.syntax).as_array(coded, index=0, raw=True, correct_unused_bits=False, **described)
    levels: Levels = values.view(f"u{stored.allocated // 8}").reshape(_shape(stored))
    return levels


def _stated_size(content: bytes, samples: int) -> Header:
    if (at := content.find(_SIZE_OF_JPEG_2000, 0, 10_000)) >= 0:
        right, low, left, top, *_, channels = struct.unpack(">8IH", content[at + 8 : at + 42])
        if channels != samples:
            raise FrameError("damaged", f"a frame of the DICOM file has {channels} channels, not {samples}")
        return Header(right - left, low - top)
    if content[2:4] == _SIZE_OF_JPEG_LS:
        height, width = struct.unpack(">HH", content[7:11])
        return Header(width, height)
    return jpeg.read_header(content)


def _check_size(found: Header, stored: Stored) -> None:
    expected = stored.header
    if (found.width, found.height) != (expected.width, expected.height):
        sizes = f"{found.width} x {found.height} px, expected {expected.width} x {expected.height}"
        raise FrameError("damaged", f"a compressed frame of the DICOM file has {sizes}")
