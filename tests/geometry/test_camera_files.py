"""Cameras in the files of other programs: written and read back, their pixels and axes, and what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import veriserum_hf as vs
from tests.geometry.test_camera import camera, cameras, focal, px
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import (
    JOINTTRACK_AXES,
    read_jointtrack,
    read_mayacam,
    write_jointtrack,
    write_mayacam,
)

MAYACAM = """image size
800,600

camera matrix
3000.5,0,410.25
0,3010,290
0,0,1

rotation
1,0,0
0,0,-1
0,1,0

translation
10
-20
900.5
"""
JOINTTRACK = "JT_INTCALIB\n1200\n4\n-2\n0.4\n"
REAL = Path(__file__).parents[3] / "shared" / "real"
sizes = st.tuples(st.integers(1, 4000), st.integers(1, 4000))


def file(folder, text, name="camera.txt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cameras")


@settings(max_examples=50)
@given(cameras, sizes)
def test_a_mayacam_file_holds_any_camera(folder, seen_by, size):
    write_mayacam(folder / "camera.txt", seen_by, size)
    found, found_size = read_mayacam(folder / "camera.txt")
    assert found_size == size
    np.testing.assert_array_equal(found.intrinsics, seen_by.intrinsics)
    np.testing.assert_allclose(found.world_to_camera, seen_by.world_to_camera, rtol=0, atol=1e-12)


@settings(max_examples=50)
@given(focal, px, sizes, st.floats(0.02, 2))
def test_a_jointtrack_file_holds_a_camera_of_its_frame(folder, focal_px, center_px, size, pixel_mm):
    seen_by = vs.Camera(camera(focal_px, focal_px, center_px).intrinsics, JOINTTRACK_AXES)
    write_jointtrack(folder / "calib.txt", seen_by, size, pixel_mm)
    found, found_mm = read_jointtrack(folder / "calib.txt", size)
    assert found_mm == pixel_mm
    np.testing.assert_allclose(found.intrinsics, seen_by.intrinsics, rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(found.world_to_camera, JOINTTRACK_AXES)


def test_a_mayacam_file_states_width_first_and_opencv_axes(folder):
    seen_by = vs.Camera.from_mayacam(file(folder, MAYACAM), (600, 800))
    np.testing.assert_allclose(seen_by.project([-10.0, 99.5, -20.0]), (410.25, 290))  # on the axis
    np.testing.assert_allclose(seen_by.project([0.0, 99.5, -20.0]), (410.25 + 3000.5 * 0.01, 290))
    np.testing.assert_allclose(seen_by.project([-10.0, 99.5, -10.0]), (410.25, 290 - 30.1))


@pytest.mark.parametrize(
    "text",
    [
        MAYACAM.replace("\n", "\r\n"),
        MAYACAM.replace("\n", "\r"),
        "\ufeff" + MAYACAM.upper(),
        MAYACAM.encode("utf-16"),
        MAYACAM.replace(",", ", ").replace("\n\n", "\n"),
        MAYACAM.replace(",", "  ").rstrip("\n"),
        MAYACAM.replace("10\n-20\n900.5", "10,-20,900.5,"),
        MAYACAM + "\nundistortion\n0,0,0,0,0,0,0,0\n",
    ],
    ids=range(8),
)
def test_a_mayacam_file_of_another_program_or_system_reads_the_same(folder, text):
    expected, _ = read_mayacam(file(folder, MAYACAM, "expected.txt"))
    found, size = read_mayacam(file(folder, text))
    assert size == (600, 800)
    np.testing.assert_array_equal(found.intrinsics, expected.intrinsics)
    np.testing.assert_array_equal(found.world_to_camera, expected.world_to_camera)


def test_a_rotation_that_was_rounded_is_the_nearest_one(folder):
    text = MAYACAM.replace("1,0,0\n0,0,-1\n0,1,0", "0.7071,-0.7071,0\n0.7071,0.7071,0\n0,0,1")
    R = read_mayacam(file(folder, text))[0].world_to_camera[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), rtol=0, atol=1e-15)
    assert R[0, 0] == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with 'nothing'; expected MayaCam 2.0 text, whose first line is 'image size'"),
        ("1,2,3\n" * 5, "is MayaCam 1.0 .*; export the camera as MayaCam 2.0"),
        ("JT_INTCALIB\n1\n2\n3\n4\n", "begins with 'JT_INTCALIB'; expected MayaCam 2.0"),
        (MAYACAM.replace("rotation", "orientation"), "line 9: the section 'orientation' is not known"),
        (MAYACAM.replace("translation\n10\n-20\n900.5\n", ""), "has no section translation"),
        (MAYACAM + "rotation\n1,0,0\n0,1,0\n0,0,1", "line 18: the section 'rotation' occurs twice"),
        (MAYACAM.replace("800,600", "800"), r"'image size' has lines of \[1\] numbers; expected 1 of 2"),
        (MAYACAM.replace("0,0,1\n\nrot", "0,0\n\nrot"), r"'camera matrix' has lines of \[3, 3, 2\] numbers"),
        (MAYACAM.replace("800,600", "800.5,600"), "image size is 800.5,600; expected whole numbers: width,height"),
        (MAYACAM.replace("800,600", "0,600"), "image size is 0,600; expected whole numbers"),
        (MAYACAM.replace("3000.5,0", "3000.5,1"), "expected positive focal lengths and no skew"),
        (MAYACAM.replace("3000.5,0", "-3000.5,0"), "expected positive focal lengths and no skew"),
        (MAYACAM.replace("3000.5,0", "3000_5,0"), r"line 5 \(camera matrix\): '3000_5' is not a number"),
        (MAYACAM.replace("3000.5,0", "nan,0"), "'camera matrix' is .* expected finite numbers"),
        (MAYACAM.replace("3000.5,0", "\u0663000,0"), r"line 5 \(camera matrix\): '.000' is not a number"),
        (MAYACAM.replace("0,0,-1", "0,0,1"), "not a rotation .*determinant -1.* without scale or reflection"),
        (MAYACAM.replace("0,0,-1", "0,0,-10"), "not a rotation"),
        (MAYACAM.replace("0,3010,290", "0,,290"), r"line 6 \(camera matrix\): a number is missing"),
        (MAYACAM + "\nundistortion\n0.1,0,0,0,0,0,0,0\n", "has lens distortion coefficients .* export undistorted"),
        (MAYACAM.encode("utf-16")[2:], "is not text: it holds NUL bytes"),
        (b"\xff" + MAYACAM.encode(), "is not text"),
    ],
)
def test_another_mayacam_file_is_refused_by_what_is_wrong_with_it(folder, text, message):
    path = file(folder, text)
    with pytest.raises(CalibrationError, match=f"^{re.escape(str(path))}.*{message}"):
        read_mayacam(path)


def test_an_image_of_another_size_is_named_with_that_of_the_file(folder):
    with pytest.raises(CalibrationError, match=r"of images of 600 x 800 px .* but the image has 800 x 600"):
        vs.Camera.from_mayacam(file(folder, MAYACAM), (800, 600))
    with pytest.raises(CalibrationError, match=r"there\.txt cannot be read: No such file"):
        read_mayacam(folder / "there.txt")


@pytest.mark.parametrize("text", [JOINTTRACK, "JTA_INTCALIB,1200, 4,\r\n-2\t0.4\r\n\r\n"])
def test_jointtracks_offset_counts_from_the_centre_to_the_right_and_up(folder, text):
    seen_by = vs.Camera.from_jointtrack(file(folder, text), (600, 800))
    assert seen_by.intrinsics.tolist() == [[3000, 0, 399.5 + 10], [0, 3000, 299.5 + 5], [0, 0, 1]]
    np.testing.assert_allclose(seen_by.project([10.0, 20.0, -1000.0]), (409.5 + 30, 304.5 - 60))
    assert seen_by.source_mm.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with ''; expected JT_INTCALIB, then four numbers in mm: principal distance"),
        (MAYACAM, "begins with 'image'; expected JT_INTCALIB"),
        (JOINTTRACK.replace("CALIB", "CALIB_BIPLANE"), "one such file each"),
        ("JT_INTCALIB", r"holds 0 numbers, \[\]; expected four finite ones"),
        (JOINTTRACK + "1\n", "holds 5 numbers"),
        (JOINTTRACK.replace("\n4\n", "\nnan\n"), "expected four finite ones"),
        (JOINTTRACK.replace("0.4", "0,4"), "holds 5 numbers"),
        (JOINTTRACK.replace("0.4", "0.4mm"), "'0.4mm' is not a number; expected principal distance"),
        (JOINTTRACK.replace("0.4", "0"), "principal distance 1200 mm and pixel size 0 mm; expected positive"),
        (JOINTTRACK.replace("0.4", "1e-320"), "expected 3 x 3 finite px"),
    ],
)
def test_another_jointtrack_file_is_refused_by_what_is_wrong_with_it(folder, text, message):
    path = file(folder, text)
    with pytest.raises(CalibrationError, match=f"^{re.escape(str(path))}.*{message}"):
        read_jointtrack(path, 512)


def test_a_camera_that_jointtrack_cannot_hold_is_not_written(folder):
    path = folder / "not.txt"
    for seen_by, pixel_mm, message in (
        (camera(), 0.4, r"focal lengths of 3000\.0000 and 3050\.0000 px; .* Write MayaCam 2\.0"),
        (camera(fy=3000), 0.4, r"JT_INTCALIB holds none and means diag\(1, -1, -1, 1\)"),
        (camera(), 0.0, r"a pixel size of 0\.0 mm"),
    ):
        with pytest.raises(CalibrationError, match=message):
            write_jointtrack(path, seen_by, 512, pixel_mm)
    assert not path.exists()


@pytest.mark.skipif(not REAL.exists(), reason="real cameras of other laboratories are not part of the project")
def test_real_cameras_are_read_and_their_axes_meet():
    for pair in ((REAL / "biplane_tka").glob("*/mayacam2.txt"), (REAL / "other_labs").glob("xr_calib_*.txt")):
        (first, size), (second, _) = map(read_mayacam, sorted(pair))
        middle = [(size[1] - 1) / 2, (size[0] - 1) / 2]
        meeting = first.triangulate(middle, second, middle)
        assert np.linalg.norm(first.project(meeting) - middle) < 60
        assert 800 < first.depths_mm(meeting) < 2000
