"""The knee's angles are those that made the motion, whatever the world's axes."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.spatial.transform import Rotation

from veriserum_hf.geometry.joint import KNEE_ANGLES, angle_errors_deg, knee_angles_deg
from veriserum_hf.geometry.pose import make_transform
from veriserum_hf.poses.files import read_poses, transforms
from veriserum_hf.simulation.activities import TASKS, joint_rotation
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import write_all_but_images

anatomical = st.tuples(st.floats(-20, 150), st.floats(-30, 30), st.floats(-60, 60))
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """One trial of every activity."""
    archive = tmp_path_factory.mktemp("knee")
    write_all_but_images(archive, Settings(trials=len(TASKS), frames_per_trial=3))
    return read_poses(archive / "truth.parquet")


def random_transform(rng):
    return make_transform(Rotation.random(rng=rng).as_matrix(), rng.uniform(-100, 100, 3))


def test_the_motion_of_a_simulated_archive_is_found_again(truth):
    rows = truth.to_pylist()
    femur, tibia = rows[::2], rows[1::2]
    assert {row["component"] for row in femur} == {"femur"} and {row["component"] for row in tibia} == {"tibia"}
    angles = knee_angles_deg(transforms(femur), transforms(tibia))
    moved = [[row[name] for name in KNEE_ANGLES] for row in femur]
    assert np.ptp(moved, axis=0).min() > 1
    np.testing.assert_allclose(angles, moved, atol=1e-6)


@given(anatomical, seeds)
def test_angles_come_back_whatever_the_world_and_the_place_of_the_joint(angles, seed):
    rng = np.random.default_rng(seed)
    T_world_femur = random_transform(rng)
    T_world_tibia = T_world_femur @ make_transform(joint_rotation(angles), rng.uniform(-50, 50, 3))
    np.testing.assert_allclose(knee_angles_deg(T_world_femur, T_world_tibia), angles, atol=1e-6)


@pytest.mark.parametrize(
    ("angles", "point", "goes"),
    [
        ((30, 0, 0), "shank's lower end", "backwards"),
        ((0, 10, 0), "shank's lower end", "to the midline"),
        ((0, 0, 20), "front", "to the midline"),
    ],
)
def test_signs_of_a_right_knee(angles, point, goes):
    at = {"shank's lower end": (0, -1, 0), "front": (0, 0, 1)}[point]
    towards = {"backwards": (0, 0, -1), "to the midline": (1, 0, 0)}[goes]  # the left of a right leg
    tibia = make_transform(joint_rotation(angles), np.zeros(3))
    np.testing.assert_allclose(tibia[:3, :3] @ at @ towards, np.sin(np.radians(max(angles))))
    np.testing.assert_allclose(knee_angles_deg(np.eye(4), tibia), angles, atol=1e-9)


def test_any_number_of_frames():
    T = np.broadcast_to(np.eye(4), (5, 2, 4, 4))
    assert knee_angles_deg(T, T).shape == (5, 2, 3)
    assert knee_angles_deg(T[:0], T[:0]).shape == (0, 2, 3)


@pytest.mark.parametrize("tibia", [np.eye(3), np.zeros((2, 4, 4))])
def test_shapes_that_do_not_fit_are_refused(tibia):
    with pytest.raises(ValueError, match=r"expected two arrays of the same shape \(\.\.\., 4, 4\), got \(4, 4\) and"):
        knee_angles_deg(np.eye(4), tibia)


def test_errors_go_the_short_way_around():
    off = angle_errors_deg([179.0, -179.0, 30.0], [-179.0, 179.0, 20.0])
    np.testing.assert_allclose(off, [-2.0, 2.0, 10.0])
