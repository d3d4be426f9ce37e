"""Released checkpoints, which are loaded by their names alone."""

import numpy as np
import pytest
import torch

import veriserum_hf as vs
from tests.jobs.processes import run_here
from tests.modeling.frames import batch, model, without_labels
from veriserum_hf.errors import TrainingError
from veriserum_hf.inference import load_model, weights_sha256
from veriserum_hf.modeling import released_veriserum
from veriserum_hf.modeling.released_veriserum import released


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of two released checkpoints, and something else."""
    for name, changed in (("tiny-pose", {}), ("tiny-pose-fs", {"planes": ["fs"]})):
        model(**changed).save_pretrained(tmp_path / "checkpoints" / name)
    (tmp_path / "checkpoints" / "notes").mkdir()
    monkeypatch.setattr(released_veriserum, "_FOLDERS", (tmp_path / "checkpoints", tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "checkpoints"


def test_a_name_loads_its_folder(folder):
    assert released() == {name: folder / name for name in ("tiny-pose", "tiny-pose-fs")}
    inputs = without_labels(batch(2))
    with torch.inference_mode():
        expected = model().eval()(**inputs).T_world_implant
        for loaded in (vs.VeriserumPoseModel.from_pretrained("tiny-pose"), load_model("tiny-pose", "cpu")):
            np.testing.assert_allclose(loaded(**inputs).T_world_implant, expected, atol=1e-5)
    assert load_model("tiny-pose-fs", "cpu").config.planes == ["fs"]
    assert weights_sha256("tiny-pose") == weights_sha256(str(folder / "tiny-pose"))
    assert weights_sha256("tiny-pose") != weights_sha256("tiny-pose-fs")


def test_a_folder_of_the_users_own_takes_precedence(folder, tmp_path):
    model(planes=["bs"]).save_pretrained(tmp_path / "tiny-pose")
    assert load_model("tiny-pose", "cpu").config.planes == ["bs"]
    assert vs.VeriserumPoseModel.from_pretrained("tiny-pose").config.planes == ["bs"]


@pytest.mark.usefixtures("folder")
def test_for_an_unknown_name_those_that_there_are_are_listed(tmp_path):
    message = (
        "there is no folder and no released checkpoint tiny-poze; released are tiny-pose, tiny-pose-fs, and names on "
        "the hub are ORG/NAME"
    )
    with pytest.raises(OSError, match=f"^{message}$"):
        vs.VeriserumPoseModel.from_pretrained("tiny-poze")
    expected = (
        "cannot load the model tiny-poze: there is no such folder, and on the hub: names there are ORG/NAME. "
        "Expected the output folder of a training, a released checkpoint (tiny-pose, tiny-pose-fs), or a model on "
        "the hub"
    )
    with pytest.raises(TrainingError) as raised:
        load_model("tiny-poze", "cpu")
    assert str(raised.value) == expected
    ran = run_here("predict", "tiny-poze", "bs.png", "--archive", tmp_path)
    assert ran.returncode == 2


def test_those_of_this_repository_are_complete():
    for name, folder in released().items():
        assert (folder / "README.md").is_file(), name
        assert (folder / "model.safetensors").stat().st_size < 20_000_000, name
        load_model(name, "cpu")
