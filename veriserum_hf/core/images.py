"""Size of a row's image, without decoding it; files that cannot be read."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from veriserum_hf.core.rows import ImageFile
from veriserum_hf.errors import FrameError

if TYPE_CHECKING:
    from veriserum_hf.core.arrays import Grey


def image_size(image: "ImageFile | Image.Image | Grey") -> tuple[int, int]:
    """Rows and columns of a row's image, px; of a file only the header is read.

    Raises
    ------
    FrameError
        If the file has no header of an image.

    """
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    if isinstance(image, Image.Image):
        return image.height, image.width
    source = io.BytesIO(image["bytes"]) if image["bytes"] else image["path"] or ""
    with reading_image(), Image.open(source) as found:
        columns, rows = found.size
    return rows, columns


@contextmanager
def reading_image() -> Iterator[None]:
    """Raise a FrameError in the place of the errors that Pillow raises for a damaged file."""
    try:
        yield
    except UnidentifiedImageError as error:  # it names an address in memory
        raise FrameError("unreadable", "it is no image, or its beginning is damaged") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FrameError("unreadable", str(error)) from error
