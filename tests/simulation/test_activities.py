"""Simulated trials move like a knee, do not pass through themselves, and stay in view of both planes."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from tests.fixtures.scene import true_rig
from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry import NATIVE_SIZE, px_to_mm
from veriserum_hf.geometry.pose import invert_transform, transform_points
from veriserum_hf.simulation.activities import (
    FIELD_RADIUS_MM,
    FRAME_RATE_HZ,
    INSERT_THICKNESS_MM,
    TASKS,
    joint_rotation,
    simulate_trial,
)
from veriserum_hf.simulation.implants import implant_mesh

RIG = true_rig(2)
WHOLE_CYCLE = {"gait": 45, "ramp_down": 45, "stair_descent": 55, "chair_sit": 165}  # frames, the slowest trials'
seeds = st.integers(0, 2**32 - 1)
tasks = st.sampled_from(TASKS)
pairs = st.tuples(st.sampled_from((1, 2)), st.sampled_from((3, 4, 5, 6, 7)))


def trial(task, seed, frames=40, pair=(1, 3)):
    femur, tibia = map(implant_mesh, pair)
    return simulate_trial(task, femur, tibia, RIG, frames, np.random.default_rng(seed))


def in_tibia(trajectory):
    return invert_transform(trajectory.T_world_tibia) @ trajectory.T_world_femur


def clinical_angles_deg(T_world_femur, T_world_tibia):
    """Flexion, adduction and internal rotation from the joint's axes, as Grood and Suntay (1983) define them."""
    femur, tibia = T_world_femur[:, :3, :3], T_world_tibia[:, :3, :3]
    across, along = femur[:, :, 0], tibia[:, :, 1]  # flexion axis, axis of internal rotation
    floating = np.cross(across, along)
    floating /= np.linalg.norm(floating, axis=1, keepdims=True)

    def dot(a, b):
        return (a * b).sum(axis=1)

    flexion = np.arctan2(-dot(floating, femur[:, :, 1]), dot(floating, femur[:, :, 2]))
    adduction = -np.arcsin(dot(across, along))
    internal = np.arctan2(-dot(floating, tibia[:, :, 0]), dot(floating, tibia[:, :, 2]))
    return np.degrees([flexion, adduction, internal])


@settings(max_examples=40)
@given(tasks, seeds)
def test_clinical_angles_and_roll_back_come_back_from_the_poses(task, seed):
    t = trial(task, seed, frames=4)
    angles = [t.flexion_deg, t.adduction_deg, t.internal_rotation_deg]
    np.testing.assert_allclose(clinical_angles_deg(t.T_world_femur, t.T_world_tibia), angles, atol=1e-9)
    np.testing.assert_allclose(in_tibia(t)[:, 2, 3], t.anterior_mm, atol=1e-9)


def test_angles_turn_the_tibia_as_their_names_say():
    foot, front = (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)
    np.testing.assert_allclose(joint_rotation((90, 0, 0)) @ foot, (0, 0, -1), atol=1e-12)  # backwards
    assert (joint_rotation((0, 10, 0)) @ foot)[0] > 0  # a right foot towards the left one
    assert (joint_rotation((0, 0, 10)) @ front)[0] > 0


@pytest.mark.parametrize(
    ("task", "extension_deg", "flexion_deg"),
    [("gait", 5, 60), ("ramp_down", 8, 67), ("stair_descent", 14, 88), ("chair_sit", 6, 88)],
)
def test_flexion_has_the_published_range(task, extension_deg, flexion_deg):
    cycles = np.array([trial(task, seed, WHOLE_CYCLE[task]).flexion_deg for seed in range(40)])
    lowest, highest = cycles.min(axis=1), cycles.max(axis=1)
    assert abs(np.median(lowest) - extension_deg) < 2.5
    assert abs(np.median(highest) - flexion_deg) < 2.5
    assert np.abs(lowest - extension_deg).max() < 10
    assert np.abs(highest - flexion_deg).max() < 10


@pytest.mark.parametrize("task", TASKS)
def test_a_bent_knee_turns_inwards_and_rolls_back(task):
    for seed in range(10):
        t = trial(task, seed, WHOLE_CYCLE[task])
        assert np.corrcoef(t.flexion_deg, t.internal_rotation_deg)[0, 1] > 0.8
        assert t.anterior_mm[t.flexion_deg.argmax()] < t.anterior_mm.mean() - 1
        assert 2 < np.ptp(t.anterior_mm) < 10
        assert 4 < np.ptp(t.internal_rotation_deg) < 14
        assert np.ptp(t.adduction_deg) < 4


@pytest.mark.parametrize("task", TASKS)
def test_motion_is_smooth_at_the_frame_rate(task):
    for seed in range(20):
        t = trial(task, seed, WHOLE_CYCLE[task])
        for T, anatomy_id in ((t.T_world_femur, 1), (t.T_world_tibia, 3)):
            corners = transform_points(T, trimesh.bounds.corners(implant_mesh(anatomy_id).bounds))
            acceleration_m_s2 = np.linalg.norm(np.diff(corners, n=2, axis=0), axis=-1) * FRAME_RATE_HZ**2 / 1000
            assert acceleration_m_s2.max() < 10
        height_mm = in_tibia(t)[:, 1, 3]
        assert np.abs(np.diff(height_mm, n=2)).max() < 0.5


