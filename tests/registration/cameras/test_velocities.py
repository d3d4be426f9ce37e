"""Velocities from the poses of consecutive frames."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from tests.registration.scenes import pose
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import make_transform, transform_points
from veriserum_hf.registration.cameras.velocities import velocities
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.outline.steps import moved

RATE_HZ = 30.0


@pytest.fixture(scope="module")
def implant():
    mesh = trimesh.creation.box((60, 40, 30))
    mesh.apply_translation((5, 20, -8))  # its centre is not its origin
    return Implant(7, mesh)


def transform_at(time_s):
    """A knee in gait: harmonics of 1 to 3 Hz."""
    waves = np.array([np.sin(2 * np.pi * n * time_s + n) for n in (1, 2, 3)])
    R = Rotation.from_rotvec([0.5 * waves[0] + 0.1 * waves[2], 0.1 * waves[1], 0.05]).as_matrix()
    return make_transform(R, [30 * waves[0], 8 * waves[1] + 2 * waves[2], 381 + 10 * waves[1]])


def trial(frames, id=3, rate_hz=RATE_HZ):
    labels = [{"measurement_id": 10 * id + n, "trial_id": id, "frame_index": n} for n in frames]
    starts = {row["measurement_id"]: {"femur": pose(7, transform_at(row["frame_index"] / rate_hz))} for row in labels}
    return labels, starts


def test_motion_of_a_knee_in_gait_is_followed_to_one_per_cent(implant):
    found = velocities(*trial(range(24)), {7: implant}, RATE_HZ)
    assert sorted(found) == list(range(31, 53))
    ends = {31, 52}  # four poses around them, not five
    apart_mm, speeds = [], []
    for id in sorted(set(found) - ends):
        velocity, time_s, late_ms = found[id]["femur"], (id - 30) / RATE_HZ, 1e-3
        T, later = transform_at(time_s), transform_at(time_s + late_ms / 1000)
        reached = moved(implant, T, late_ms * velocity)
        corners_mm = np.asarray(implant.mesh.vertices)
        exact_mm = transform_points(later, corners_mm)
        apart_mm.append((transform_points(reached, corners_mm) - exact_mm) / late_ms)
        speeds.append((exact_mm - transform_points(T, corners_mm)) / late_ms)
    assert np.sqrt(np.mean(np.square(apart_mm)) / np.mean(np.square(speeds))) < 0.01


def test_what_all_poses_share_is_no_motion(implant):
    labels, starts = trial(range(5))
    exact = velocities(labels, starts, {7: implant}, RATE_HZ)
    for each in starts.values():
        each["femur"]["translation_mm"] = (np.array(each["femur"]["translation_mm"]) + (1.0, -2.0, 3.0)).tolist()
    shifted = velocities(labels, starts, {7: implant}, RATE_HZ)
    for id, velocity in exact.items():
        np.testing.assert_allclose(shifted[id]["femur"], velocity["femur"], atol=1e-12)


def test_independent_errors_of_poses_do_not_make_velocities_too_large(implant):
    labels, starts = trial(range(200))
    exact = velocities(labels, starts, {7: implant}, RATE_HZ)
    rng = np.random.default_rng(0)
    for each in starts.values():
        each["femur"]["translation_mm"] = (each["femur"]["translation_mm"] + rng.normal(0, 1.0, 3)).tolist()
    found = velocities(labels, starts, {7: implant}, RATE_HZ)
    true, measured = (np.array([each[id]["femur"] for id in exact]) for each in (exact, found))
    factors = (true * measured).sum(axis=0) / (measured**2).sum(axis=0)
    np.testing.assert_allclose(factors[[0, 1, 2, 3]], 1, atol=0.05)
    assert np.mean(measured[:, 1] ** 2) < 0.9 * np.mean(true[:, 1] ** 2)

    for row in labels:  # no motion, errors alone
        translation_mm = (10 + rng.normal(0, 0.1, 3)).tolist()
        starts[row["measurement_id"]]["femur"] = starts[30]["femur"] | {"translation_mm": translation_mm}
    still = velocities(labels, starts, {7: implant}, RATE_HZ)
    assert np.abs([each["femur"] for each in still.values()]).max() < 0.005  # mm/ms, of errors: 0.003 (SD)


def test_a_wrong_pose_changes_no_velocities_of_other_frames(implant):
    labels, starts = trial(range(60))
    exact = velocities(labels, starts, {7: implant}, RATE_HZ)
    rng = np.random.default_rng(0)
    for each in starts.values():
        shifted_mm = each["femur"]["translation_mm"] + rng.normal(0, 0.3, 3)
        each["tibia"] = each["femur"] | {"translation_mm": shifted_mm.tolist()}
    starts[60]["tibia"]["translation_mm"] = [x + 30 for x in starts[60]["tibia"]["translation_mm"]]
    found = velocities(labels, starts, {7: implant}, RATE_HZ)
    assert sorted(exact.keys() - found.keys()) == [59, 60, 61]
    true, measured = (np.array([of[id][name] for id in found]) for of, name in ((exact, "femur"), (found, "tibia")))
    factors = (true * measured).sum(axis=0) / (measured**2).sum(axis=0)
    np.testing.assert_allclose(factors[:4], 1, atol=0.05)


def test_a_low_frame_rate_is_refused(implant):
    labels, starts = trial(range(60), rate_hz=15)
    found = velocities(labels, starts, {7: implant}, 15)
    late_s = 1e-4
    for axis in range(3):
        center_mm = [
            [transform_points(transform_at((id - 30) / 15 + s), implant.center_mm[None])[0, axis] for id in found]
            for s in (-late_s, late_s)
        ]
        true = (np.array(center_mm[1]) - center_mm[0]) / (2000 * late_s)
        measured = np.array([each["femur"][axis] for each in found.values()])
        assert (true * measured).sum() / (measured**2).sum() == pytest.approx(1, abs=0.05)
    with pytest.raises(RegistrationError, match=r"the frame rate is 10 Hz; expected at least 14 Hz"):
        velocities(labels, starts, {7: implant}, 10)


def test_frames_without_neighbours_have_no_velocity(implant):
    labels, starts = trial([0, 1, 2, 4, 6, 7, 8, 9])
    others, of_others = trial([3, 5], id=5)
    starts = starts | of_others
    starts[39]["femur"]["verdict"] = "failed"
    assert sorted(velocities(labels + others, starts, {7: implant}, RATE_HZ)) == [31, 37]
    starts[37]["tibia"] = starts[37]["femur"]  # an implant that the frames around it do not have
    assert sorted(velocities(labels + others, starts, {7: implant}, RATE_HZ)) == [31]
    starts[30]["femur"]["anatomy_id"] = 8
    assert not velocities(labels + others, starts, {7: implant, 8: Implant(8, implant.mesh)}, RATE_HZ)
