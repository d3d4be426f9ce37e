"""Strict decoding of TIFF: what the tags of one image, or of every page, must state."""

import re
from collections.abc import Iterator

from veriserum_hf.archive.raw_image import Header, Levels, RawImage
from veriserum_hf.archive.tags import DESCRIPTION, Content, Tags, directories, orientation
from veriserum_hf.archive.tiff_levels import DEFLATE, LZW, NONE, PACKBITS, SAVE, Layout, stored_levels
from veriserum_hf.errors import FrameError

_COMPRESSIONS = {
    2: "CCITT",
    3: "CCITT",
    4: "CCITT",
    6: "JPEG",
    7: "JPEG",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "ZSTD",
    50001: "WebP",
    50002: "JPEG XL",
}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = 0, 1, 2, 3
_OF_IMAGE = (256, 257, 258, 259, 262, 277, 278, 284, 317, 322, 323, 338)
_IMAGEJ = re.compile(rb"ImageJ=.*?^images=(\d{1,9})$", re.DOTALL | re.MULTILINE)


def read_header(data: bytes) -> Header:
    """Size and orientation; FrameError where there are none."""
    return _header(next(directories(data), {}))


def decode(data: bytes) -> RawImage:
    """Grey levels of a TIFF, (rows, columns, channels); 0 is black, also where the file says that it is white.

    Raises
    ------
    FrameError
        With the reason ``truncated``, ``damaged``, ``unreadable``, ``several images``, ``wrong channel count`` or
        ``wrong bit depth``.

    """
    images = [tags for tags in directories(data) if _is_page(tags)]
    if not images:
        raise _nothing_in(data)
    if len(images) != 1:
        raise FrameError("several images", f"the TIFF holds {len(images)} images, expected one; save each as a file")
    return decode_page(data, _layout(images[0], data))


def pages(data: Content) -> Iterator[Layout]:
    """Every image of a TIFF file but previews and masks, in the order of the file; raises as `decode`."""
    found = 0
    for index, tags in enumerate(directories(data)):
        if _is_page(tags):
            found += 1
            try:
                yield _layout(tags, data)
            except FrameError as error:
                raise FrameError(error.reason, f"page {index + 1}: {error.detail}") from error
        if index == 0:
            description = tags.get(DESCRIPTION, ())
    if not found:
        raise _nothing_in(data)
    if found == 1 and (stated := _IMAGEJ.match(bytes(description))) and int(stated[1]) > 1:
        several = f"it is a stack of {int(stated[1])} images with one directory, as ImageJ writes above 4 GB"
        raise FrameError("unreadable", f"{several}; save it as an image sequence")


def _is_page(tags: Tags) -> bool:
    """Whether an image is neither a preview, of reduced resolution, nor a mask."""
    return not _value(tags, 254, 0) & 0b101 and _value(tags, 255, 1) != 2


def _nothing_in(data: Content) -> FrameError:
    return FrameError("truncated", f"no image can be found in the {len(data)} bytes of the TIFF")


def decode_page(data: Content, layout: Layout) -> RawImage:
    """Grey levels of one page; raises as `decode`."""
    levels = stored_levels(data, layout)
    if layout.inverted:
        levels = _upright(levels, layout.bits)
    return RawImage(layout.header, levels, plain=layout.bits == 8 or (layout.bits == 16 and not layout.inverted))


def _value(tags: Tags, tag: int, default: int) -> int:
    values = tags.get(tag, ())
    return values[0] if values else default


def _header(tags: Tags) -> Header:
    width, height = _value(tags, 256, 0), _value(tags, 257, 0)
    if not width or not height:
        raise FrameError("damaged", "the TIFF states no size")
    return Header(width, height, orientation(tags), _value(tags, 258, 1))


