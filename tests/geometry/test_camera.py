"""A camera of any laboratory: what projects, crops and resizes, whatever the shape of the image."""

import cv2
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.spatial.transform import Rotation

import veriserum_hf as vs
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import DualPlaneRig, make_transform

POINTS_MM = np.array([[0.0, 10.0, 380.0], [40.0, -30.0, 420.0], [-60.0, 55.0, 350.0]])
RIG = DualPlaneRig.from_calibration(
    principal_point_bs_mm=(3.0, -5.0), sid_bs_mm=1861.0, principal_point_fs_mm=(-4.0, 2.0), sid_fs_mm=1874.0
)


def camera(fx=3000.0, fy=3050.0, center_px=(400.0, 250.0), euler_deg=(10.0, -20.0, 30.0), t_mm=(5.0, -8.0, 900.0)):
    K = [[fx, 0, center_px[0]], [0, fy, center_px[1]], [0, 0, 1]]
    return vs.Camera(K, make_transform(Rotation.from_euler("xyz", euler_deg, degrees=True).as_matrix(), t_mm))


focal = st.floats(500, 8000)
px = st.tuples(st.floats(-200, 2200), st.floats(-200, 2200))
cameras = st.builds(
    camera, focal, focal, px, st.tuples(*[st.floats(-170, 170)] * 3), st.tuples(*[st.floats(-50, 50)] * 3)
)


def in_front(seen_by):
    """World points (5, 3) that a camera has in front of it."""
    in_camera = np.random.default_rng(0).uniform((-80, -80, 500), (80, 80, 1500), (5, 3))
    R, t = seen_by.world_to_camera[:3, :3], seen_by.world_to_camera[:3, 3]
    return (in_camera - t) @ R


@given(cameras)
def test_a_point_lies_on_the_ray_of_its_pixel(seen_by):
    points_mm = in_front(seen_by)
    source_mm, rays = seen_by.rays(seen_by.project(points_mm))
    along = np.linalg.norm(points_mm - source_mm, axis=1, keepdims=True)
    np.testing.assert_allclose(source_mm + along * rays, points_mm, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1)


@given(cameras, px, st.tuples(st.integers(50, 2000), st.integers(50, 2000)), st.floats(0.2, 4), st.floats(0.2, 4))
def test_crops_and_resizes_leave_rays_where_they_were(seen_by, first_px, size, down, across):
    points_mm = in_front(seen_by)
    whole = seen_by.project(points_mm)
    np.testing.assert_allclose(seen_by.cropped(first_px).project(points_mm), whole - first_px, atol=1e-6)
    to = (max(1, round(size[0] * down)), max(1, round(size[1] * across)))
    resized = seen_by.resized(size, to)
    expected = (whole + 0.5) * np.array([to[1] / size[1], to[0] / size[0]]) - 0.5
    np.testing.assert_allclose(resized.project(points_mm), expected, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(resized.rays(expected)[1], seen_by.rays(whole)[1], atol=1e-9)
    np.testing.assert_allclose(resized.resized(to, size).intrinsics, seen_by.intrinsics, rtol=1e-9, atol=1e-9)


def test_points_are_triangulated_by_cameras_of_different_images():
    one = RIG["bs"].at(512).cropped((100, 60)).resized((300, 256), (450, 300))
    other = camera(t_mm=(5, -8, 1300), euler_deg=(10, 60, 30))
    found = one.triangulate(one.project(POINTS_MM), other, other.project(POINTS_MM))
    np.testing.assert_allclose(found, POINTS_MM, atol=1e-8)
    assert np.isnan(one.triangulate((3, 4), one, (3, 4))).all()


def test_a_resized_camera_is_that_of_an_image_that_opencv_resizes():
    image = np.zeros((240, 400), np.float32)
    image[100:110, 200:220] = 1
    smaller = cv2.resize(image, (200, 80), interpolation=cv2.INTER_AREA)
    rows, columns = np.mgrid[:80, :200]
    center = (smaller * columns).sum() / smaller.sum(), (smaller * rows).sum() / smaller.sum()
    seen_by = camera()
    _, ray = seen_by.rays((209.5, 104.5))
    _, resized_ray = seen_by.resized((240, 400), (80, 200)).rays(center)
    np.testing.assert_allclose(resized_ray, ray, atol=1e-7)


def test_nothing_is_seen_behind_the_source():
    seen_by = camera()
    behind_mm = seen_by.source_mm - 10 * seen_by.world_to_camera[2, :3]
    assert np.isnan(seen_by.project(behind_mm)).all()
    assert seen_by.depths_mm(behind_mm) == pytest.approx(-10)


def test_a_camera_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        camera().intrinsics[0, 0] = 1


@pytest.mark.parametrize("size", [(480, 640), (640, 480), 512])
@pytest.mark.parametrize("pixel_size_mm", [None, 0.3])
def test_a_row_holds_the_camera_and_what_people_read(size, pixel_size_mm):
    row = camera().to_row(size, pixel_size_mm)
    found = vs.Camera.from_row(row, size)
    np.testing.assert_array_equal(found.intrinsics, camera().intrinsics)
    np.testing.assert_array_equal(found.world_to_camera, camera().world_to_camera)
    assert (row["pixel_size_mm"], row["source_to_intensifier_mm"] is None) == (pixel_size_mm, pixel_size_mm is None)
    if pixel_size_mm:
        assert row["source_to_intensifier_mm"] == pytest.approx(0.3 * np.sqrt(3000 * 3050))


def test_a_row_of_any_laboratory_is_compared_with_its_image():
    row, size = camera().to_row((480, 640), 0.6), (480, 640)
    with pytest.raises(CalibrationError, match=r"principal point at \(400.00, 250.00\) px, but"):
        vs.Camera.from_row(row | {"principal_point_mm": [60.0, -5.0]}, size)
    with pytest.raises(CalibrationError, match=r"focal lengths of 3000\.00 and 3050\.00 px, but source_to_inte"):
        vs.Camera.from_row(row | {"source_to_intensifier_mm": 950.0}, size)
    with pytest.raises(CalibrationError, match=r"principal_point_mm is .*; expected two finite mm"):
        vs.Camera.from_row(row | {"principal_point_mm": [30.0]}, size)


@pytest.mark.parametrize(
    ("K", "T", "message"),
    [
        ([[3000, 2, 0], [0, 3000, 0], [0, 0, 1]], np.eye(4), "expected positive focal lengths and no skew"),
        ([[3000, 0, 0], [0, -3000, 0], [0, 0, 1]], np.eye(4), "expected positive focal lengths and no skew"),
        ([[3000, 0, 0], [0, np.nan, 0], [0, 0, 1]], np.eye(4), "expected 3 x 3 finite px"),
        ([3000, 0, 0], np.eye(4), "expected 3 x 3 finite px"),
        ([["a", 0, 0]], np.eye(4), "is not a matrix of numbers"),
        ([[3000, 0, 0], [0, 3000, 0], [0, 0, 1]], np.diag([1, 1, -1, 1]), "expected a rigid 4 x 4 transform"),
        ([[3000, 0, 0], [0, 3000, 0], [0, 0, 1]], 1.01 * np.eye(4), "expected a rigid 4 x 4 transform"),
        ([[3000, 0, 0], [0, 3000, 0], [0, 0, 1]], np.eye(3), "expected a rigid 4 x 4 transform"),
    ],
)
def test_what_is_no_camera_is_refused(K, T, message):
    with pytest.raises(CalibrationError, match=message):
        vs.Camera(K, T)
