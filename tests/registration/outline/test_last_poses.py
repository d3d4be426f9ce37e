"""Initial poses from the frames before."""

import numpy as np
import pytest

from tests.registration.outline.test_search import TIBIA
from veriserum_hf.geometry.pose import angle_between_deg, transform_points
from veriserum_hf.registration.outline.last_poses import LastPoses
from veriserum_hf.registration.outline.steps import moved

NAMES = ("femur", "tibia")
STEP_MM = np.array([0.6, -0.4, 0.3, 0.2, 0.5, -0.3])


@pytest.mark.parametrize("increase", [0.0, 0.3])
def test_an_even_motion_is_continued_and_an_implant_without_poses_keeps_its_own(frame, true_poses, increase):
    last = LastPoses()
    given = np.stack([np.eye(4)] * 2)
    assert all((given == T).all() for T in last.predicted(NAMES, given))
    poses = [true_poses[0]]
    for faster in (0.0, 0.0, increase, 2 * increase):
        poses.append(moved(frame.implants[0], poses[-1], (1 + faster) * STEP_MM))
    for n, T in enumerate(poses[:-1]):
        last.add(("femur",), T[None])
        with_motion, held = last.predicted(NAMES, given)
        np.testing.assert_array_equal(held, [T, np.eye(4)])
        if n == 0:
            np.testing.assert_allclose(with_motion, held, atol=1e-9)
    # The rotation's axis moves on, too.
    assert angle_between_deg(with_motion[0, :3, :3], poses[-1][:3, :3]) < 0.01
    center = frame.implants[0].center_mm[None]
    apart_mm = transform_points(with_motion[0], center) - transform_points(poses[-1], center)
    assert np.linalg.norm(apart_mm) < 0.05


@pytest.mark.parametrize("off_mm", [8.0, 17.0])
def test_a_frame_is_registered_from_the_poses_before_where_its_own_is_far_off(frame_of, row, true_poses, off_mm):
    own = true_poses.copy()
    own[:, :3, 3] += off_mm
    frame, last = frame_of(row, own), LastPoses()
    for back in (2, 1):
        before = [moved(frame.implants[k], true_poses[k], -back * STEP_MM) for k in (0, 1)]
        last.add(NAMES, np.stack(before))
    fit = frame.by_outline(last)
    for k in (0, 1):
        T, center = fit.state.T_world_implant[k], frame.implants[k].center_mm[None]
        assert np.linalg.norm(transform_points(T, center) - transform_points(true_poses[k], center)) < 0.3
        assert angle_between_deg(T[:3, :3], true_poses[k, :3, :3]) < 0.6
    np.testing.assert_allclose(last.predicted(NAMES, own)[1], fit.state.T_world_implant, atol=0.2)


def test_poses_before_that_are_on_no_edges_change_nothing(frame_of, row, true_poses):
    frame, lost = frame_of(row), LastPoses()
    lost.add(NAMES, np.stack([moved(frame.implants[k], true_poses[k], np.full(6, 9.0)) for k in (0, 1)]))
    found, alone = frame.by_outline(lost), frame_of(row).by_outline()
    np.testing.assert_array_equal(found.state.T_world_implant, alone.state.T_world_implant)


def test_an_initial_pose_the_wrong_way_round_does_not_stay_though_most_of_its_edges_agree(frame_of, row, true_poses):
    """The tray, rotated by 180 degrees about its stem."""
    reversed_poses = true_poses.copy()
    implant = frame_of(row).implants[TIBIA]
    axes = implant.mesh.principal_inertia_vectors @ true_poses[TIBIA, :3, :3].T
    candidates = [
        moved(implant, true_poses[TIBIA], np.concatenate([np.zeros(3), np.pi * implant.radius_mm * axis]))
        for axis in axes
    ]
    frame = frame_of(row)
    supports = []
    for T in candidates:
        reversed_poses[TIBIA] = T
        supports.append(frame.outlines._support(frame.outlines.initial_state(reversed_poses), TIBIA))
    reversed_poses[TIBIA] = candidates[int(np.argmax(supports))]
    fit = frame_of(row, reversed_poses).by_outline()
    T = fit.state.T_world_implant[TIBIA]
    assert angle_between_deg(T[:3, :3], true_poses[TIBIA, :3, :3]) < 1