@settings(max_examples=40)
@given(tasks, seeds, pairs)
def test_the_bearing_plane_separates_the_implants(task, seed, pair):
    t = trial(task, seed, frames=12, pair=pair)
    femur, tibia = map(implant_mesh, pair)
    lowest_mm = transform_points(in_tibia(t), femur.vertices)[..., 1].min(axis=1)
    np.testing.assert_allclose(lowest_mm, INSERT_THICKNESS_MM, atol=1e-6)
    assert tibia.bounds[1, 1] <= 1.5 < INSERT_THICKNESS_MM


@pytest.mark.parametrize(("task", "pair"), [*zip(TASKS, ((1, 3), (1, 7), (2, 4), (2, 5)), strict=True)])
def test_the_implants_share_no_volume(task, pair):
    t = trial(task, 3, pair=pair)
    for frame in (0, 17, 39):
        posed = [implant_mesh(anatomy_id).copy() for anatomy_id in pair]
        for mesh, T in zip(posed, (t.T_world_femur, t.T_world_tibia), strict=True):
            mesh.apply_transform(T[frame])
        assert trimesh.boolean.intersection(posed, engine="manifold").is_empty


def farthest_mm(t, femur, tibia):
    """Largest distance of a vertex from the centre of either plane's image."""
    posed = [transform_points(t.T_world_femur, femur.vertices), transform_points(t.T_world_tibia, tibia.vertices)]
    points = np.concatenate(posed, axis=1)
    px = [RIG[plane].project(points, NATIVE_SIZE) for plane in PLANES]
    return np.linalg.norm(px_to_mm(px, NATIVE_SIZE), axis=-1).max()


@settings(max_examples=40)
@given(tasks, seeds, pairs)
def test_both_planes_see_every_vertex_and_the_femur_stays_on_top(task, seed, pair):
    t = trial(task, seed, frames=15, pair=pair)
    assert farthest_mm(t, *map(implant_mesh, pair)) <= FIELD_RADIUS_MM
    assert (t.T_world_femur[:, 1, 3] > t.T_world_tibia[:, 1, 3]).all()


@pytest.mark.parametrize("seed", range(10))
def test_large_implants_are_moved_towards_the_centre_until_both_planes_see_them(seed):
    femur, tibia = (implant_mesh(anatomy_id).copy().apply_scale(1.3) for anatomy_id in (2, 7))
    t = simulate_trial("gait", femur, tibia, RIG, 15, np.random.default_rng(seed))
    assert farthest_mm(t, femur, tibia) <= FIELD_RADIUS_MM


def test_poses_are_as_diverse_as_a_learner_needs():
    """A network that only learnt the mean pose would be wrong by a third of a right angle and a third of the knee."""
    trials = [trial(TASKS[seed % 4], seed, frames=10) for seed in range(200)]
    for name in ("T_world_femur", "T_world_tibia"):
        T = np.concatenate([getattr(t, name) for t in trials])
        rotations = Rotation.from_matrix(T[:, :3, :3])
        wrong_deg = np.degrees((rotations.mean().inv() * rotations).magnitude())
        wrong_mm = np.linalg.norm(T[:, :3, 3] - T[:, :3, 3].mean(axis=0), axis=1)
        assert 25 < np.median(wrong_deg) < 38
        assert 27 < np.median(wrong_mm) < 42


@pytest.mark.parametrize("task", TASKS)
def test_the_generator_decides_everything(task):
    first, again, other = trial(task, 5), trial(task, 5), trial(task, 6)
    for name in ("T_world_femur", "T_world_tibia", "flexion_deg", "anterior_mm"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert not np.allclose(getattr(first, name), getattr(other, name))


@pytest.mark.parametrize("task", TASKS)
def test_a_longer_trial_goes_on_with_the_same_motion(task):
    short, long = trial(task, 5, frames=20), trial(task, 5, frames=400)
    np.testing.assert_allclose(long.flexion_deg[:20], short.flexion_deg, atol=1e-9)
    assert long.T_world_femur.shape == (400, 4, 4)


def test_one_frame_is_a_trial():
    assert trial("gait", 0, frames=1).T_world_tibia.shape == (1, 4, 4)


def test_an_unknown_task_names_the_known_ones():
    with pytest.raises(
        ValueError, match="unknown task 'jump'; it must be one of gait, ramp_down, stair_descent, chair"
    ):
        trial("jump", 0)


def test_a_trial_needs_a_frame():
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        trial("gait", 0, frames=0)


def test_implants_too_large_for_the_field_are_refused():
    femur, tibia = implant_mesh(1).copy().apply_scale(4.0), implant_mesh(3)
    with pytest.raises(ValueError, match=r"the implants, 2\d\d and 70 mm long, leave the field .* are they in mm\?"):
        simulate_trial("gait", femur, tibia, RIG, 5, np.random.default_rng(0))
