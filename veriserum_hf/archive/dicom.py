"""DICOM files of fluoroscopes and X-ray detectors: XA, RF, DX and CR, of one frame or many.

Only what describes the pixels and the camera is read. What the window (VOI LUT) of a file says is for display and is
not applied; the modality LUT (rescale) is.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from veriserum_hf.archive.dicom_fragments import frames_of_items, frames_of_native
from veriserum_hf.archive.dicom_levels import Stored, check_decoder, level_table
from veriserum_hf.archive.dicom_proposal import TAGS as PROPOSAL_TAGS, CameraProposal, proposal_of
from veriserum_hf.archive.files import MOST_STACK_BYTES, explained
from veriserum_hf.archive.raw_image import Header
from veriserum_hf.core import one_line, open_regular
from veriserum_hf.errors import FrameError

if TYPE_CHECKING:
    from pydicom import Dataset

    from veriserum_hf.archive.dicom_levels import Table

_MODALITIES = ("XA", "RF", "DX", "CR")
_DICOMDIR = "1.2.840.10008.1.3.10"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_MOST_FRAMES = 1_000_000
_SAVE = "export the frames as PNG or TIFF"
_TAGS = (
    "Modality",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelIntensityRelationshipSign",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    *PROPOSAL_TAGS,
)


@dataclass(frozen=True)
class Dicom:
    """What a DICOM file states of its frames, and where they lie.

    Attributes
    ----------
    stored : how each is stored.
    table : grey level of every stored value.
    bits : of a grey level.
    inverted : whether the file stores X-rays dark.
    frames : of every frame, places and sizes of its parts in the file, bytes.
    proposal : camera and frame rate.

    """

    stored: Stored
    table: "Table"
    bits: int
    inverted: bool
    frames: tuple[tuple[tuple[int, int], ...], ...]
    proposal: CameraProposal


def read_dicom(path: Path) -> Dicom:
    """What a file states, without its pixels.

    Raises
    ------
    FrameError
        With the reason ``unreadable`` where it is of another modality, compressed in a way that cannot be decoded, or
        no package for DICOM is installed; ``truncated``, ``damaged``, ``wrong bit depth`` or ``wrong channel count``.
    ArchiveError
        If the file is gone.

    """
    try:
        import pydicom
    except ImportError as error:
        raise FrameError("unreadable", f'{path} is DICOM: pip install "veriserum-hf[dicom]"') from error
    with explained(path), open_regular(path, MOST_STACK_BYTES) as file, heeded("the header"):
        ds = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
        return _described(ds, file)


def _described(ds: "Dataset", file: BinaryIO) -> Dicom:
    """Check what a data set states; the file stands at its pixels."""
    syntax = str(ds.file_meta.get("TransferSyntaxUID", ""))
    if str(ds.file_meta.get("MediaStorageSOPClassUID", "")) == _DICOMDIR:
        raise FrameError("unreadable", "it is a DICOMDIR, which lists the files of a disc; give those")
    modality = str(ds.get("Modality") or "")
    if modality not in _MODALITIES:
        stated = f"its modality is {modality!a}" if modality else "it states no modality"
        raise FrameError("unreadable", f"it is DICOM, and {stated}, expected XA, RF, DX or CR; {_SAVE}")
    if not syntax:
        syntax = _syntax_of(ds)
    if syntax in (_DEFLATED, ""):
        named = "deflated as a whole" if syntax else "stored in an unknown transfer syntax"
        raise FrameError("unreadable", f"the DICOM file is {named}; {_SAVE}")
    stored = _stored(ds, syntax, modality)
    check_decoder(stored)
    count = int(ds.get("NumberOfFrames") or 1)
    if not 1 <= count <= _MOST_FRAMES:
        raise FrameError("damaged", f"the DICOM file states {count} frames")
    if stored.encapsulated:
        frames = frames_of_items(file, count, stored.frame_bytes)
    else:
        frames = frames_of_native(file, count, stored.frame_bytes, stored.order, explicit=stored.explicit)
    table, bits, inverted = level_table(ds, stored)
    return Dicom(stored, table, bits, inverted, frames, proposal_of(ds))


def _syntax_of(ds: "Dataset") -> str:
    """Transfer syntax of a file without meta information: one of the three that are not compressed."""
    if not ds.is_little_endian:
        return _BIG_ENDIAN
    return "1.2.840.10008.1.2" if ds.is_implicit_VR else "1.2.840.10008.1.2.1"


def _stored(ds: "Dataset", syntax: str, modality: str) -> Stored:
    """How every frame is stored; FrameError where it is no grey image of up to 16 bits, or cannot be decoded."""
    missing = [each for each in ("Rows", "Columns", "BitsAllocated") if ds.get(each) is None]
    if missing:
        raise FrameError("damaged", f"the DICOM file does not state {missing[0]}; is it one with images?")
    allocated = int(ds.BitsAllocated)
    bits = int(ds.get("BitsStored") or allocated)
    high = int(ds.HighBit) if ds.get("HighBit") is not None else bits - 1
    if allocated not in (8, 16) or not 2 <= bits <= high + 1 <= allocated:
        detail = f"{allocated} bits a pixel, of which {bits} are stored, the highest of them bit {high}"
        raise FrameError("wrong bit depth", f"the DICOM file has {detail}; expected 8 or 16 bits; {_SAVE}")
    samples, photometric = int(ds.get("SamplesPerPixel") or 1), str(ds.get("PhotometricInterpretation") or "")
    grey = samples == 1 and photometric in ("MONOCHROME1", "MONOCHROME2")
    if not grey and not (samples == 3 and allocated == 8 and photometric.startswith(("RGB", "YBR_FULL"))):
        detail = f"{samples} channels and is {photometric or 'of an unstated colour space'}"
        raise FrameError("wrong channel count", f"the DICOM file has {detail}, expected MONOCHROME1 or 2; {_SAVE}")
    return Stored(
        header=Header(int(ds.Columns), int(ds.Rows), bits=bits),
        syntax=syntax,
        modality=modality,
        photometric=photometric,
        samples=samples,
        planar=int(ds.get("PlanarConfiguration") or 0) == 1,
        allocated=allocated,
        bits=bits,
        high=high,
        signed=int(ds.get("PixelRepresentation") or 0) == 1,
    )


@contextmanager
def heeded(what: str) -> Iterator[None]:
    """Errors of the libraries for DICOM as those of a frame, without their warnings.

    What is malformed makes pydicom raise nearly any exception of Python.
    """
    from pydicom.errors import BytesLengthException, InvalidDicomError

    odd = (
        InvalidDicomError,
        BytesLengthException,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        EOFError,
        RuntimeError,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (*odd, ArithmeticError, AssertionError, MemoryError, struct.error, zlib.error) as error:
        raise FrameError("damaged", f"reading {what} of the DICOM file: {one_line(str(error))}") from error
