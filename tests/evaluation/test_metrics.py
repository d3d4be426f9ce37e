"""Errors are what their names state, in the stated units and along the stated axes."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from tests.poses.made import POINTS_MM, RIG, estimates_of, in_some_frames, noisy, poses
from veriserum_hf.core.domain import PLANES
from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation.metrics import pose_errors
from veriserum_hf.geometry import viewing_axes
from veriserum_hf.geometry.pose import make_transform, transform_points

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=30)


def errors_of(estimates):
    table = pose_errors(estimates, POINTS_MM)
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def moved_by(labels, shift_mm):
    moved = labels.copy()
    moved[:, :3, 3] += shift_mm
    return moved


@few
@given(SEEDS)
def test_the_label_itself_has_no_error(seed):
    labels = poses(4, np.random.default_rng(seed))
    errors = errors_of(estimates_of(labels, labels))
    numbers = {name: values for name, values in errors.items() if name.endswith(("_mm", "_deg", "_px"))}
    assert len(numbers) == 4 + 2 + 9
    for name, values in numbers.items():
        np.testing.assert_allclose(values, 0.0, atol=1e-9, err_msg=name)


@few
@given(SEEDS, st.floats(0.0, 180.0))
def test_a_rotation_about_the_implants_origin_has_no_translation_error(seed, angle_deg):
    rng = np.random.default_rng(seed)
    labels = poses(4, rng)
    axes = rng.normal(size=(4, 3))
    axes *= np.radians(angle_deg) / np.linalg.norm(axes, axis=1, keepdims=True)
    rotated = labels @ make_transform(Rotation.from_rotvec(axes).as_matrix(), np.zeros(3))
    errors = errors_of(estimates_of(rotated, labels))
    np.testing.assert_allclose(errors["rotation_deg"], angle_deg, atol=1e-6)
    np.testing.assert_allclose(errors["translation_mm"], 0.0, atol=1e-9)
    np.testing.assert_allclose(errors["bs_depth_mm"], 0.0, atol=1e-9)


@few
@given(SEEDS, st.sampled_from(PLANES), st.sampled_from([0, 1, 2]), st.floats(-20.0, 20.0))
def test_a_shift_along_one_axis_of_a_plane_shows_there_alone_and_with_its_sign(seed, plane, axis, shift_mm):
    labels = poses(4, np.random.default_rng(seed))
    cameras = np.broadcast_to(RIG[plane].world_to_camera, (4, 4, 4))
    directions = viewing_axes(cameras, labels[:, :3, 3])
    errors = errors_of(estimates_of(moved_by(labels, shift_mm * directions[:, axis]), labels))
    for n, name in enumerate(("h", "v", "depth")):
        np.testing.assert_allclose(errors[f"{plane}_{name}_mm"], shift_mm if n == axis else 0.0, atol=1e-9)
    np.testing.assert_allclose(errors["translation_mm"], abs(shift_mm), atol=1e-9)
    np.testing.assert_allclose(errors["mtre_mm"], abs(shift_mm), atol=1e-9)
    np.testing.assert_allclose(errors["rotation_deg"], 0.0, atol=1e-9)


@pytest.mark.parametrize("plane", PLANES)
def test_axes_of_a_plane_are_right_up_and_away_in_its_image(plane):
    labels = poses(8, np.random.default_rng(5))
    origins_mm = labels[:, :3, 3]
    directions = viewing_axes(np.broadcast_to(RIG[plane].world_to_camera, (8, 4, 4)), origins_mm)
    np.testing.assert_allclose(
        directions @ directions.swapaxes(1, 2), np.broadcast_to(np.eye(3), (8, 3, 3)), atol=1e-9
    )
    px = RIG[plane].project(origins_mm)
    right, up, away = (RIG[plane].project(origins_mm + directions[:, axis]) - px for axis in range(3))
    assert (right[:, 0] > 1).all() and (np.abs(right[:, 1]) < 0.02).all()
    assert (up[:, 1] < -1).all() and (np.abs(up[:, 0]) < 0.02).all()  # rows run downwards
    np.testing.assert_allclose(away, 0.0, atol=1e-9)
    distance_mm = np.linalg.norm(origins_mm + directions[:, 2] - RIG[plane].source_mm, axis=1)
    np.testing.assert_allclose(distance_mm, np.linalg.norm(origins_mm - RIG[plane].source_mm, axis=1) + 1)


@few
@given(SEEDS, st.floats(0.0, 60.0), st.floats(0.0, 60.0))
def test_what_holds_between_the_errors_of_any_pose(seed, rotation_deg, translation_mm):
    errors = errors_of(noisy(6, seed, rotation_deg=rotation_deg, translation_mm=translation_mm))
    assert (errors["add_s_mm"] <= errors["mtre_mm"] + 1e-9).all()
    for axes in (("world_x", "world_y", "world_z"), *((f"{p}_h", f"{p}_v", f"{p}_depth") for p in PLANES)):
        squares = sum(errors[f"{axis}_mm"] ** 2 for axis in axes)
        np.testing.assert_allclose(squares, errors["translation_mm"] ** 2, rtol=1e-9, atol=1e-9)


def test_registration_and_reprojection_errors_are_mean_distances_of_points():
    estimates = noisy(6, 3, rotation_deg=4.0, translation_mm=3.0)
    errors = errors_of(estimates)
    for row, id in enumerate(estimates.anatomy_id):
        at_estimate, at_label = (
            transform_points(T[row], POINTS_MM[id]) for T in (estimates.T_world_implant, estimates.T_world_label)
        )
        distances_mm = np.linalg.norm(at_estimate[None] - at_label[:, None], axis=2)
        assert errors["mtre_mm"][row] == pytest.approx(np.trace(distances_mm) / len(distances_mm))
        assert errors["add_s_mm"][row] == pytest.approx(distances_mm.min(axis=1).mean())
        for plane in PLANES:
            px = RIG[plane].project(at_estimate) - RIG[plane].project(at_label)
            assert errors[f"reprojection_{plane}_px"][row] == pytest.approx(np.linalg.norm(px, axis=1).mean())


def test_a_cylinder_rotated_about_its_axis_has_no_error_of_nearest_points():
    angle = np.radians(np.arange(0, 360, 5))
    circle = np.stack([20 * np.cos(angle), 20 * np.sin(angle), 0 * angle], axis=1)
    labels = poses(2, np.random.default_rng(0))
    quarter = make_transform(Rotation.from_euler("z", 90, degrees=True).as_matrix(), np.zeros(3))
    errors = pose_errors(estimates_of(labels @ quarter, labels), {1: circle, 3: circle}).to_pydict()
    np.testing.assert_allclose(errors["add_s_mm"], 0.0, atol=1e-9)
    np.testing.assert_allclose(errors["mtre_mm"], 20 * 2**0.5)


def test_a_pose_behind_the_source_is_infinitely_far_off_in_the_image():
    labels = poses(2, np.random.default_rng(0))
    errors = errors_of(estimates_of(moved_by(labels, (0, 0, 2000)), labels))
    assert np.isinf(errors["reprojection_bs_px"]).all() and np.isfinite(errors["reprojection_fs_px"]).all()
    np.testing.assert_allclose(errors["mtre_mm"], 2000)


def test_a_plane_without_a_camera_has_no_columns():
    errors = errors_of(noisy(4, planes=("bs",)))
    assert {"bs_depth_mm", "reprojection_bs_px"} <= set(errors)
    assert not [name for name in errors if "fs" in name]


def test_a_frame_without_a_plane_has_no_errors_of_that_plane():
    both, few = noisy(8, seed=3), noisy(8, seed=3, cameras=in_some_frames(8, [0, 1, 6, 7]))
    whole, found = errors_of(both), errors_of(few)
    for name, values in found.items():
        expected = whole[name].copy()
        if "fs" in name:
            expected[2:6] = np.nan
        np.testing.assert_array_equal(values, expected, err_msg=name)


def test_an_implant_without_points_is_named():
    with pytest.raises(TrainingError) as raised:
        pose_errors(noisy(4), {1: POINTS_MM[1]})
    assert str(raised.value) == (
        "row 1 (measurement 1000, trial 70, tibia 3): there are no points of implant 3, only of [1]"
    )
    with pytest.raises(TrainingError, match=r"points of implant 3 must be \(k, 3\) finite mm, got an array \(0, 3\)"):
        pose_errors(noisy(4), {1: POINTS_MM[1], 3: np.empty((0, 3))})
