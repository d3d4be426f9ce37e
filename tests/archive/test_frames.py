"""Decoding one raw frame, and the reasons why one cannot be used."""

import cv2
import numpy as np
import pytest
from PIL import Image

from veriserum_hf.archive.frames import read_frame
from veriserum_hf.errors import ArchiveError, FrameError


def image(dtype=np.uint8, shape=(400, 416)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    noise = np.random.default_rng(0).normal(0, 0.02, shape)
    values = 0.5 + 0.3 * np.sin(x / 40) * np.cos(y / 50) + noise
    return (values.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def written(path, image, *options):
    assert cv2.imwrite(str(path), image, options)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extension", ["png", "tif", "tiff"])
def test_lossless_frames_come_back_exactly(tmp_path, extension, dtype):
    frame = read_frame(written(tmp_path / f"bs_000001.{extension}", image(dtype)))
    assert frame.dtype == dtype
    np.testing.assert_array_equal(frame, image(dtype))


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_comes_back_as_grey(tmp_path, progressive):
    path = written(tmp_path / "bs_000001.jpg", image(), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    frame = read_frame(str(path))
    assert (frame.dtype, frame.shape) == (np.uint8, (400, 416))
    assert np.abs(frame.astype(int) - image()).mean() < 2


def test_a_note_of_the_camera_to_rotate_the_image_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: rotate by 90 degrees
    Image.fromarray(image()).save(tmp_path / "bs_000001.jpg", exif=exif)
    assert read_frame(tmp_path / "bs_000001.jpg").shape == (400, 416)


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tmp_path):
    path = written(tmp_path / "bs_000001.jpg", image())
    path.write_bytes(path.read_bytes() + bytes(100))
    assert read_frame(path).shape == (400, 416)


def reason_of(path):
    with pytest.raises(FrameError) as error:
        read_frame(path)
    assert str(error.value) == f"{error.value.reason}: {error.value.detail}" and error.value.detail
    return error.value.reason


def test_a_frame_that_vanished_is_no_bad_frame_but_a_changed_archive(tmp_path):
    with pytest.raises(ArchiveError, match=r"bs_000001\.jpg: No such file.*The archive has changed"):
        read_frame(tmp_path / "bs_000001.jpg")


def test_a_frame_of_zero_bytes(tmp_path):
    (tmp_path / "bs_000001.jpg").touch()
    assert reason_of(tmp_path / "bs_000001.jpg") == "zero bytes"


@pytest.mark.parametrize("part", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("extension", ["jpg", "png", "tif"])
def test_a_frame_that_was_cut_off(tmp_path, extension, part):
    path = written(tmp_path / f"bs_000001.{extension}", image())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    assert reason_of(path) == "truncated"


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate"])
def test_a_tiff_that_was_cut_off_behind_its_directory(tmp_path, compression):
    path = tmp_path / "bs_000001.tif"
    Image.fromarray(image(np.uint16)).save(path, compression=compression)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    assert reason_of(path) == "truncated"


def test_a_jpeg_cut_off_in_its_header(tmp_path):
    path = written(tmp_path / "bs_000001.jpg", image())
    path.write_bytes(path.read_bytes()[:100])
    assert reason_of(path) == "truncated"


@pytest.mark.parametrize("content", [b"<html>404</html>", b"\x00" * 5000, b"GIF89a" + bytes(100)])
def test_a_file_that_is_no_image(tmp_path, content):
    (tmp_path / "bs_000001.jpg").write_bytes(content)
    assert reason_of(tmp_path / "bs_000001.jpg") == "unreadable"


def test_a_folder_in_a_frames_place(tmp_path):
    (tmp_path / "bs_000001.jpg").mkdir()
    assert reason_of(tmp_path / "bs_000001.jpg") == "unreadable"


@pytest.mark.parametrize(("extension", "channels"), [("jpg", 3), ("png", 3), ("png", 4), ("tif", 3)])
def test_a_frame_in_colour(tmp_path, extension, channels):
    colours = [image(), 255 - image(), *[image()] * (channels - 2)]
    path = written(tmp_path / f"bs_000001.{extension}", np.dstack(colours))
    assert reason_of(path) == "wrong channel count"


def test_a_frame_of_floats(tmp_path):
    assert reason_of(written(tmp_path / "bs_000001.tif", image().astype(np.float32))) == "wrong bit depth"


@pytest.mark.parametrize(("extension", "dtype"), [("jpg", np.uint8), ("png", np.uint16), ("tif", np.uint16)])
def test_a_frame_without_light(tmp_path, extension, dtype):
    assert reason_of(written(tmp_path / f"bs_000001.{extension}", np.zeros((400, 416), dtype))) == "all black"


@pytest.mark.parametrize(("extension", "dtype"), [("jpg", np.uint8), ("png", np.uint16), ("tif", np.uint16)])
@pytest.mark.parametrize("level", [0.3, 0.5, 1.0])
def test_a_frame_of_one_grey_level(tmp_path, extension, dtype, level):
    blank = np.full((400, 416), int(level * np.iinfo(dtype).max), dtype)
    path = written(tmp_path / f"bs_000001.{extension}", blank)
    assert reason_of(path) == "no contrast"
    blank[150:250] //= 2
    read_frame(written(path, blank))


def test_noise_and_a_field_that_is_full_of_light_are_not_blank(tmp_path):
    noise = np.random.default_rng(0).normal(200, 1.5, (400, 416)).astype(np.uint8)
    assert (read_frame(written(tmp_path / "bs_000001.png", noise)) == noise).all()
    field = cv2.circle(np.zeros((400, 416), np.uint8), (208, 200), 190, 255, -1)
    assert (read_frame(written(tmp_path / "bs_000002.png", field)) == field).all()
