"""Figures of a summary, its intervals, and that it is plain JSON."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from tests.poses.made import POINTS_MM, estimates_of, in_some_frames, noisy, poses
from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation.metrics import pose_errors
from veriserum_hf.evaluation.summary import overall, summarise

METRICS = ("rotation_deg", "translation_mm", "mtre_mm", "add_s_mm", "reprojection_bs_px", "reprojection_fs_px")
few = settings(max_examples=20)


@pytest.fixture(scope="module")
def errors():
    return pose_errors(noisy(240, trials=10, frames_per_trial=12), POINTS_MM)


def replaced(errors, **columns):
    for name, values in columns.items():
        errors = errors.set_column(errors.column_names.index(name), name, pa.array(values))
    return errors


def test_shape_for_scripts(errors):
    found = summarise(errors, resamples=50)
    assert list(found) == ["overall", "by_implant", "by_task", "by_plane_axis", "confidence"]
    assert set(found["by_implant"]) == {"femur", "tibia", "femur 1", "femur 2", "tibia 3", "tibia 4"}
    assert set(found["by_task"]) == {"gait", "stair_descent"}
    groups = [found["overall"], *found["by_implant"].values(), *found["by_task"].values()]
    for group in groups:
        assert group.keys() == {"count", "frames", "trials", *METRICS, "success_1mm_1deg", "success_2mm_2deg"}
        for metric in METRICS:
            assert group[metric].keys() == {"median", "median_interval_95", "p90", "p95", "count"}
    assert {frame: list(axes) for frame, axes in found["by_plane_axis"].items()} == {
        "world": ["x", "y", "z"],
        "bs": ["h", "v", "depth"],
        "fs": ["h", "v", "depth"],
    }
    assert (groups[0]["count"], groups[0]["frames"], groups[0]["trials"]) == (240, 120, 10)
    for part in ("by_implant", "by_task"):
        counts = {name: group["count"] for name, group in found[part].items() if " " not in name}
        assert sum(counts.values()) == 240


def test_a_plane_counts_in_the_frames_that_have_it(errors):
    """As if there were no others; a task whose frames all lack it has no figures of it."""
    options = {"trials": 10, "frames_per_trial": 12}
    of_gait = noisy(240, **options).task == "gait"
    cameras = in_some_frames(240, np.flatnonzero(of_gait))
    found = summarise(pose_errors(noisy(240, cameras=cameras, **options), POINTS_MM), resamples=50)
    alone = summarise(errors.filter(pa.array(of_gait)), resamples=50)
    assert found["by_plane_axis"]["fs"] == alone["by_plane_axis"]["fs"]
    assert found["overall"]["reprojection_fs_px"] == alone["overall"]["reprojection_fs_px"]
    assert found["overall"]["reprojection_bs_px"] == summarise(errors, resamples=50)["overall"]["reprojection_bs_px"]
    assert "reprojection_fs_px" not in found["by_task"]["stair_descent"]
    json.dumps(found, allow_nan=False)


def test_figures_are_numpys(errors):
    found = summarise(errors, resamples=50)
    femur = errors.filter(pa.compute.equal(errors["component"], "femur"))
    for table, group in ((errors, found["overall"]), (femur, found["by_implant"]["femur"])):
        values = table["rotation_deg"].to_numpy()
        expected = np.percentile(values, (50, 90, 95))
        np.testing.assert_allclose([group["rotation_deg"][n] for n in ("median", "p90", "p95")], expected, rtol=1e-12)
        within = (values <= 1) & (table["translation_mm"].to_numpy() <= 1)
        assert group["success_1mm_1deg"]["share"] == pytest.approx(within.mean())
    depth = errors["bs_depth_mm"].to_numpy()
    axis = found["by_plane_axis"]["bs"]["depth"]
    assert axis["median"] == pytest.approx(np.median(np.abs(depth))) and axis["bias"] == pytest.approx(depth.mean())


def test_json_round_trip(errors):
    found = summarise(errors, resamples=50)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_infinite_figures_are_null_and_finite_ones_next_to_them_are_not():
    labels = poses(6, np.random.default_rng(0))
    estimated = labels.copy()
    estimated[3:, 2, 3] += 2000  # behind the source of bs
    found = summarise(pose_errors(estimates_of(estimated[1:], labels[1:]), POINTS_MM))
    figures = found["overall"]["reprojection_bs_px"]
    assert figures["median"] is None and figures["p95"] is None
    found = summarise(pose_errors(estimates_of(estimated[:5], labels[:5]), POINTS_MM))
    figures = found["overall"]["reprojection_bs_px"]
    assert figures["median"] == pytest.approx(0, abs=1e-9) and figures["p90"] is None and figures["count"] == 5
    json.dumps(found, allow_nan=False)


def test_the_overall_group_can_be_had_alone(errors):
    assert overall(errors, resamples=20) == summarise(errors, resamples=20)["overall"]


@few
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(errors, random):
    order = random.sample(range(len(errors)), len(errors))
    assert summarise(errors.take(order), resamples=20) == summarise(errors, resamples=20)


@few
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 6))
def test_an_interval_contains_the_figure(seed, trials, frames_per_trial):
    count = 2 * trials * frames_per_trial
    table = pose_errors(noisy(count, seed, trials=trials, frames_per_trial=frames_per_trial), POINTS_MM)
    group = summarise(table, resamples=200)["overall"]
    for metric in METRICS:
        low, high = group[metric]["median_interval_95"]
        rounding = 1e-9 * high  # between two values that are the same but for it
        assert low - rounding <= group[metric]["median"] <= high + rounding
    for name in ("success_1mm_1deg", "success_2mm_2deg"):
        if interval := group[name]["share_interval_95"]:
            assert interval[0] <= group[name]["share"] <= interval[1]


def test_trials_are_resampled_and_not_frames(errors):
    """Repeated frames add no information to a trial."""
    table = replaced(errors, rotation_deg=errors["trial_id"].to_numpy().astype(float))
    found = summarise(table)["overall"]["rotation_deg"]
    again = summarise(pa.concat_tables([table] * 5))["overall"]["rotation_deg"]
    assert found["median_interval_95"] == again["median_interval_95"]
    low, high = found["median_interval_95"]
    assert high - low >= 4  # of trials 70 to 79; frames as independent rows would give 1 to 2


def test_intervals_hold_the_true_median_and_those_of_single_frames_would_not():
    """Errors of 30 trials of 8 rows that scatter about 10 deg, more among trials than within."""
    rng = np.random.default_rng(0)
    trial = np.repeat(np.arange(30), 8)
    table = pose_errors(noisy(240), POINTS_MM)
    table = replaced(table, component=["femur"] * 240, anatomy_id=[1] * 240, task=["gait"] * 240)
    table = table.drop_columns(
        [name for name in table.column_names if name.startswith(("world", "bs", "fs", "repro"))]
    )
    held = {"trials": 0, "frames": 0}
    for _ in range(100):
        values = 10 + rng.normal(size=30)[trial] + 0.3 * rng.normal(size=240)
        for unit, ids in (("trials", trial), ("frames", np.arange(240))):
            found = overall(replaced(table, rotation_deg=values, trial_id=ids), resamples=100)
            low, high = found["rotation_deg"]["median_interval_95"]
            held[unit] += low <= 10 <= high
    assert held["trials"] >= 85  # 93 in the long run; fewer than 85 in about one of 300 runs
    assert held["frames"] <= 70


def test_one_trial_has_no_interval():
    found = summarise(pose_errors(noisy(24, trials=1), POINTS_MM))["overall"]
    assert found["trials"] == 1 and found["rotation_deg"]["median"] > 0
    assert found["rotation_deg"]["median_interval_95"] is None
    assert found["success_2mm_2deg"]["share_interval_95"] is None


def test_a_share_of_all_or_none_has_no_interval(errors):
    found = summarise(replaced(errors, rotation_deg=np.full(len(errors), 100.0)))["overall"]
    assert found["success_2mm_2deg"] == {"share": 0.0, "share_interval_95": None, "count": 240}


def test_the_seed_decides_the_intervals(errors):
    assert summarise(errors, resamples=50, seed=1) == summarise(errors, resamples=50, seed=1)
    assert summarise(errors, resamples=50, seed=1) != summarise(errors, resamples=50, seed=2)


def test_nothing_to_summarise_is_an_error(errors):
    with pytest.raises(TrainingError, match="nothing to summarise: the table of errors has no row"):
        summarise(errors.slice(0, 0))
    with pytest.raises(TrainingError, match="resamples must be at least 1, got 0"):
        summarise(errors, resamples=0)
