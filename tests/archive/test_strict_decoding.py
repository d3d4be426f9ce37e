"""Damaged files are refused, whole ones of any encoder are not, and nothing but three formats is ever decoded."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.fixtures.damages import KINDS, by_opencv, damaged, encoders, imagemagick
from tests.fixtures.tiffs import BITS, COMPRESSION, ORIENTATION, PHOTOMETRIC, SAMPLE_FORMAT, tiff
from veriserum_hf.archive.frames import decode_frame, decode_raw, read_header
from veriserum_hf.errors import FrameError


@pytest.fixture(scope="module")
def image():
    """A round field with smooth shadows and noise that grows with the light, (400, 416)."""
    y, x = np.mgrid[:400, :416] - 200.0
    light = 120 + 60 * np.sin(x / 40) * np.cos(y / 50)
    light *= np.hypot(x, y) < 190
    noise = np.random.default_rng(0).normal(size=light.shape) * np.sqrt(light + 1) / 4
    return (8 + light + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def deep(image):
    return image.astype(np.uint16) * 16 + 7


def error_of(data):
    with pytest.raises(FrameError) as error:
        decode_frame(data)
    return error.value.reason, error.value.detail


def refused(data):
    try:
        decode_frame(data)
    except FrameError:
        return True
    return False


def by_pillow(image, format, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("encoder", ["libjpeg-turbo", "progressive", "Pillow, three channels"])
def test_damage_that_can_be_seen_is_refused(image, encoder, capfd):
    """The same damages in every run, of which a decoder that accepts what it can shows 3 grey levels RMS and more."""
    jpeg, rng = encoders()[encoder](image, 95), np.random.default_rng(3)
    whole = decode_frame(jpeg).astype(float)
    visible = []
    for kind in KINDS * 15:
        bad = damaged(jpeg, kind, rng)
        found = cv2.imdecode(np.frombuffer(bad, np.uint8), cv2.IMREAD_GRAYSCALE)
        if found is None or np.sqrt(np.mean((found - whole) ** 2)) > 3:
            visible.append(bad)
    capfd.readouterr()  # what libjpeg prints in OpenCV
    # A step that begins within the first or last of 26 blocks of a row may be an edge of the image.
    most_missed = encoder == "Pillow, three channels"
    assert len(visible) > 10 and sum(not refused(bad) for bad in visible) <= most_missed
    assert capfd.readouterr().err == ""


def test_a_wrong_bit_that_libjpeg_has_no_warning_for_is_found_by_the_step_that_it_leaves(image):
    import simplejpeg

    jpeg, found = by_opencv(image, 95), 0
    whole = decode_frame(jpeg).astype(float)
    rng = np.random.default_rng(5)
    for _ in range(600):
        bad = damaged(jpeg, "flipped bit", rng)
        try:
            difference = simplejpeg.decode_jpeg(bad, "GRAY")[..., 0] - whole
        except ValueError:
            continue
        if np.sqrt(np.mean(difference**2)) < 4:
            continue
        reason, detail = error_of(bad)
        row = int(detail.split("row ")[1].split(",")[0])
        first = np.flatnonzero(np.abs(difference).max(axis=1) > 3)[0]
        assert reason == "damaged" and "its grey levels are off by" in detail and abs(row - first) <= 8
        found += 1
    assert found >= 3


@pytest.mark.parametrize("encoder", ["libjpeg-turbo", "progressive", "restart markers", "Pillow", "ImageMagick"])
def test_whole_frames_of_every_encoder_are_accepted(image, encoder):
    """With little noise and much, of good quality and bad, with edges of a collimator wherever they lie."""
    if encoder == "ImageMagick" and not imagemagick():
        pytest.skip("ImageMagick is not installed here")
    noisy = (image + np.random.default_rng(1).normal(0, 20, image.shape)).clip(0, 255).astype(np.uint8)
    closed, inclined = image.copy(), image.copy()
    closed[:120], closed[-81:], closed[:, :40] = 4, 4, 4
    inclined[np.add.outer(np.arange(400), -np.arange(416) // 60) > 320] //= 4
    for each in (image, noisy, closed, inclined, image[:397, :411]):
        for quality in (30, 75, 95, 100):
            decoded = decode_frame(encoders()[encoder](each, quality))
            assert decoded.shape == each.shape


def test_the_levels_of_a_jpeg_are_those_of_opencv(image):
    for jpeg in (by_opencv(image, 90), by_opencv(image, 90, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)):
        np.testing.assert_array_equal(decode_frame(jpeg), cv2.imdecode(np.frombuffer(jpeg, np.uint8), -1))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_with_a_hole_is_refused_and_nothing_is_printed(image, deep, compression, bits, capfd):
    levels = image if bits == 8 else deep
    whole = by_pillow(levels, "TIFF", compression=compression)
    np.testing.assert_array_equal(decode_frame(whole), levels)
    half = len(whole) // 2
    assert error_of(whole[:half] + bytes(512) + whole[half + 512 :])[0] == "damaged"
    assert capfd.readouterr().err == ""


def test_the_checksums_of_a_png_are_compared(image, deep):
    for levels in (image, deep):
        whole = by_pillow(levels, "PNG")
        half = len(whole) // 2
        changed = bytearray(whole)
        changed[half] ^= 16
        assert error_of(bytes(changed)) == ("damaged", "the checksum of the PNG's chunk IDAT is wrong")


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(header, *chunks):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *header)) + b"".join(chunks)


@pytest.mark.parametrize(
    "data",
    [
        png_of((16640, 16000, 8, 0, 0, 0, 0), chunk(b"IDAT", b""), chunk(b"IEND", b"")),
        b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\xff\xd9",
        tiff(np.ones((4, 4), np.uint8), {256: 65535, 257: 65535}),
    ],
)
def test_a_size_that_no_frame_has_is_refused_before_memory_is_taken(data):
    reason, detail = error_of(data)
    assert reason == "unreadable" and "expected at most 64 megapixels" in detail
    with pytest.raises(FrameError):
        read_header(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"CI\x2c\x00" + bytes(100), "a .cine film"),
        (b"/* XPM */\nstatic char *x[] = {", "an XPM image"),
        (b"DDS " + bytes(124), "a DDS texture"),
        (b"BM" + bytes(100), "a BMP image"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "a WebP image"),
        (b"GIF89a" + bytes(20), "a GIF image"),
        (b"P5 4 4 255\n" + bytes(16), "a PBM, PGM or PPM image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_other_files_are_named_and_never_decoded(data, name):
    reason, detail = error_of(data)
    assert reason == "unreadable" and name in detail and "save it as one of these" in detail


def test_dicom_is_no_frame_of_an_archive():
    detail = "this is DICOM: import own frames with `veriserum import`"
    assert error_of(bytes(128) + b"DICM" + bytes(100)) == ("unreadable", detail)


def test_what_a_tiff_holds_is_named(image, deep):
    pages = by_pillow(image, "TIFF", save_all=True, append_images=[Image.fromarray(image)] * 2)
    assert error_of(pages) == ("several images", "the TIFF holds 3 images, expected one; save each as a file")
    floats = tiff(image.astype(np.float32), {SAMPLE_FORMAT: 3})
    for data, reason, text in (
        (floats, "wrong bit depth", "floating-point numbers"),
        (by_pillow(image, "TIFF", compression="zstd"), "unreadable", "the compression of the TIFF is ZSTD"),
        (tiff(image, {PHOTOMETRIC: 3}), "wrong channel count", "has a palette"),
        (tiff(deep, {COMPRESSION: 65000}), "unreadable", "unknown (65000)"),
        (tiff(deep.astype(np.int16), {SAMPLE_FORMAT: 2}), "wrong bit depth", "signed whole numbers"),
        (tiff(image, {BITS: 1}), "wrong bit depth", "1 bits"),
    ):
        found, detail = error_of(data)
        assert found == reason and text in detail and "save it with 8 or 16 bits" in detail


def test_previews_beside_the_one_image_of_a_tiff_do_no_harm(image):
    preview = Image.fromarray(image[::8, ::8])
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    whole = by_pillow(image, "TIFF", save_all=True, append_images=[preview])
    np.testing.assert_array_equal(decode_frame(whole), image)


def test_three_equal_channels_are_one(image, deep):
    three, four = np.dstack([image] * 3), np.dstack([image] * 3 + [np.full_like(image, 255)])
    for data in (by_pillow(three, "PNG"), by_pillow(four, "PNG"), by_pillow(three, "TIFF"), by_pillow(four, "TIFF")):
        np.testing.assert_array_equal(decode_frame(data), image)
    sixteen = cv2.imencode(".png", np.dstack([deep] * 3))[1].tobytes()
    np.testing.assert_array_equal(decode_frame(sixteen), deep)
    four[0, 0, 3] = 254
    reason, detail = error_of(by_pillow(four, "PNG"))
    assert reason == "wrong channel count" and "not opaque" in detail
    palette = io.BytesIO()
    Image.fromarray(image).convert("P").save(palette, "PNG")
    assert "palette" in error_of(palette.getvalue())[1]


@pytest.mark.parametrize("order", ["<", ">"])
def test_in_a_tiff_of_any_depth_and_order_0_is_black_also_where_the_file_has_it_as_white(image, deep, order):
    for levels in (image, deep):
        np.testing.assert_array_equal(decode_frame(tiff(levels, order=order)), levels)
        full = levels if levels.dtype == np.uint8 else levels * 15
        np.testing.assert_array_equal(decode_frame(tiff(full, {PHOTOMETRIC: 0}, order=order)), ~full)
    assert error_of(tiff(deep, {PHOTOMETRIC: 0}))[0] == "wrong polarity"
    packed = np.packbits((deep[..., None] >> np.arange(11, -1, -1) & 1).astype(np.uint8).reshape(400, -1), axis=1)
    np.testing.assert_array_equal(decode_frame(tiff(deep, {BITS: 12}, data=packed.tobytes())), deep)


def oriented(image, format, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return by_pillow(image, format, exif=exif)


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_an_orientation_tag_never_changes_the_array(image, deep, orientation):
    files = {
        "jpeg": (oriented(image, "JPEG", orientation), None),
        "png": (oriented(image, "PNG", orientation), image),
        "tiff": (tiff(image, {ORIENTATION: orientation}), image),
        "deep": (tiff(deep, {ORIENTATION: orientation}, order=">"), deep),
        "lzw": (by_pillow(deep, "TIFF", compression="tiff_lzw", tiffinfo={ORIENTATION: orientation}), deep),
    }
    for data, levels in files.values():
        frame = decode_raw(data)
        assert (frame.orientation, frame.plain, frame.levels.shape) == (orientation, orientation == 1, image.shape)
        assert read_header(data).orientation == orientation
        if levels is not None:
            np.testing.assert_array_equal(frame.levels, levels)


def test_the_orientation_of_xmp_is_one_too(image):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    assert decode_raw(by_pillow(image, "JPEG", xmp=xmp)).orientation == 3


@pytest.mark.parametrize("level", [0, 60, 255])
def test_a_strip_in_the_last_row_of_blocks_is_not_taken_for_damage(image, level):
    marked = image.copy()
    marked[-8:] = level
    for quality in (75, 95):
        assert decode_frame(by_opencv(marked, quality)).shape == image.shape


def test_whatever_a_header_states_it_is_a_frame_or_an_error_of_the_frame(image):
    rng = np.random.default_rng(0)
    small = image[100:300, 100:308]
    files = [
        by_pillow(small, "PNG"),
        by_pillow(small, "JPEG"),
        tiff(small),
        by_pillow(small, "TIFF", compression="tiff_lzw"),
    ]
    for data in files:
        for _ in range(150):
            bad = np.frombuffer(data, np.uint8).copy()
            first = rng.choice((0, len(bad) - 200))  # the header, or a TIFF's directory
            bad[first + rng.integers(0, 200, rng.integers(1, 6))] = rng.choice((0, 255, 4))
            refused(bad.tobytes())  # raises FrameError alone
    with pytest.raises(FrameError, match="does not state the number of its bits"):
        decode_frame(tiff(small).replace(struct.pack("<HHI", BITS, 3, 1), struct.pack("<HHI", BITS, 2, 1)))
