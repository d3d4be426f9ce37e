"""``refine=True``: the pipeline's poses after registration."""

import json

import numpy as np
import pytest
import torch
from transformers import pipeline

from tests.modeling.frames import config
from tests.registration.scenes import error, starts, transform
from veriserum_hf.errors import RegistrationError
from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseModel
from veriserum_hf.registration.refine import register

SIZE = 256
PREDICTED = ["component", "anatomy_id", "translation_mm", "quaternion_xyzw", "confidence", "trusted"]
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


def test_poses_of_an_untrained_model_never_converge(estimator, small_rows, coarse_meshes):
    plain = estimator(small_rows[0])
    refined = estimator(small_rows[0], refine=True, meshes=coarse_meshes)
    assert [list(entry) for entry in plain] == [PREDICTED, PREDICTED]
    assert [list(entry) for entry in refined] == [PREDICTED + REFINED] * 2
    for entry, before in zip(refined, plain, strict=True):
        assert entry["verdict"] in ("failed", "ambiguous") and entry["detail"]
        if entry["verdict"] == "failed":
            assert entry["covariance"] is None
            np.testing.assert_allclose(transform(entry), transform(before), atol=1e-4)
    assert "failed" in [entry["verdict"] for entry in refined]
    assert json.loads(json.dumps(refined)) == refined


def outputs_at(row, start):
    """Outputs of a model that predicts these poses, for postprocessing."""
    return {
        "frame": row,
        "T_world_implant": torch.tensor(np.array([[transform(pose) for pose in start.values()]])),
        "anatomy_id": torch.tensor([[pose["anatomy_id"] for pose in start.values()]]),
        "confidence": torch.tensor([[0.9, float("nan")]]),
    }


def test_a_batch_gives_the_same_poses_as_single_frames(estimator, small_rows):
    assert len(small_rows) == 3  # so that the last batch has one frame only
    for one, other in zip(estimator(small_rows, batch_size=2), [estimator(row) for row in small_rows], strict=True):
        for entry, alone in zip(one, other, strict=True):
            assert entry["anatomy_id"] == alone["anatomy_id"]
            np.testing.assert_allclose(transform(entry), transform(alone), atol=1e-2)


def test_each_frame_of_a_batch_is_refined_in_its_own_images(estimator, small_rows, meshes):
    """Empty images take no time, and their message names the measurement."""
    dark = [row | {"image_fs": np.zeros((SIZE, SIZE), np.uint8)} for row in small_rows]
    for row, entries in zip(small_rows, estimator(dark, batch_size=2, refine=True, meshes=meshes), strict=True):
        message = f"measurement {row['measurement_id']}, plane fs: the image shows nothing: every pixel is the same"
        assert [entry["detail"] for entry in entries] == [message, message]


def test_an_implant_that_no_camera_sees_at_its_pose_has_failed_and_the_other_is_refined(
    estimator, small_rows, meshes
):
    start = starts(small_rows[0], meshes, 5, 5)
    id = start["tibia"]["anatomy_id"]
    where = [0.0, 900.0, 380.0]
    outputs = outputs_at(small_rows[0], start | {"tibia": start["tibia"] | {"translation_mm": where}})
    femur, tibia = estimator.postprocess(outputs, refine=True, meshes=meshes)
    assert femur["verdict"] != "failed" and femur["covariance"] is not None
    assert tibia["detail"] == (
        f"measurement 1: tibia {id} is outside the field of bs and of fs at its initial pose, expected it to be "
        "visible; is the pose in mm and in the world frame?"
    )
    assert (tibia["verdict"], tibia["score"], tibia["covariance"]) == ("failed", 0.0, None)
    np.testing.assert_allclose(tibia["translation_mm"], where)
    assert json.loads(json.dumps([femur, tibia])) == [femur, tibia]


def test_refined_poses_equal_those_of_register(estimator, small_rows, meshes):
    start = starts(small_rows[0], meshes, 5, 5)
    refined = estimator.postprocess(outputs_at(small_rows[0], start), refine=True, meshes=meshes)
    expected = register(small_rows[0], meshes, start)
    for entry, confidence in zip(refined, (0.9, None), strict=True):
        found = expected[entry["component"]]
        assert entry["verdict"] == found.verdict == "converged" and entry["detail"] == ""
        assert np.linalg.norm(error(found, small_rows[0])[:3]) < 0.1
        np.testing.assert_allclose(transform(entry), found.T_world_implant, atol=1e-3)
        np.testing.assert_allclose(np.diag(entry["covariance"]), np.diag(found.covariance), rtol=0.05)
        assert entry["score"] == pytest.approx(found.score, abs=1e-3)
        assert entry["confidence"] == (None if confidence is None else pytest.approx(confidence))
    assert json.loads(json.dumps(refined)) == refined


def test_meshes_are_needed_to_refine(estimator, small_rows):
    message = r"^refine=True needs meshes: the implants' closed meshes in mm, by anatomy id$"
    with pytest.raises(ValueError, match=message):
        estimator(small_rows[0], refine=True)


def test_meshes_that_cannot_be_used_are_refused_and_not_taken_for_failures(estimator, small_rows, meshes):
    outputs = outputs_at(small_rows[0], starts(small_rows[0], meshes, 5, 5))
    metres = {id: mesh.copy().apply_scale(1e-3) for id, mesh in meshes.items()}
    with pytest.raises(
        RegistrationError, match=r"^implant \d: the mesh is .* Is it in another unit, such as metres\?"
    ):
        estimator.postprocess(outputs, refine=True, meshes=metres)
    with pytest.raises(RegistrationError, match=r"^measurement 1: there is no mesh of femur \d, only of \[\]$"):
        estimator.postprocess(outputs, refine=True, meshes={})
