"""Cycles from event to event, and their mean over trials."""

import numpy as np
import pyarrow as pa
import pytest

from tests.knee.motions import own_axes, placed, table_of
from veriserum_hf.errors import KinematicsError
from veriserum_hf.knee import cycles_of, kinematics, mean_cycle, read_events


def swinging(trial_id=1, amplitude=30.0, verdicts=None):
    """A knee that swings twice a second for 3 s, 30 frames a second, with a smaller peak within each cycle."""
    t = np.arange(91) / 30
    flexion = 40 - amplitude * np.cos(2 * np.pi * t) + 0.2 * amplitude * np.sin(6 * np.pi * t)
    values = np.stack([flexion, 0 * t, 0.1 * flexion, 0 * t, 0 * t, 30 + 0 * t], axis=-1)
    return table_of(*placed(values, "right"), 0.01 * np.eye(6), verdicts, trial_id, 100 * trial_id)


def swung(*trials):
    return kinematics(pa.concat_tables(trials), own_axes(), frame_rate_hz=30).table


@pytest.mark.parametrize(("event", "count"), [("max_flexion", 2), ("min_flexion", 1)])
def test_cycles_begin_at_extremes_of_flexion(event, count):
    cycles = cycles_of(swung(swinging()), event)
    assert sorted(set(cycles["cycle"].to_pylist())) == list(range(1, count + 1))
    flexion = cycles["flexion_deg"].to_numpy().reshape(-1, 101)
    extreme = flexion.max(axis=1) if event == "max_flexion" else flexion.min(axis=1)
    np.testing.assert_allclose(flexion[:, 0], extreme, atol=0.5)
    np.testing.assert_allclose(flexion[:, 100], extreme, atol=0.5)
    np.testing.assert_allclose(np.array(cycles["end_s"]) - np.array(cycles["start_s"]), 1.0, atol=0.05)


def test_cycles_between_given_times(tmp_path):
    file = tmp_path / "events.yaml"
    file.write_text("1: [0.5, 1.5]\n")
    cycles = cycles_of(swung(swinging(1), swinging(2)), read_events(file))
    assert set(cycles["trial_id"].to_pylist()) == {1}
    t = 0.5 + cycles["percent"].to_numpy() / 100
    expected = 40 - 30 * np.cos(2 * np.pi * t) + 6 * np.sin(6 * np.pi * t)
    np.testing.assert_allclose(cycles["flexion_deg"].to_numpy(), expected, atol=0.5)


def test_the_mean_is_over_trials_and_its_band_between_them():
    table = swung(swinging(1, 20.0), swinging(2, 30.0))
    mean = mean_cycle(cycles_of(table, {1: [0.0, 1.0, 2.0], 2: [0.0, 1.0]}))
    assert mean["flexion_deg"].to_pylist()[50] == pytest.approx(40 + (20 + 30) / 2, abs=0.2)
    assert mean["flexion_deg_between_sd"].to_pylist()[50] == pytest.approx(10 / np.sqrt(2), abs=0.2)
    assert set(mean["flexion_deg_trials"].to_pylist()) == {2}
    alone = mean_cycle(cycles_of(table, {1: [0.0, 1.0]}))
    assert alone["flexion_deg_between_sd"].null_count == 101


def test_frames_that_have_not_converged_are_left_out_unless_asked_for():
    verdicts = ["converged"] * 91
    verdicts[20:25] = ["ambiguous"] * 5
    table = swung(swinging(verdicts=verdicts))
    assert cycles_of(table, {1: [0.0, 1.0]})["flexion_deg"].null_count > 10
    assert cycles_of(table, {1: [0.0, 1.0]}, all_verdicts=True)["flexion_deg"].null_count == 0


def test_what_gives_no_cycle_is_named(tmp_path):
    with pytest.raises(KinematicsError, match="no trial has two events"):
        cycles_of(swung(swinging()), {1: [0.5]})
    with pytest.raises(KinematicsError, match="need the time of every frame"):
        cycles_of(kinematics(swinging(), own_axes()).table, "max_flexion")
    file = tmp_path / "events.yaml"
    file.write_text("1: [1.5, 0.5]\n")
    with pytest.raises(KinematicsError, match=r"trial 1 has \[1\.5, 0\.5\]; expected at least two rising times"):
        read_events(file)
