"""Smoothing over time: what it gains where noise dominates, what it costs where it does not, and what bands hold."""

from itertools import product

import numpy as np
import pyarrow as pa
import pytest

from tests.knee.motions import disturbed, own_axes, simulated, table_of
from veriserum_hf.errors import KinematicsError
from veriserum_hf.knee import COORDINATES, kinematics

SMOOTHED = [f"smoothed_{name}" for name in COORDINATES]


def values_of(table, names=COORDINATES):
    return np.stack([table[name].to_numpy() for name in names], axis=-1)


def registered(deviation, seed=0, verdicts=None, common=0.0, stated=None, trial=1):
    """Kinematics of a simulated trial with errors of this deviation, mm and deg, and the true ones."""
    rng = np.random.default_rng(seed)
    femur, tibia, _ = simulated(trial)
    shift = np.zeros(6) if not common else rng.normal(scale=common, size=6)
    moved = [disturbed(T, deviation**2 * np.eye(6), rng) for T in (femur, tibia)]
    moved[0][:, :3, 3] += shift[:3]
    stated = np.hypot(deviation, common) if stated is None else stated
    poses = table_of(*moved, stated**2 * np.eye(6), verdicts)
    found = kinematics(poses, own_axes(), frame_rate_hz=30, smoothed=True).table
    truth = values_of(kinematics(table_of(femur, tibia), own_axes()).table)
    return found, truth


@pytest.mark.parametrize(("deviation", "least"), [(0.7, 1.5), (0.2, 1.5), (0.05, 1.0), (0.005, 1.0)])
def test_errors_are_smaller_where_noise_dominates_and_never_much_larger(deviation, least):
    found, truth = registered(deviation)
    raw, smooth = (
        np.sqrt(np.mean((values_of(found, each) - truth) ** 2, axis=0)) for each in (COORDINATES, SMOOTHED)
    )
    assert (smooth < 1.05 * raw).all()
    assert np.sqrt(np.mean(raw**2) / np.mean(smooth**2)) >= least


def test_bands_cover_the_truth_also_in_gaps_and_grow_there():
    verdicts = ["converged"] * 90
    verdicts[40:48] = ["failed"] * 8
    covered = []
    for trial, seed in product((0, 1), range(4)):
        found, truth = registered(0.3, seed, verdicts, trial=trial)
        band = values_of(found, [f"{name}_sd" for name in SMOOTHED])
        covered.append(np.abs(values_of(found, SMOOTHED) - truth) < 1.96 * band)
        assert (band[44] > band[30]).all()
        assert (band[44] > 1.5 * band[30])[:3].all()
        assert found["verdict"].to_pylist()[44] == "failed"
    share = np.mean(covered, axis=(0, 1))
    assert (share > 0.85).all()
    assert np.mean(covered, axis=1).min() > 0.75  # of one trial and coordinate
    assert np.mean(covered) < 0.995


def test_what_neighbouring_frames_have_in_common_stays_in_the_bands():
    found, _ = registered(0.05, common=1.0)
    band = found["smoothed_anterior_mm_sd"].to_numpy()
    assert (band > 0.5 * found["anterior_mm_sd"].to_numpy()).all()


def test_raw_values_are_unchanged():
    found, _ = registered(0.3)
    femur, tibia, _ = simulated(1)
    rng = np.random.default_rng(0)
    moved = [disturbed(T, 0.09 * np.eye(6), rng) for T in (femur, tibia)]
    np.testing.assert_array_equal(values_of(found), values_of(kinematics(table_of(*moved), own_axes()).table))


def test_nothing_is_extrapolated():
    verdicts = ["failed"] * 5 + ["converged"] * 80 + ["failed"] * 5
    found, _ = registered(0.3, verdicts=verdicts)
    known = np.isfinite(found["smoothed_flexion_deg"].to_numpy())
    assert np.flatnonzero(known)[[0, -1]].tolist() == [5, 84]


def test_a_trial_of_one_frame_keeps_its_pose_and_deviations():
    femur, tibia, _ = simulated()
    tables = [
        table_of(femur[part], tibia[part], 0.04 * np.eye(6), trial_id=n, first_id=1 + 100 * n)
        for n, part in enumerate((slice(0, 20), slice(30, 31), slice(40, 42)))
    ]
    for poses in (pa.concat_tables(tables), tables[1]):
        found = kinematics(poses, own_axes(), frame_rate_hz=30, smoothed=True).table
        alone = found.filter(pa.compute.equal(found["trial_id"], 1))
        for end in ("", "_sd"):
            raw, smooth = (values_of(alone, [f"{name}{end}" for name in names]) for names in (COORDINATES, SMOOTHED))
            np.testing.assert_allclose(smooth, raw, rtol=1e-4, atol=1e-6)
        assert np.isfinite(values_of(found, [f"{name}_sd" for name in SMOOTHED])).all()


def test_poses_without_covariances_are_refused():
    femur, tibia, _ = simulated()
    with pytest.raises(KinematicsError, match="no frame that counts has a covariance"):
        kinematics(table_of(femur, tibia), own_axes(), smoothed=True)
