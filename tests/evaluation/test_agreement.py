"""Bias and limits of agreement of two sets of poses."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.poses.made import RIG, estimates_of, in_some_frames, poses
from veriserum_hf.core.domain import PLANES
from veriserum_hf.evaluation import repeatability
from veriserum_hf.geometry.pose import make_transform

BIAS_MM, SD_MM = np.array([0.3, -0.2, 0.0]), np.array([0.1, 0.2, 0.8])
BIAS_DEG, SD_DEG = np.array([0.0, 0.5, -0.1]), np.array([0.1, 0.2, 0.4])
WORLD = [f"world_{axis}_mm" for axis in "xyz"]
TURNS = [f"rotation_{axis}_deg" for axis in "xyz"]


def twice(count, **options):
    """Poses, and the same ones again with these differences."""
    rng = np.random.default_rng(0)
    second = poses(count, rng)
    first = second.copy()
    first[:, :3, 3] += rng.normal(BIAS_MM, SD_MM, (count, 3))
    turns = Rotation.from_rotvec(rng.normal(BIAS_DEG, SD_DEG, (count, 3)), degrees=True)
    first[:, :3, :3] = turns.as_matrix() @ second[:, :3, :3]
    return estimates_of(first, second, **options)


def by_name(found):
    return {each["name"]: each for each in found}


def test_each_degree_of_freedom_has_the_bias_and_the_limits_that_the_differences_have():
    found = by_name(repeatability(twice(4000))["all"])
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
    found = by_name(repeatability(estimates_of(first, second))["all"])
    assert found[f"{plane}_depth_mm"]["bias"] == pytest.approx(2.0)
    for axis in "hv":
        assert found[f"{plane}_{axis}_mm"]["limits_95"] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_implants_are_apart():
    pairs = twice(24)
    moved = pairs.T_world_implant.copy()
    moved[pairs.anatomy_id == 3, 0, 3] += 50.0
    found = repeatability(estimates_of(moved, pairs.T_world_label))
    assert list(found) == ["all", "femur 1", "femur 2", "tibia 3", "tibia 4"]
    counts = {implant: by_name(each)["world_x_mm"]["pairs"] for implant, each in found.items()}
    assert counts.pop("all") == 24 == sum(counts.values())
    assert by_name(found["tibia 3"])["world_x_mm"]["bias"] > 49
    assert abs(by_name(found["femur 1"])["world_x_mm"]["bias"]) < 1


def test_frames_without_a_plane_do_not_count_in_it():
    found = by_name(repeatability(twice(8, cameras=in_some_frames(8, [0, 1, 6])))["all"])
    assert (found["fs_depth_mm"]["pairs"], found["bs_depth_mm"]["pairs"]) == (3, 8)
    without = by_name(repeatability(twice(8, cameras=in_some_frames(8, [])))["all"])
    assert "fs_depth_mm" not in without and "bs_depth_mm" in without


def test_one_pair_has_no_limits():
    second = make_transform(np.eye(3)[None], [[0.0, 0.0, 380.0]])
    first = make_transform(np.eye(3)[None], [[0.5, 0.0, 380.0]])
    found = by_name(repeatability(estimates_of(first, second))["all"])["world_x_mm"]
    assert found == {"name": "world_x_mm", "pairs": 1, "bias": 0.5, "sd": None, "limits_95": None}
