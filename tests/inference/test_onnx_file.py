"""``veriserum export-onnx``: a file that ONNX Runtime alone reads, and that gives the poses of torch."""

import json
import sys

import onnxruntime
import pytest
import torch

from tests.jobs.processes import run_here
from tests.modeling.frames import ANATOMIES, SIZE, batch, config, model, without_labels
from veriserum_hf.inference import onnx_graph
from veriserum_hf.modeling import VeriserumPoseModel


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model(plane_dropout=0.1).save_pretrained(folder)
    return folder


def test_the_file_gives_the_poses_of_torch_and_states_what_it_takes(run, tmp_path):
    ran = run_here("export-onnx", run, tmp_path / "pose.onnx", "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["inputs"]["image_bs"] == f"uint8 (frames, 1, {SIZE}, {SIZE})"
    assert document["inputs"]["camera_fs_world_to_camera"] == "double (frames, 4, 4)"
    assert document["outputs"]["T_world_implant"] == "double (frames, 2, 4, 4)"
    assert document["outputs"]["found_anatomy_id"] == "int64 (frames, 2)"
    assert [path.name for path in tmp_path.iterdir()] == ["pose.onnx"]

    session = onnxruntime.InferenceSession(tmp_path / "pose.onnx", providers=["CPUExecutionProvider"])
    inputs = without_labels(batch(4, seed=7))
    given = {name: value.numpy() for name, value in onnx_graph.by_graph_name(inputs).items()}
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, given), strict=True))
    with torch.inference_mode():
        expected = model(plane_dropout=0.1).eval()(**inputs)
    assert abs(found["T_world_implant"] - expected.T_world_implant.numpy()).max() < 1e-4
    assert abs(found["center_px_fs"] - expected.center_px["fs"].numpy()).max() < 1e-3
    assert (found["found_anatomy_id"] == expected.anatomy_id.numpy()).all()
    stated = session.get_modelmeta().custom_metadata_map["veriserum_pose"]
    assert json.loads(stated)["anatomies"] == ANATOMIES


def test_a_model_of_one_plane_takes_that_plane_alone(tmp_path):
    model(planes=["fs"]).save_pretrained(tmp_path / "run")
    ran = run_here("export-onnx", tmp_path / "run", tmp_path / "pose.onnx", "--json")
    assert ran.returncode == 0, ran.stderr
    assert set(json.loads(ran.stdout)["inputs"]) == {
        "image_fs",
        "camera_fs_intrinsics",
        "camera_fs_world_to_camera",
        "anatomy_id",
    }


def test_a_model_that_is_given_meshes_takes_their_points(tmp_path):
    torch.manual_seed(0)
    made = VeriserumPoseModel(config(implants="mesh", anatomies=[], refinements=1)).eval()
    made.save_pretrained(tmp_path / "run")
    ran = run_here("export-onnx", tmp_path / "run", tmp_path / "pose.onnx", "--json")
    assert ran.returncode == 0, ran.stderr
    inputs = json.loads(ran.stdout)["inputs"]
    assert inputs["implant_points"] == "float (frames, 2, 256, 6)" and "anatomy_id" not in inputs


def test_what_goes_wrong_leaves_nothing_behind(run, tmp_path, monkeypatch):
    file = tmp_path / "pose.onnx"
    file.write_text("mine")
    there = run_here("export-onnx", run, file)
    assert (there.returncode, file.read_text()) == (2, "mine")
    assert there.stderr == f"error: {file} exists and was not changed; choose another file, or remove it\n"
    assert run_here("export-onnx", tmp_path, tmp_path / "new.onnx").returncode == 2
    monkeypatch.setattr(onnx_graph, "MOST_OFF_DEG", -1.0)
    differs = run_here("export-onnx", run, tmp_path / "new.onnx")
    assert differs.returncode == 2
    assert differs.stderr.startswith("error: poses by ONNX Runtime are off by ")
    assert differs.stderr.endswith("expected at most 0.01 mm and -1 degrees. Nothing was written\n")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert run_here("export-onnx", run, tmp_path / "new.onnx").stderr == (
        'error: export to ONNX needs onnxscript: pip install "veriserum-hf[onnx]". Nothing was written\n'
    )
    assert [path.name for path in tmp_path.iterdir()] == ["pose.onnx"]
