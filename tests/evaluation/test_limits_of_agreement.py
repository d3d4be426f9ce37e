"""Bias and limits of agreement of two sets of poses."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from tests.poses.made import RIG, estimates_of, in_some_frames, poses
from veriserum_hf.core.domain import PLANES
from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation import agreement, agreements
from veriserum_hf.geometry.pose import make_transform

BIAS_MM, SD_MM = np.array([0.3, -0.2, 0.0]), np.array([0.1, 0.2, 0.8])
BIAS_DEG, SD_DEG = np.array([0.0, 0.5, -0.1]), np.array([0.1, 0.2, 0.4])
WORLD = [f"world_{axis}_mm" for axis in "xyz"]
TURNS = [f"rotation_{axis}_deg" for axis in "xyz"]
MESHES = {id: trimesh.creation.capsule(height=30 + id, radius=10) for id in (1, 2, 3, 4)}


def twice(count, **options):
    """Poses, and the same ones again with these differences."""
    rng = np.random.default_rng(0)
    second = poses(count, rng)
    first = second.copy()
    first[:, :3, 3] += rng.normal(BIAS_MM, SD_MM, (count, 3))
    turns = Rotation.from_rotvec(rng.normal(BIAS_DEG, SD_DEG, (count, 3)), degrees=True)
    first[:, :3, :3] = turns.as_matrix() @ second[:, :3, :3]
    return estimates_of(first, second, **options)


def agreements_of(pairs):
    return agreements(pairs, MESHES)


def by_name(found):
    return {each["name"]: each for each in found}


def test_each_degree_of_freedom_has_the_bias_and_the_limits_that_the_differences_have():
    found = by_name(agreements_of(twice(4000))["all"])
    for names, bias, sd in ((WORLD, BIAS_MM, SD_MM), (TURNS, BIAS_DEG, SD_DEG)):
        for n, name in enumerate(names):
            each = found[name]
            assert each["pairs"] == 4000
            assert each["bias"] == pytest.approx(bias[n], abs=4 * sd[n] / 4000**0.5)
            assert each["sd"] == pytest.approx(sd[n], rel=0.05)
            assert each["limits_95"] == pytest.approx([bias[n] - 1.96 * sd[n], bias[n] + 1.96 * sd[n]], abs=0.08)


@pytest.mark.parametrize("plane", PLANES)
def test_a_shift_away_from_a_source_is_depth_alone(plane):
    second = poses(40, np.random.default_rng(0))
    ray = second[:, :3, 3] - RIG[plane].source_mm
    first = second.copy()
    first[:, :3, 3] += 2.0 * ray / np.linalg.norm(ray, axis=1, keepdims=True)
    found = by_name(agreements_of(estimates_of(first, second))["all"])
    assert found[f"{plane}_depth_mm"]["bias"] == pytest.approx(2.0)
    for axis in "hv":
        assert found[f"{plane}_{axis}_mm"]["limits_95"] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_implants_are_apart():
    pairs = twice(24)
    moved = pairs.T_world_implant.copy()
    moved[pairs.anatomy_id == 3, 0, 3] += 50.0
    found = agreements_of(estimates_of(moved, pairs.T_world_label))
    assert list(found) == ["all", "femur 1", "femur 2", "tibia 3", "tibia 4"]
    counts = {implant: by_name(each)["world_x_mm"]["pairs"] for implant, each in found.items()}
    assert counts.pop("all") == 24 == sum(counts.values())
    assert by_name(found["tibia 3"])["world_x_mm"]["bias"] > 49
    assert abs(by_name(found["femur 1"])["world_x_mm"]["bias"]) < 1


def test_frames_without_a_plane_do_not_count_in_it():
    found = by_name(agreements_of(twice(8, cameras=in_some_frames(8, [0, 1, 6])))["all"])
    assert (found["fs_depth_mm"]["pairs"], found["bs_depth_mm"]["pairs"]) == (3, 8)
    without = by_name(agreements_of(twice(8, cameras=in_some_frames(8, [])))["all"])
    assert "fs_depth_mm" not in without and "bs_depth_mm" in without


def test_one_pair_has_no_limits():
    second = make_transform(np.eye(3)[None], [[0.0, 0.0, 380.0]])
    first = make_transform(np.eye(3)[None], [[0.5, 0.0, 380.0]])
    found = by_name(agreements_of(estimates_of(first, second))["all"])["world_x_mm"]
    assert (found["pairs"], found["trials"], found["bias"], found["rms"], found["p95"]) == (1, 1, 0.5, 0.5, 0.5)
    unknown = ("bias_interval_95", "sd", "limits_95", "limits_intervals_95")
    assert all(found[name] is None for name in unknown)


def test_the_largest_motion_is_that_of_a_point_of_the_mesh():
    pairs = twice(40)
    found = agreements_of(pairs)
    moved = [
        np.linalg.norm(
            (T - T_label) @ np.column_stack([MESHES[id].vertices, np.ones(len(MESHES[id].vertices))]).T, axis=0
        )
        for id, T, T_label in zip(pairs.anatomy_id, pairs.T_world_implant, pairs.T_world_label, strict=True)
    ]
    mtpm = by_name(found["all"])["mtpm_mm"]
    largest = np.array([each.max() for each in moved])
    assert mtpm["bias"] == pytest.approx(largest.mean()) and mtpm["rms"] == pytest.approx(
        np.sqrt(np.mean(largest**2))
    )
    assert mtpm["p95"] == pytest.approx(np.percentile(largest, 95))
    assert mtpm["limits_95"] is None and mtpm["limits_intervals_95"] is None
    with pytest.raises(TrainingError, match=r"row 1 \(measurement 1000, .*tibia 3\): there is no mesh of implant 3"):
        agreements(pairs, {1: MESHES[1], 2: MESHES[2]})


def clustered(rng, trials, frames=30, between=1.0, within=0.5):
    """Differences of trials that have biases of their own, and the trials; some are longer."""
    lengths = frames + frames * (np.arange(trials) % 3)
    trial_id = np.repeat(np.arange(trials), lengths)
    return rng.normal(0.2, between, trials)[trial_id] + rng.normal(0, within, len(trial_id)), trial_id


def test_few_trials_do_not_make_the_deviation_too_small():
    """That of all frames of three trials together is; the variance of one more trial counts in full."""
    rng = np.random.default_rng(0)
    found, plain = [], []
    for _ in range(600):
        differences, trial_id = clustered(rng, 3)
        found.append(agreement("x_mm", differences, trial_id)["sd"] ** 2)
        plain.append(differences.var(ddof=1))
    assert np.mean(found) == pytest.approx(1.25, rel=0.1)
    assert np.mean(plain) < 1.0


def test_trials_that_agree_have_the_deviation_of_their_frames():
    """The limits of Bland and Altman (1986), where trials do not differ."""
    rng = np.random.default_rng(1)
    differences = rng.normal(0.1, 0.3, 2000)
    found = agreement("x_mm", differences, np.arange(2000) // 20)
    assert found["sd"] == pytest.approx(differences.std(ddof=1), rel=0.01)
    assert found["trials"] == 100 and found["rms"] == pytest.approx(np.sqrt(np.mean(differences**2)))


def test_one_frame_in_each_trial_is_the_plain_standard_deviation():
    differences = np.random.default_rng(2).normal(size=12)
    found = agreement("x_mm", differences, np.arange(12))
    assert found["sd"] == pytest.approx(differences.std(ddof=1))


def test_intervals_are_those_of_trials():
    """Of bias and limits, with six trials of different length; those of frames would hardly ever hold the truth."""
    rng = np.random.default_rng(3)
    truth = {"bias": 0.2, "low": 0.2 - 1.96 * 1.25**0.5, "high": 0.2 + 1.96 * 1.25**0.5}
    inside = {name: [] for name in truth}
    for _ in range(150):
        one = agreement("x_mm", *clustered(rng, 6))
        intervals = {"bias": one["bias_interval_95"]} | dict(
            zip(("low", "high"), one["limits_intervals_95"], strict=True)
        )
        for name, (low, high) in intervals.items():
            inside[name].append(low <= truth[name] <= high)
    shares = {name: np.mean(each) for name, each in inside.items()}
    assert min(shares.values()) > 0.9, shares