def _layout(tags: Tags, data: Content) -> Layout:
    """Check what the tags state, and refuse what is no grey image of 8 to 16 bits."""
    header, compression, photometric = _header(tags), _value(tags, 259, NONE), _value(tags, 262, _BLACK_IS_ZERO)
    channels, bits = _value(tags, 277, 1), tags.get(258, (1,))
    if not bits:
        raise FrameError("damaged", "the TIFF does not state the number of its bits")
    if compression not in (NONE, LZW, PACKBITS, *DEFLATE):
        name = _COMPRESSIONS.get(compression, f"unknown ({compression})")
        raise FrameError("unreadable", f"the compression of the TIFF is {name}; {SAVE}")
    if compression == LZW and (bits[0] not in (8, 16) or (bits[0] == 16 and channels > 1)):
        raise FrameError("wrong bit depth", f"the TIFF has {channels} channels of {bits[0]} bits, packed; {SAVE}")
    if (predictor := _value(tags, 317, 1)) not in (1, 2):
        raise FrameError("unreadable", f"the predictor of the TIFF is unknown ({predictor}); {SAVE}")
    if (kind := _value(tags, 339, 1)) != 1:
        name = {2: "signed whole numbers", 3: "floating-point numbers"}.get(kind, "of another kind")
        raise FrameError("wrong bit depth", f"the grey levels of the TIFF are {name}; {SAVE}")
    if len(set(bits)) != 1 or bits[0] not in (8, 10, 12, 14, 16) or (bits[0] % 8 and channels > 1):
        raise FrameError("wrong bit depth", f"the TIFF has {' + '.join(map(str, bits))} bits; {SAVE}")
    if photometric == _PALETTE:
        raise FrameError("wrong channel count", f"the TIFF has a palette; {SAVE}")
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or not 1 <= channels <= 4:
        raise FrameError("wrong channel count", f"the TIFF has {channels} channels of another colour space; {SAVE}")
    if channels > 1 and _value(tags, 284, 1) != 1:
        raise FrameError("wrong channel count", f"the TIFF has {channels} separate channels; {SAVE}")
    if _value(tags, 266, 1) != 1:
        raise FrameError("unreadable", f"the bits of the TIFF are stored in reversed order; {SAVE}")
    tiled = 322 in tags
    where, lengths = (324, 325) if tiled else (273, 279)
    height = _value(tags, 323, 0) if tiled else min(_value(tags, 278, header.height), header.height)
    width = _value(tags, 322, 0) if tiled else header.width
    if not 0 < height * width <= 2 * header.width * header.height + 1_000_000:
        raise FrameError("damaged", f"the TIFF states strips or tiles of {width} x {height} px")
    offsets, sizes = tags.get(where, ()), tags.get(lengths, ())
    expected = -(-header.height // height) * -(-header.width // width)
    if len(offsets) != expected or len(sizes) != expected:
        raise FrameError("damaged", f"the TIFF has {len(offsets)} strips or tiles, expected {expected}")
    for offset, size in zip(offsets, sizes, strict=True):
        if offset + size > len(data):
            raise FrameError("truncated", f"the TIFF breaks off after {len(data)} bytes")
    order = "<" if data[:2] == b"II" else ">"
    return Layout(
        header,
        bits[0],
        channels,
        compression,
        inverted=photometric == _WHITE_IS_ZERO,
        predictor=predictor == 2,
        order=order,
        segment=(height, width),
        tiled=tiled,
        offsets=offsets,
        sizes=sizes,
        tags={tag: tags[tag] for tag in _OF_IMAGE if tag in tags},
    )


def _upright(levels: Levels, bits: int) -> Levels:
    """Levels whose 0 was white."""
    if bits == 16 and levels.max() < 2**15:
        detail = f"0 is white in the TIFF, whose highest level is {levels.max()} of 65535: where black is, is unknown"
        raise FrameError("wrong polarity", f"{detail}; save it with 0 as black")
    inverted: Levels = levels.dtype.type(2**bits - 1) - levels
    return inverted
