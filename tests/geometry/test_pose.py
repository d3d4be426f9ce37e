"""Pose conversions round-trip and follow the conventions of the tables."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from veriserum_hf.geometry import pose

finite = {"allow_nan": False, "allow_infinity": False}
angles_deg = st.tuples(
    st.floats(-179.9, 179.9, **finite), st.floats(-89.0, 89.0, **finite), st.floats(-179.9, 179.9, **finite)
)
quaternions = (
    st.tuples(*[st.floats(-1, 1, **finite)] * 4)
    .filter(lambda q: np.linalg.norm(q) > 1e-3)
    .map(lambda q: np.array(q) / np.linalg.norm(q))
)


@given(angles_deg)
def test_euler_angles_come_back_from_the_matrix(angles):
    back = pose.matrix_to_euler_zxy(pose.euler_zxy_to_matrix(angles))
    np.testing.assert_allclose(back, angles, atol=1e-9)


@given(quaternions)
def test_quaternion_comes_back_canonical_from_the_matrix(quaternion):
    back = pose.matrix_to_quaternion(pose.quaternion_to_matrix(quaternion))
    for same in (back, pose.canonical_quaternion(quaternion)):
        assert same[3] >= 0
        assert min(np.abs(same - quaternion).max(), np.abs(same + quaternion).max()) <= 1e-9


@given(quaternions, st.tuples(*[st.floats(-500, 500, **finite)] * 3))
def test_transform_and_inverse_cancel(quaternion, translation_mm):
    transform = pose.make_transform(pose.quaternion_to_matrix(quaternion), translation_mm)
    np.testing.assert_allclose(pose.invert_transform(transform) @ transform, np.eye(4), atol=1e-9)
    points = np.array([[1.0, 2.0, 3.0], [-40.0, 0.0, 10.0]])
    back = pose.transform_points(pose.invert_transform(transform), pose.transform_points(transform, points))
    np.testing.assert_allclose(back, points, atol=1e-9)


def test_euler_is_intrinsic_zxy_active():
    def about(axis, degrees):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        return {
            "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
            "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
            "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
        }[axis]

    expected = about("z", 30) @ about("x", -20) @ about("y", 75)
    np.testing.assert_allclose(pose.euler_zxy_to_matrix((30, -20, 75)), expected, atol=1e-12)


def test_quaternion_is_scalar_last():
    half = np.radians(90) / 2
    quarter_turn_about_z = (0, 0, np.sin(half), np.cos(half))
    expected = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(pose.quaternion_to_matrix(quarter_turn_about_z), expected, atol=1e-12)


def test_stacks_keep_their_leading_axes():
    angles = np.arange(2 * 5 * 3).reshape(2, 5, 3)
    matrices = pose.euler_zxy_to_matrix(angles)
    assert matrices.shape == (2, 5, 3, 3)
    np.testing.assert_allclose(pose.matrix_to_euler_zxy(matrices), angles, atol=1e-9)
    assert pose.angle_between_deg(matrices, matrices).shape == (2, 5)


def test_angle_between_rotations_in_degrees():
    a = pose.euler_zxy_to_matrix((10, 20, 30))
    b = a @ pose.euler_zxy_to_matrix((0, 7, 0))
    assert pose.angle_between_deg(a, b) == pytest.approx(7.0)


def test_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"expected an array of shape \(\.\.\., 4\), got \(3,\)"):
        pose.quaternion_to_matrix((0, 0, 1))


@given(quaternions, quaternions, quaternions)
def test_a_mirror_pose_shows_the_mirror_image_at_the_same_place_across_the_ray(rotation, axis, ray):
    axis, ray = (pose.quaternion_to_matrix(each)[:, 0] for each in (axis, ray))
    center_mm = np.array([5.0, -3.0, 20.0])
    transform = pose.make_transform(pose.quaternion_to_matrix(rotation), [10.0, 20.0, 900.0])
    mirror = pose.mirror_pose(transform, axis, center_mm, ray)
    assert np.linalg.det(mirror[:3, :3]) == pytest.approx(1)
    points = np.array([[1.0, 2.0, 3.0], [-40.0, 0.0, 10.0], center_mm])
    reflected = points - 2 * np.outer((points - center_mm) @ axis, axis)
    apart = pose.transform_points(mirror, reflected) - pose.transform_points(transform, points)
    np.testing.assert_allclose(np.cross(apart, ray), 0, atol=1e-9)
    np.testing.assert_allclose(apart[-1], 0, atol=1e-9)
    np.testing.assert_allclose(pose.mirror_pose(mirror, axis, center_mm, ray), transform, atol=1e-9)
