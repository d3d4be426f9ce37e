"""How far poses can be trusted: fitted weights, and a training that ends with them."""

import json

import numpy as np
import pytest
import torch
from scipy.special import expit

from tests.modeling.frames import batch, model as table_model, without_labels
from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation.stated_confidence import calibration_error, marks
from veriserum_hf.modeling import VeriserumPoseConfig, VeriserumPoseModel, trusted
from veriserum_hf.training.trust import find, fit_trust, run_trust


def drawn(count=4000, seed=0):
    """Poses whose errors grow with one sign, of which the confidence knows less than it says."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal(count)
    signs = np.column_stack([-3 * hidden + 2 + rng.standard_normal(count), hidden, rng.standard_normal(count)])
    rig = np.column_stack([rng.uniform(60, 120, count), rng.uniform(-1, 0, count), rng.uniform(0, 1, count)])
    error = np.exp(hidden + 0.3 * rng.standard_normal(count))
    return {
        "signs": np.hstack([signs, rig]),
        "translation_mm": 1.5 * error,
        "rotation_deg": error,
        "confidence": expit(signs[:, 0]),
    }


def test_fitted_probabilities_hold_in_other_frames_and_catch_poses_that_are_far_off():
    trust, others = fit_trust(drawn()), drawn(seed=1)
    signs = torch.from_numpy(others["signs"])
    confidence, doubt, sure = trusted(trust, signs[:, :-3], signs[:, -3:])
    good = (others["translation_mm"] < 2) & (others["rotation_deg"] < 2)
    far = (others["translation_mm"] > 5) | (others["rotation_deg"] > 5)
    assert calibration_error(confidence, good) < 0.03 < calibration_error(others["confidence"], good)
    assert calibration_error(doubt, far) < 0.03
    found = marks(sure, others["translation_mm"], others["rotation_deg"])
    assert found["caught"] > 0.93 and found["lost"] < 0.3


def test_a_rig_outside_of_what_was_fitted_is_marked():
    trust = fit_trust(drawn())
    signs = torch.tensor([[8.0, -2, 0]]).double().expand(3, -1)
    rigs = torch.tensor([[90.0, -0.5, 0.5], [30, -0.5, 0.5], [90, -0.5, 2.5]]).double()
    assert trusted(trust, signs, rigs)[2].tolist() == [True, False, False]


def test_a_checkpoint_keeps_its_trust(tmp_path):
    made, inputs = table_model(plane_dropout=0.0).eval(), batch(3)
    found = find(made, [inputs])
    assert found["signs"].shape == (6, 6) and np.isfinite(found["signs"]).all()
    made.config.trust = fit_trust(found)
    made.save_pretrained(tmp_path)
    loaded = VeriserumPoseModel.from_pretrained(tmp_path)
    with torch.inference_mode():
        output, expected = loaded(**without_labels(inputs)), made(**without_labels(inputs))
    assert torch.equal(output.confidence, expected.confidence)
    assert torch.equal(output.doubt, expected.doubt)
    assert output.trusted.shape == (3, 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"means": [0.0]}, "means must be 3 finite"),
        ({"deviations": [1.0, 0.0, 1.0]}, "above 0"),
        ({"x": 1}, "fields"),
    ],
)
def test_a_trust_that_cannot_be_used_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        VeriserumPoseConfig(trust=fit_trust(drawn(100)) | changed)


def test_a_run_without_worlds_has_nothing_to_fit(tmp_path):
    (tmp_path / "training.yaml").write_text(json.dumps({"worlds": None}))
    with pytest.raises(TrainingError, match="not trained on randomised worlds"):
        run_trust(tmp_path, 40, 0)
