"""Strict decoding of JPEG: whatever libjpeg warns of is an error, and so is a step in the grey levels.

Most damage to the scan leaves too much or too little of it behind, and libjpeg warns of that. The exception is a
wrong bit in the difference of a block's mean to that of the block before: every later block is too bright or too
dark by the same amount. It leaves a step along the blocks' borders that begins within a row of blocks; see `_step`.
"""

import re
import struct
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from veriserum_hf.archive.raw_image import Header, RawImage
from veriserum_hf.archive.tags import orientation_of_exif, orientation_of_xmp
from veriserum_hf.errors import FrameError

MAGIC = b"\xff\xd8\xff"
_MARKER = re.compile(rb"\xff+([^\xff\x00])")
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Baseline, extended and progressive, with Huffman or arithmetic codes.
_PROCESSES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_PROGRESSIVE = {0xC2, 0xCA}
_MOST_SCANS = 100  # a progressive file has about ten; each is decoded over the whole image
# A step: in grey levels, and in standard deviations of the mean over a row of blocks.
_LEAST_STEP, _LEAST_SIGNIFICANCE = 2.5, 8.0
# Of the blocks on each side of its beginning: share of the step that they show, and the same deviations.
_LEAST_SHARE, _LEAST_OF_SIDE = 0.4, 2.5
_FEWEST_BLOCKS = 12  # in a row
_ROUNDING = 0.3  # grey levels


@dataclass(frozen=True)
class _Frame:
    """What the markers before the first scan state."""

    header: Header
    process: int
    bits: int
    components: int
    unit: tuple[int, int]  # (height, width) of the blocks that are coded together, px


def read_header(data: bytes) -> Header:
    """Size and orientation; FrameError where there are none."""
    return _read_markers(data).header


def decode(data: bytes) -> RawImage:
    """Grey levels of a JPEG, (rows, columns, channels).

    Raises
    ------
    FrameError
        With the reason ``truncated``, ``damaged``, ``unreadable``, ``wrong channel count`` or ``wrong bit depth``.

    """
    if _breaks_off(data):
        raise FrameError("truncated", f"the JPEG breaks off after {len(data)} bytes")
    frame = _read_markers(data)
    if frame.process not in _PROCESSES:
        raise FrameError("unreadable", "it is a lossless or hierarchical JPEG; save it as PNG")
    if frame.bits != 8:
        raise FrameError("wrong bit depth", f"it is a JPEG of {frame.bits} bits, expected 8; save it as 16-bit PNG")
    if frame.components not in (1, 3):
        raise FrameError("wrong channel count", f"found {frame.components} channels, expected one grey channel")
    if frame.process in _PROGRESSIVE and (scans := data.count(_SCAN)) > _MOST_SCANS:
        raise FrameError("unreadable", f"the JPEG has {scans} scans, expected at most {_MOST_SCANS}")
    try:
        levels = simplejpeg.decode_jpeg(data, "GRAY" if frame.components == 1 else "BGR")
    except ValueError as error:
        raise FrameError("damaged", f"decoding the JPEG: {error}") from error
    if step := _step(levels[..., 0], frame.unit):
        raise FrameError("damaged", step)
    return RawImage(frame.header, levels)


def _breaks_off(jpeg: bytes) -> bool:
    """Whether the end is missing: its bytes cannot occur in a scan, but before one (a thumbnail has its own)."""
    if jpeg.rfind(_END, -64) >= 0:  # nearly always; searching all of a frame takes a while
        return False
    return jpeg.rfind(_END) <= jpeg.rfind(_SCAN)


def _read_markers(data: bytes) -> _Frame:
    """Walk through the markers before the first scan."""
    place, orientation, found = 2, 1, None
    while (marker := _MARKER.match(data, place)) and marker[1][0] not in (0xDA, 0xD9):
        code, place = marker[1][0], marker.end()
        if code in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[place : place + 2], "big")
        segment = data[place + 2 : place + length]
        place += length
        if length < 2 or len(segment) < length - 2:
            break
        if code in _FRAME_MARKERS and len(segment) >= 6:
            found = code, segment
        elif code == 0xE1 and segment.startswith(_EXIF):
            orientation = orientation_of_exif(segment[len(_EXIF) :])
        elif code == 0xE1 and segment.startswith(_XMP) and orientation == 1:
            orientation = orientation_of_xmp(segment)
    if found is None:
        raise FrameError("damaged", "the JPEG states no size before its first scan")
    code, segment = found
    bits, height, width, components = struct.unpack(">BHHB", segment[:6])
    sampling = segment[7] if components > 1 and len(segment) > 7 else 0x11
    unit = 8 * max(1, sampling & 15), 8 * max(1, sampling >> 4)
    return _Frame(Header(width, height, orientation), code, bits, components, unit)


