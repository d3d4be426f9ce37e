"""Estimates that cannot be evaluated are refused, by name."""

import numpy as np
import pytest

from tests.poses.made import RIG, estimates_of, noisy, poses
from veriserum_hf.errors import TrainingError

LABELS = poses(6, np.random.default_rng(0))


def with_row(value, row=3):
    T = LABELS.copy()
    T[row, :3, :3] = value
    return T


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"T_world_implant": with_row(np.nan)}, r"tibia 3\): the estimated pose cannot be used, expected finite"),
        ({"T_world_implant": with_row(2 * np.eye(3))}, r"the estimated pose cannot be used, .* rigid, in mm; 1 of 6"),
        ({"T_world_implant": with_row(-np.eye(3))}, "the estimated pose cannot be used"),  # a mirror
        ({"T_world_label": with_row(np.inf)}, "the label cannot be used"),
        ({"confidence": np.array([0, 0.5, 1, 1.5, 0, 0])}, r"the confidence cannot be used, expected a probability"),
        ({"component": np.array(["femur"] * 3 + ["knee"] * 3)}, "the component cannot be used, .*; 3 of 6 rows"),
        (
            {"cameras": {"bs": (np.full((6, 3, 3), np.nan), np.broadcast_to(RIG["bs"].world_to_camera, (6, 4, 4)))}},
            "row 0 .*: camera_bs cannot be used",
        ),
        ({"cameras": {}}, "cameras must be given for bs, fs or both, got"),
        ({"trial_id": np.arange(5)}, r"trial_id must have shape \(6,\) for 6 measurement ids, got \(5,\)"),
        ({"T_world_implant": LABELS[:4]}, r"T_world_implant must have shape \(6, 4, 4\) .* got \(4, 4, 4\)"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_named(changed, message):
    with pytest.raises(TrainingError, match=message):
        estimates_of(changed.pop("T_world_implant", LABELS), changed.pop("T_world_label", LABELS), **changed)


def test_the_first_unusable_row_is_named_by_its_frame_and_implant():
    with pytest.raises(TrainingError, match=r"^row 3 \(measurement 1001, trial 70, tibia 3\): "):
        estimates_of(with_row(np.nan), LABELS)


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(TrainingError, match="nothing to evaluate: there is no implant with a label"):
        noisy(0)


def test_a_method_that_states_no_confidence_can_be_evaluated():
    assert len(noisy(6, confidence=np.full(6, np.nan))) == 6
