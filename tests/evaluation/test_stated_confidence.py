"""Whether stated probabilities are true, and what marks catch."""

import numpy as np
import pytest

from veriserum_hf.evaluation.stated_confidence import calibration_error, marks, reliability


def test_true_probabilities_have_no_calibration_error_and_false_ones_have_theirs():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0, 1, 20_000)
    right = rng.uniform(0, 1, 20_000) < confidence
    assert calibration_error(confidence, right) < 0.02
    assert calibration_error(np.full(20_000, 0.9), rng.uniform(0, 1, 20_000) < 0.6) == pytest.approx(0.3, abs=0.02)


def test_bins_hold_equal_numbers_and_what_is_not_stated_does_not_count():
    confidence = np.array([0.1, np.nan, 0.9, 0.2, 0.8])
    found = reliability(confidence, [False, True, True, False, True], bins=2)
    assert found == [
        {"confidence": pytest.approx(0.15), "share": 0.0, "count": 2},
        {"confidence": pytest.approx(0.85), "share": 1.0, "count": 2},
    ]
    assert calibration_error([np.nan, np.nan], [True, False]) is None
    assert reliability([], []) == []


def test_marks_are_compared_with_poses_that_are_far_off():
    found = marks([True, False, False, True], [0.1, 9.0, 0.2, 0.3], [0.1, 0.1, 0.1, 8.0])
    assert found == {"far": 0.5, "marked": 0.5, "caught": 0.5, "lost": 0.5, "count": 4}
    assert marks([True, True], [0.1, 0.2], [0.1, 0.1])["caught"] is None
    with pytest.raises(ValueError, match="at least one"):
        marks([], [], [])