def _lines_at_borders(
    levels: NDArray[np.uint8], unit: tuple[int, int], rows: int, across: int
) -> tuple[NDArray[np.int16], ...]:
    """The two lines before and the two after each border of rows of blocks, averaged over the width of a block.

    Each is (rows - 1, across). What is left of the last block in a row is taken as the block before.
    """
    height, width = unit
    whole = levels.shape[1] // width
    near = levels[height - 2 : rows * height - 2].reshape(rows - 1, height, -1)[:, :4, : whole * width]
    lines = near.reshape(rows - 1, -1)  # a view, where the blocks are whole
    means = cv2.resize(lines, (4 * whole, rows - 1), interpolation=cv2.INTER_AREA).astype(np.int16)
    means = means.reshape(rows - 1, 4, whole)
    if across > whole:
        means = np.pad(means, ((0, 0), (0, 0), (0, across - whole)), mode="edge")
    return tuple(np.moveaxis(means, 1, 0))


def _step(levels: NDArray[np.uint8], unit: tuple[int, int]) -> str | None:
    """What is wrong where a step in the grey levels begins within a row of blocks; None where there is none.

    In the order of the scan, the upper borders of the ``W`` blocks after a wrong difference all show the same step:
    from the block of the wrong bit to the end of its row, and in the next row up to that block. An edge in the
    image does not jump by one row of blocks at one column, and lies on their border by chance alone.
    """
    height, width = unit
    rows, across = levels.shape[0] // height, -(-levels.shape[1] // width)
    if rows < 3 or across < _FEWEST_BLOCKS:
        return None
    before, last, first, after = _lines_at_borders(levels, unit, rows, across)
    # Both sides continued to the border by half a pixel.
    steps = np.float32(0.5) * (3 * (first - last) + before - after)
    flat = steps.ravel()
    sums = np.cumsum(np.clip(flat, -20, 20), dtype=np.float64)
    windows = (sums[across:] - sums[:-across]) / across
    place = int(np.abs(windows).argmax()) + 1
    if abs(windows[place - 1]) < 0.5 * _LEAST_STEP:
        return None
    noise = 1.5 * float(np.median(np.abs(flat))) + _ROUNDING
    window = slice(place, place + across)
    inside = (first.ravel()[window] > 2) & (first.ravel()[window] < 253)  # others may be clipped
    step = float(np.median(flat[window][inside] if inside.sum() > across // 8 else flat[window]))
    if abs(step) < max(_LEAST_STEP, _LEAST_SIGNIFICANCE * noise / np.sqrt(across)):
        return None
    # For each block of the two rows, how much better the step explains what is seen than none does.
    row = min(place // across, rows - 3)  # a window over the last row alone begins after the row before
    rows_near = slice(row, row + 2)
    expected = np.clip(last[rows_near] + step, 0, 255) - last[rows_near]
    shown = np.abs(steps[rows_near]) - np.abs(steps[rows_near] - expected)
    gain = np.concatenate([[0], np.cumsum(shown[0] - shown[1])])
    column = int(gain.argmin())
    most = np.concatenate([[0], np.cumsum(np.abs(expected).sum(axis=0))])
    for found, possible, blocks in (
        (-gain[column], most[column], column),
        (gain[-1] - gain[column], most[-1] - most[column], across - column),
    ):
        # Not so where a whole row shows the step: an edge of a collimator may lie there.
        if found <= max(_LEAST_SHARE * possible, _LEAST_OF_SIDE * noise * np.sqrt(2 * blocks)):
            return None
    where = f"from row {(row + 1) * height}, column {column * width} on"
    return f"its grey levels are off by {abs(step):.0f} {where}: bits of the JPEG are wrong"
