"""Poses that jump against their neighbours are found, and correct ones are not, however fast the motion."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from veriserum_hf.registration.trials.consistency import Track, jumps

SD = np.repeat((0.05, 0.1), 3)  # mm, deg


def motion(frames, seed=0, *, sd=SD, amplitude=30.0):
    """Frames at 30 Hz of two harmonics of a cycle of 1.2 s, with noise of these deviations."""
    random = np.random.default_rng(seed)
    time = np.arange(frames) / 36.0
    phases = random.uniform(0, 2 * np.pi, (2, 6))
    curves = (
        sum(amplitude / (k + 1) ** 2 * np.cos(2 * np.pi * (k + 1) * time[:, None] + phases[k]) for k in range(2))
        + random.normal(size=(frames, 6)) * sd
    )
    rotation = Rotation.from_rotvec(curves[:, 3:], degrees=True).as_matrix()
    return Track(np.arange(frames) * 1.0, curves[:, :3], rotation, np.tile(np.diag(sd**2), (frames, 1, 1)))


def displaced(track, frames, shift_mm=(0, 0, 0), rotvec_deg=(0, 0, 0)):
    center, rotation = track.center_mm.copy(), track.rotation.copy()
    center[frames] += shift_mm
    rotation[frames] = Rotation.from_rotvec(rotvec_deg, degrees=True).as_matrix() @ rotation[frames]
    return Track(track.time, center, rotation, track.covariance)


def taken(track, frames):
    return Track(*(each[frames] for each in (track.time, track.center_mm, track.rotation, track.covariance)))


@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(1, 45),
    seed=st.integers(0, 1000),
    amplitude=st.sampled_from((0.0, 5.0, 30.0)),
    every=st.integers(1, 4),
    gaps=st.booleans(),
)
def test_a_smooth_motion_is_consistent_at_any_speed_and_with_missing_frames(frames, seed, amplitude, every, gaps):
    track = motion(frames * every, seed, amplitude=amplitude)
    kept = np.arange(0, frames * every, every)
    if gaps:
        kept = kept[np.random.default_rng(seed).uniform(size=len(kept)) > 0.3]
    assert jumps(taken(track, kept)) == {}


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    first=st.integers(0, 38),
    run=st.sampled_from((1, 2)),
    rotated=st.booleans(),
    far=st.sampled_from((4.0, 40.0)),
)
def test_the_frames_that_jump_are_named_and_not_their_neighbours(seed, first, run, rotated, far):
    wrong = list(range(first, first + run))
    step = {"rotvec_deg" if rotated else "shift_mm": far * np.array([0.6, 0.0, 0.8])}
    found = jumps(displaced(motion(40, seed, amplitude=10.0), wrong, **step))
    assert list(found) == wrong
    for jump in found.values():
        size, other = (jump.deg, jump.mm) if rotated else (jump.mm, jump.deg)
        assert size == pytest.approx(far, abs=1.5) and other < 1.5
        assert not set(jump.neighbours) & set(wrong) and 2 <= len(jump.neighbours) <= 4


def test_two_wrong_frames_of_a_trial_are_both_named():
    track = displaced(motion(60, amplitude=10.0), [15], shift_mm=(0, 5, 0))
    assert list(jumps(displaced(track, [40], rotvec_deg=(5, 0, 0)))) == [15, 40]


@pytest.mark.parametrize(
    ("frames", "flipped", "named"), [(4, [2], [2]), (3, [0], [0]), (2, [1], [0, 1]), (30, [7], [7])]
)
def test_a_mirrored_tray_is_named_even_in_a_short_trial(frames, flipped, named):
    assert list(jumps(displaced(motion(frames), flipped, rotvec_deg=(0, 175, 0)))) == named


def test_of_a_lasting_jump_the_frames_next_to_it_are_named():
    found = jumps(displaced(motion(40, amplitude=5.0), list(range(20, 40)), rotvec_deg=(0, 170, 0)))
    assert list(found) == [19, 20] and found[19].neighbours == (20,)


def test_a_jump_along_a_direction_that_is_not_determined_is_none():
    """One plane alone: depth along z is known to 4 mm."""
    sd = np.array([0.05, 0.05, 4.0, 0.1, 0.1, 0.1])
    track = motion(40, sd=sd, amplitude=5.0)
    assert jumps(displaced(track, [12], shift_mm=(0, 0, 4))) == {}
    assert list(jumps(displaced(track, [12], shift_mm=(0, 4, 0)))) == [12]


def test_in_a_short_trial_nothing_else_can_be_determined():
    assert jumps(displaced(motion(6), [3], shift_mm=(0, 10, 0))) == {}
    assert jumps(taken(motion(3), [])) == {}
