"""A row's camera is its intrinsics and extrinsics; what describes them may not contradict them."""

import re

import numpy as np
import pytest

from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import Camera, DualPlaneRig, detector_mm, first_px_of_whole

RIG = DualPlaneRig.from_calibration(
    principal_point_bs_mm=(3.0, -5.0), sid_bs_mm=1861.0, principal_point_fs_mm=(-4.0, 2.0), sid_fs_mm=1874.0
)
POINTS_MM = np.array([[0.0, 10.0, 380.0], [40.0, -30.0, 420.0], [-60.0, 55.0, 350.0]])


def camera(size=512, plane="fs", **changed):
    return RIG[plane].camera(size) | changed


def with_intrinsics(size=512, *, scale=1.0, scale_y=None, shift_px=(0.0, 0.0), skew=0.0):
    found = camera(size)
    K = np.array(found["intrinsics"])
    K[0, 0] *= scale
    K[1, 1] *= scale if scale_y is None else scale_y
    K[:2, 2] += shift_px
    K[0, 1] = skew
    return found | {"intrinsics": K.tolist()}


@pytest.mark.parametrize(("plane", "size"), [("bs", 512), ("fs", 512), ("fs", 300)])
def test_a_row_of_the_data_set_is_seen_by_the_plane_that_it_comes_from(plane, size):
    found = Camera.from_row(camera(size, plane), size)
    np.testing.assert_allclose(found.project(POINTS_MM), RIG[plane].project(POINTS_MM, size), atol=1e-9)
    np.testing.assert_allclose(found.source_mm, RIG[plane].source_mm, atol=1e-9)


@pytest.mark.parametrize(("first_px", "size"), [((100, 60), 256), ((0, 200), (300, 512)), ((212, 212), 300)])
def test_a_cropped_image_is_seen_by_its_intrinsics(first_px, size):
    cropped = with_intrinsics(shift_px=-np.array(first_px, dtype=float))
    found = Camera.from_row(cropped, size)
    np.testing.assert_allclose(found.project(POINTS_MM), RIG["fs"].project(POINTS_MM) - first_px, atol=1e-9)


def test_only_a_part_of_a_veriserum_image_has_a_first_pixel_in_the_whole():
    cropped = with_intrinsics(shift_px=(-100.0, -60.0))
    np.testing.assert_allclose(first_px_of_whole(cropped, (300, 256)), (100, 60), atol=1e-9)
    assert first_px_of_whole(camera(), (512, 512)) is None
    own = Camera.from_row(cropped, (300, 256)).to_row((300, 256), 360 / 512)
    for other in (own, cropped | {"pixel_size_mm": None}, cropped | {"principal_point_mm": None}):
        assert first_px_of_whole(other, (300, 256)) is None


def test_fields_that_describe_the_intrinsics_may_be_missing():
    matrices = ("intrinsics", "world_to_camera")
    for names in (matrices, (*matrices, "pixel_size_mm"), (*matrices, "pixel_size_mm", "source_to_intensifier_mm")):
        found = Camera.from_row({name: camera()[name] for name in names}, 512)
        np.testing.assert_array_equal(found.intrinsics, camera()["intrinsics"])


def test_intrinsics_count_where_what_describes_them_is_rounded():
    rounded = camera(pixel_size_mm=0.703, source_to_intensifier_mm=1874.4, principal_point_mm=[-4.3, 2.2])
    np.testing.assert_allclose(
        Camera.from_row(rounded, 512).project(POINTS_MM), RIG["fs"].project(POINTS_MM), atol=1e-9
    )


@pytest.mark.parametrize(
    ("changed", "size", "message"),
    [
        (
            with_intrinsics(scale=0.5),
            512,
            "intrinsics has a focal length of 1332.62 px, but source_to_intensifier_mm 1874.00 and pixel_size_mm "
            "0.7031 give 2665.24 px; correct the wrong ones",
        ),
        (
            camera(256) | {"pixel_size_mm": 360 / 512},
            256,
            "intrinsics has a focal length of 1332.62 px, but source_to",
        ),
        (
            camera(source_to_intensifier_mm=937.0),
            None,
            "a focal length of 2665.24 px, but source_to_intensifier_mm 937",
        ),
        (
            with_intrinsics(shift_px=(-100, -60)),
            512,
            "intrinsics has its principal point at (149.97, 192.82) px, but principal_point_mm (-4.00, 2.00) gives "
            "(249.97, 252.82) px in an image of 512 px; correct the wrong one",
        ),
        (
            camera(principal_point_mm=[40.0, 2.0]),
            512,
            "principal_point_mm (40.00, 2.00) gives (312.55, 252.82) px",
        ),
        (
            camera(512),
            256,
            "the image has 256 px, but its camera is that of an image of 512 px (pixel_size_mm 0.7031), whose pixel "
            "(0.00, 0.00) would be its first",
        ),
        (camera(512), 1024, "the image has 1024 px, but its camera is that of an image of 512 px"),
        (with_intrinsics(shift_px=(-300, -60)), 256, "whose pixel (300.00, 60.00) would be its first"),
        (with_intrinsics(shift_px=(50, 50)), 256, "whose pixel (-50.00, -50.00) would be its first"),
        (with_intrinsics(scale=0.9, scale_y=0.95), 512, "focal lengths of 2398.72 and 2531.98 px, but source_to"),
        (with_intrinsics(skew=3.0), 512, "expected positive focal lengths and no skew"),
        (camera(intrinsics=[[float("nan"), 0, 250], [0, 2665, 252], [0, 0, 1]]), 512, "expected 3 x 3 finite px"),
        (camera(pixel_size_mm=0.0), 512, "pixel_size_mm is 0.0; expected a positive number of mm"),
    ],
)
def test_a_contradiction_is_refused_and_both_numbers_are_named(changed, size, message):
    with pytest.raises(CalibrationError, match=re.escape(message)):
        Camera.from_row(changed, size)


@pytest.mark.parametrize(
    ("size", "pixel_mm", "foot_px", "focal_px"),
    [
        ((1024, 1024), 0.373, (511.5, 511.5), (3211.8, 3211.8)),  # another detector, another distance
        ((1024, 1024), 0.2, (530.0, 480.5), (5990.0, 5990.0)),  # 1,800 px of its own field
        ((300, 1760), 0.36, (900.2, 120.0), (4003.0, 4015.0)),
    ],
)
def test_a_camera_of_another_laboratory_is_accepted_with_and_without_the_size_of_its_image(
    size, pixel_mm, foot_px, focal_px
):
    K = [[focal_px[0], 0, foot_px[0]], [0, focal_px[1], foot_px[1]], [0, 0, 1]]
    honest = Camera(np.array(K), RIG["fs"].world_to_camera).to_row(size, pixel_mm)
    for known in (size, None):
        np.testing.assert_array_equal(Camera.from_row(honest, known).intrinsics, K)
    unknown = honest | {"pixel_size_mm": None, "source_to_intensifier_mm": None, "principal_point_mm": None}
    np.testing.assert_array_equal(Camera.from_row(unknown, size).intrinsics, K)


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [
        ((), 1874.0),
        (("pixel_size_mm",), 1874.0),
        (("source_to_intensifier_mm",), 1874.0),
        (("pixel_size_mm", "source_to_intensifier_mm"), None),
    ],
)
def test_the_detector_is_as_far_as_the_camera_states_or_its_pixel_gives(unknown, expected):
    described = camera(**dict.fromkeys(unknown))
    assert detector_mm(described, np.array(described["intrinsics"])) == pytest.approx(expected)
