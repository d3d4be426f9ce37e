"""Decode the image files of corrected rows: the array that Pillow makes of the file, but faster.

Grey JPEG, which nearly all are, goes to libjpeg-turbo, grey PNG to OpenCV. Whatever is not plainly one of these, or
not whole, goes to Pillow as `datasets` does it: colour, palettes, orientation tags, and files with errors.
"""

import cv2
import datasets
import numpy as np
import simplejpeg

from veriserum_hf.archive import read_header
from veriserum_hf.core import Grey, ImageFile, reading_image
from veriserum_hf.errors import FrameError

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_GREY_OF_PNG = {(8, 0): np.uint8, (16, 0): np.uint16}  # by bits and type of colour, bytes 24 and 25


def decoded_image(file: ImageFile) -> Grey:
    """Grey levels of an image file, (rows, columns), or (rows, columns, channels) of a colour image.

    Raises
    ------
    FrameError
        If the file cannot be decoded.

    """
    levels = _fast(file["bytes"] or b"")
    return _by_pillow(file) if levels is None else levels


def _fast(data: bytes) -> Grey | None:
    """Grey levels of a whole grey JPEG or PNG that is stored upright; None for any other file."""
    try:
        if not data.startswith((_JPEG, _PNG)) or read_header(data).orientation != 1:
            return None
        if data.startswith(_JPEG):
            grey = simplejpeg.decode_jpeg_header(data)[2] == "Gray"
            return simplejpeg.decode_jpeg(data, "GRAY")[..., 0] if grey else None
    except (FrameError, ValueError):
        return None
    kind = _GREY_OF_PNG.get((data[24], data[25]))
    levels = None if kind is None else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return levels if levels is not None and levels.ndim == 2 and levels.dtype == kind else None  # type: ignore[return-value]


def _by_pillow(file: ImageFile) -> Grey:
    with reading_image():
        image: Grey = np.asarray(datasets.Image().decode_example(file))
    return image
