"""A model by ONNX Runtime: the poses of torch, an export that is kept, and clear errors."""

import sys

import pytest
import torch

from tests.modeling.frames import batch, model, without_labels
from tests.modeling.test_meshes import COMPONENTS, MESHES, model as mesh_model, points_of
from veriserum_hf.errors import TrainingError
from veriserum_hf.inference import onnx_graph, onnx_model
from veriserum_hf.inference.onnx_graph import MOST_OFF_DEG, MOST_OFF_MM
from veriserum_hf.inference.onnx_model import OnnxModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def made(folder, monkeypatch):
    """A tiny model, whose graphs are kept in a folder of the tests."""
    monkeypatch.setattr(onnx_model, "cached_assets_path", lambda *_: folder)
    return model(plane_dropout=0.1).eval()


def exports(monkeypatch):
    """How often a model was exported from now on."""
    exported, done = torch.onnx.export, []

    def export(*values, **options):
        done.append(values)
        return exported(*values, **options)

    monkeypatch.setattr(torch.onnx, "export", export)
    return done


def refuse_to_export(monkeypatch):
    def refuse(*_, **__):
        raise torch.onnx.OnnxExporterError("no such operator\n\nFailed to decompose aten::odd")

    monkeypatch.setattr(torch.onnx, "export", refuse)


def test_poses_are_those_of_torch_for_any_number_of_frames_and_the_export_is_kept(made, folder, monkeypatch):
    exported = exports(monkeypatch)
    by_onnx = OnnxModel(made)
    assert by_onnx.config is made.config and by_onnx.device == made.device
    for frames in (1, 5):  # exported for one frame
        inputs = without_labels(batch(frames, seed=frames))
        found = by_onnx(**inputs)
        with torch.inference_mode():
            expected = made(**inputs)
        assert found.T_world_implant.dtype == torch.float64
        assert (found.T_world_implant - expected.T_world_implant).abs().max() < min(MOST_OFF_MM, MOST_OFF_DEG) / 10
        assert torch.allclose(found.confidence, expected.confidence, atol=1e-5)
        assert torch.equal(found.anatomy_id, expected.anatomy_id)
    assert len(exported) == 1
    (graph,) = folder.iterdir()
    # Another process finds the graph by its content; other weights need another one, a damaged graph is made again.
    refuse_to_export(monkeypatch)
    OnnxModel(made)(**inputs)
    with torch.no_grad():
        made.narrow.bias += 1
    with pytest.raises(TrainingError, match="cannot be exported"):
        OnnxModel(made)(**inputs)
    with torch.no_grad():
        made.narrow.bias -= 1
    whole = graph.read_bytes()
    graph.write_bytes(whole[:1000])
    with pytest.raises(TrainingError, match="cannot be exported"):
        OnnxModel(made)(**inputs)
    graph.write_bytes(whole)


def test_an_implant_that_the_model_does_not_know_is_refused_as_by_torch(made):
    by_onnx, inputs = OnnxModel(made), without_labels(batch(2))
    by_onnx(**inputs)
    inputs["anatomy_id"][1, 0] = 5
    with pytest.raises(ValueError, match="this model knows femur 3, tibia 7, tibia 9, got anatomy_id of femur 5"):
        by_onnx(**inputs)


def test_poses_that_differ_are_refused(made, monkeypatch):
    monkeypatch.setattr(onnx_graph, "MOST_OFF_MM", -1.0)
    with pytest.raises(TrainingError, match=r"^poses by ONNX Runtime are off by .* Predict with the engine torch$"):
        OnnxModel(made)(**without_labels(batch(2)))


def test_a_backbone_that_cannot_be_exported_is_named(made, folder, monkeypatch):
    refuse_to_export(monkeypatch)
    message = (
        "^a model with the backbone resnet cannot be exported to ONNX: Failed to decompose aten::odd. Predict with "
        "the engine torch$"
    )
    one_plane = {name: value for name, value in without_labels(batch(2)).items() if not name.endswith("fs")}
    before = set(folder.iterdir())
    with pytest.raises(TrainingError, match=message):
        OnnxModel(made)(**one_plane)
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_the_error_names_what_has_to_be_installed(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TrainingError, match=rf'^the engine onnx needs {package}: pip install "veriserum-hf\[onnx\]"'):
        OnnxModel(model())


def test_trust_is_that_of_torch_too(made):
    made.config.trust = {
        **{"means": [0.0] * 3, "deviations": [1.0] * 3, "confidence": [0.5, -0.1, 0.2, 0.1]},
        **{"doubt": [-0.5, 0.1, 0.0, 0.3], "limit": 0.5, "low": [-0.9, -9.0, -9.0], "high": [0.9, 9.0, 9.0]},
    }
    inputs = without_labels(batch(3))
    found = OnnxModel(made)(**inputs)
    with torch.inference_mode():
        expected = made(**inputs)
    assert torch.allclose(found.confidence.double(), expected.confidence, atol=1e-5)
    assert torch.allclose(found.doubt.double(), expected.doubt, atol=1e-5)
    assert torch.equal(found.trusted, expected.trusted)
    assert torch.equal(found.anatomy_id, expected.anatomy_id)


def test_a_model_that_is_given_meshes_has_the_poses_of_torch(folder, monkeypatch):
    monkeypatch.setattr(onnx_model, "cached_assets_path", lambda *_: folder)
    given = mesh_model(plane_dropout=0.1, refinements=1)
    given.set_meshes(MESHES, COMPONENTS)
    for frames in (1, 3):
        inputs = without_labels(batch(frames))
        found = OnnxModel(given)(**inputs)
        with torch.inference_mode():
            expected = given(**inputs)
        assert (found.T_world_implant - expected.T_world_implant).abs().max() < MOST_OFF_MM / 10
        by_points = OnnxModel(given)(**inputs, implant_points=points_of(inputs))
        assert (by_points.T_world_implant - expected.T_world_implant).abs().max() < MOST_OFF_MM / 10
