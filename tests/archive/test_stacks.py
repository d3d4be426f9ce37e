"""Own image files as stacks of frames."""

import pickle
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.archive.test_frames import image, written
from tests.fixtures.tiffs import BITS, PHOTOMETRIC, tiff
from veriserum_hf.archive import open_stack
from veriserum_hf.errors import ArchiveError, FrameError

OTHER_LABS = Path(__file__).parents[3] / "shared" / "real" / "other_labs"
needs_real = pytest.mark.skipif(not OTHER_LABS.exists(), reason="real frames of other laboratories are not at hand")


def pages(path, images, **options):
    first, *rest = (Image.fromarray(each) for each in images)
    first.save(path, "TIFF", save_all=True, append_images=rest, **options)
    return path


def refused(path):
    with pytest.raises(FrameError) as error:
        open_stack(path).read(0)
    return error.value.reason, error.value.detail


@pytest.mark.parametrize(
    ("name", "dtype", "kind", "bits"),
    [("a.png", np.uint16, "PNG", 16), ("a.jpg", np.uint8, "JPEG", 8), ("a.tif", np.uint8, "TIFF", 8)],
)
def test_a_file_of_one_image_is_a_stack_of_one_frame(tmp_path, name, dtype, kind, bits):
    stack = open_stack(written(tmp_path / name, image(dtype)))
    assert (stack.kind, stack.count, stack.size, stack.bits, stack.inverted) == (kind, 1, (400, 416), bits, False)
    assert np.abs(stack.read(0).astype(float) - image(dtype)).mean() < 2


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pages_of_a_tiff_count_one_by_one(tmp_path, compression, dtype):
    frames = [np.roll(image(dtype), 20 * k, axis=1) for k in range(3)]
    stack = pickle.loads(pickle.dumps(open_stack(pages(tmp_path / "a.tif", frames, compression=compression))))
    assert (stack.count, stack.bits) == (3, 8 * dtype().itemsize)
    for k in (2, 0, 1):
        np.testing.assert_array_equal(stack.read(k), frames[k])
    with pytest.raises(IndexError, match=r"a\.tif has 3 frames, and none with the index 3"):
        stack.read(3)


def test_equal_channels_are_grey_and_others_are_refused(tmp_path):
    frames = [image()] * 2
    stack = open_stack(pages(tmp_path / "a.tif", [np.dstack([each] * 3) for each in frames], compression="tiff_lzw"))
    np.testing.assert_array_equal(stack.read(1), image())
    colour = np.dstack([image(), 255 - image(), image()])
    assert refused(written(tmp_path / "b.png", colour))[0] == "wrong channel count"


def test_white_stored_as_0_is_returned_bright(tmp_path):
    deep = image(np.uint16) >> 4
    packed = np.packbits((deep[..., None] >> np.arange(11, -1, -1)) & 1)
    for stored, levels in (
        (tiff(255 - image(), {PHOTOMETRIC: 0}), image()),
        (tiff(deep, {PHOTOMETRIC: 0, BITS: 12}, data=packed.tobytes()), 4095 - deep),
    ):
        (tmp_path / "a.tif").write_bytes(stored)
        stack = open_stack(tmp_path / "a.tif")
        assert stack.inverted
        np.testing.assert_array_equal(stack.read(0), levels)


def test_previews_are_no_frames_and_other_sizes_are_named(tmp_path):
    preview = Image.fromarray(image()[::4, ::4])
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(image()).save(tmp_path / "a.tif", save_all=True, append_images=[preview])
    assert open_stack(tmp_path / "a.tif").count == 1
    path = pages(tmp_path / "b.tif", [image(), image(), image()[:, :400]])
    assert refused(path) == (
        "pages of different sizes",
        "image 3 is 400 x 400 px of 8 bits, the first one 416 x 400 px of 8 bits; "
        "expected the same. Save them in files of their own",
    )


def test_what_cannot_be_used_is_named_when_it_is_opened(tmp_path):
    real = pages(tmp_path / "a.tif", [image(), image().astype(np.float32)])
    assert refused(real) == (
        "wrong bit depth",
        "page 2: the grey levels of the TIFF are floating-point numbers; "
        "save it with 8 or 16 bits of grey and LZW, deflate or no compression",
    )
    Image.fromarray(image() > 128).save(tmp_path / "b.png")
    assert refused(tmp_path / "b.png") == ("wrong bit depth", "it is a PNG of 1 bits, expected 8 or 16")
    (tmp_path / "c.tif").write_bytes(b"II*\0" + bytes(4))
    assert refused(tmp_path / "c.tif")[0] == "truncated"
    (tmp_path / "d.png").touch()
    assert refused(tmp_path / "d.png")[0] == "zero bytes"
    (tmp_path / "e.png").mkdir()
    assert refused(tmp_path / "e.png")[0] == "unreadable"
    with pytest.raises(ArchiveError, match=r"f\.png: No such file"):
        open_stack(tmp_path / "f.png")


def test_a_stack_with_one_directory_for_many_images_is_no_single_frame(tmp_path):
    note = "ImageJ=1.54f\nimages=500\nslices=500\n"
    Image.fromarray(image()).save(tmp_path / "a.tif", tiffinfo={270: note})
    assert refused(tmp_path / "a.tif")[1].startswith("it is a stack of 500 images with one directory, as ImageJ")


def test_one_bad_page_leaves_the_others(tmp_path):
    path = pages(tmp_path / "a.tif", [image(), np.zeros_like(image()), image()])
    stack = open_stack(path)
    assert (stack.read(0) == stack.read(2)).all()
    with pytest.raises(FrameError, match="all black"):
        stack.read(1)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FrameError, match="truncated"):
        stack.read(0)


def test_memory_does_not_grow_with_tags_that_share_their_values(tmp_path):
    directory = b"".join(struct.pack("<HHII", tag, 4, 1_000_000, 8) for tag in range(300, 2300))
    content = struct.pack("<2sHI", b"II", 42, 4_000_008) + bytes(4_000_000)
    (tmp_path / "a.tif").write_bytes(content + struct.pack("<H", 2000) + directory + bytes(4))
    assert refused(tmp_path / "a.tif")[0] == "damaged"


@needs_real
@pytest.mark.parametrize(
    ("name", "count", "size", "bits"),
    [("L_Hop_Cam1_001_UND.0138.tif", 1, (1760, 1760), 8), ("rad_dcm_cropped.tif", 128, (86, 68), 16)],
)
def test_frames_of_other_laboratories(name, count, size, bits):
    stack = open_stack(OTHER_LABS / name)
    assert (stack.count, stack.size, stack.bits) == (count, size, bits)
    _, expected = cv2.imreadmulti(str(OTHER_LABS / name), flags=cv2.IMREAD_UNCHANGED)
    for k in {count // 2, count - 1}:
        np.testing.assert_array_equal(stack.read(k), expected[k])
