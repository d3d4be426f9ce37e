"""Image files of rows become the arrays that Pillow makes of them, whatever is in them."""

import io

import datasets
import numpy as np
import pytest
from PIL import Image

from veriserum_hf.dataset.image_files import decoded_image
from veriserum_hf.dataset.stored import decoded
from veriserum_hf.errors import FrameError

RNG = np.random.default_rng(0)
GREY = {bits: (np.add.outer(*2 * [np.arange(60)]) / 118 * (2**bits - 1)).astype(f"u{bits // 8}") for bits in (8, 16)}
COLOUR = np.stack([GREY[8], GREY[8].T[::-1], 255 - GREY[8]], axis=-1)


def file_of(image, kind, **options):
    content = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(content, kind, **options)
    return {"bytes": content.getvalue(), "path": None}


def rotated():
    exif = Image.Exif()
    exif[Image.ExifTags.Base.Orientation] = 6
    return exif


FILES = {
    "JPEG": file_of(GREY[8], "JPEG", quality=95),
    "progressive JPEG": file_of(GREY[8], "JPEG", progressive=True),
    "colour JPEG": file_of(COLOUR, "JPEG"),
    "CMYK JPEG": file_of(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"),
    "rotated JPEG": file_of(GREY[8][:40], "JPEG", exif=rotated()),
    "PNG": file_of(GREY[8], "PNG"),
    "16-bit PNG": file_of(GREY[16], "PNG"),
    "1-bit PNG": file_of(Image.fromarray(GREY[8]).convert("1"), "PNG"),
    "palette PNG": file_of(Image.fromarray(GREY[8]).convert("P"), "PNG"),
    "PNG with a transparent level": file_of(GREY[8], "PNG", transparency=3),
    "grey PNG with alpha": file_of(Image.fromarray(GREY[8]).convert("LA"), "PNG"),
    "colour PNG": file_of(COLOUR, "PNG"),
    "rotated PNG": file_of(GREY[8][:40], "PNG", exif=rotated()),
    "TIFF": file_of(GREY[8], "TIFF"),
    "16-bit TIFF": file_of(GREY[16], "TIFF"),
}


def by_pillow(file):
    return np.asarray(datasets.Image().decode_example(file))


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_decoded_as_by_pillow(name):
    found, expected = decoded_image(FILES[name]), by_pillow(FILES[name])
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_file_beside_the_table_is_read_by_its_path(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(FILES["JPEG"]["bytes"])
    np.testing.assert_array_equal(decoded_image({"bytes": None, "path": str(path)}), by_pillow(FILES["JPEG"]))


def test_the_image_that_cannot_be_decoded_is_named():
    row = dict.fromkeys(("measurement_id", "trial_id", "frame_index"), 1)
    images = {"image_bs": FILES["PNG"], "image_fs": {"bytes": b"text", "path": None}}
    with pytest.raises(FrameError, match=r"image_fs: it is no image, or its beginning is damaged$"):
        decoded(row | images)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "16-bit PNG"])
def test_a_damaged_file_is_refused_where_pillow_refuses_it(name):
    whole = FILES[name]["bytes"]
    damaged = [whole[:100], whole[: len(whole) // 2], b"", b"text"]
    for _ in range(40):
        changed = bytearray(whole)
        changed[RNG.integers(len(whole))] ^= 1 << RNG.integers(8)
        damaged.append(bytes(changed))
    for content in damaged:
        file = {"bytes": content, "path": None}
        try:
            expected = by_pillow(file)
        except (OSError, SyntaxError, ValueError):
            with pytest.raises(FrameError, match=r"^unreadable"):
                decoded_image(file)
        else:
            np.testing.assert_array_equal(decoded_image(file), expected)
