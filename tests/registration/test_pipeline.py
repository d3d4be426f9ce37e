"""``refine=True``: the pipeline's poses after registration."""

import json

import numpy as np
import pytest
import torch
from transformers import pipeline

from tests.modeling.frames import config
from tests.registration.scenes import error, starts, transform
from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseModel
from veriserum_hf.registration.refine import register

SIZE = 512
TOLD = ["component", "anatomy_id", "translation_mm", "quaternion_xyzw", "confidence"]
REFINED = ["covariance", "verdict", "score", "detail"]


@pytest.fixture(scope="module")
def estimator(meshes, tmp_path_factory):
    """Pipeline of a tiny model that has learned nothing."""
    torch.manual_seed(0)
    anatomies = [{"id": id, "component": "femur" if id < 3 else "tibia"} for id in sorted(meshes)]
    model = VeriserumPoseModel(config(anatomies=anatomies, image_size=SIZE))
    model.set_anatomies({id: torch.tensor(mesh.vertices) for id, mesh in meshes.items()})
    folder = tmp_path_factory.mktemp("run")
    model.save_pretrained(folder)
    VeriserumImageProcessor(size=SIZE).save_pretrained(folder)
    return pipeline("dual-plane-pose-estimation", model=str(folder))


def test_poses_of_a_model_that_has_learned_nothing_are_kept_and_called_failed(estimator, rows, meshes):
    plain = estimator(rows[0])
    refined = estimator(rows[0], refine=True, meshes=meshes)
    assert [list(entry) for entry in plain] == [TOLD, TOLD]
    assert [list(entry) for entry in refined] == [TOLD + REFINED] * 2
    for entry, before in zip(refined, plain, strict=True):
        assert entry["verdict"] == "failed" and entry["covariance"] is None and entry["detail"]
        np.testing.assert_allclose(transform(entry), transform(before), atol=1e-4)
    assert json.loads(json.dumps(refined)) == refined


def test_poses_that_are_near_enough_end_where_registration_ends(estimator, rows, meshes):
    start = starts(rows[0], meshes, 5, 5)
    outputs = {
        "frame": rows[0],
        "T_world_implant": torch.tensor(np.array([[transform(pose) for pose in start.values()]])),
        "anatomy_id": torch.tensor([[pose["anatomy_id"] for pose in start.values()]]),
        "confidence": torch.tensor([[0.9, float("nan")]]),
    }
    refined = estimator.postprocess(outputs, refine=True, meshes=meshes)
    expected = register(rows[0], meshes, start)
    for entry, confidence in zip(refined, (0.9, None), strict=True):
        found = expected[entry["component"]]
        assert entry["verdict"] == found.verdict == "converged" and entry["detail"] == ""
        assert np.linalg.norm(error(found, rows[0])[:3]) < 0.1
        np.testing.assert_allclose(transform(entry), found.T_world_implant, atol=1e-3)
        np.testing.assert_allclose(np.diag(entry["covariance"]), np.diag(found.covariance), rtol=0.05)
        assert entry["score"] == pytest.approx(found.score, abs=1e-3)
        assert entry["confidence"] == (None if confidence is None else pytest.approx(confidence))
    assert json.loads(json.dumps(refined)) == refined


def test_meshes_are_needed_to_refine(estimator, rows):
    said = r"^refine=True needs meshes: the implants' closed meshes in mm, by anatomy id$"
    with pytest.raises(ValueError, match=said):
        estimator(rows[0], refine=True)
