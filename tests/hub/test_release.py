"""Released checkpoints: what a run becomes, and that its name loads it."""

import json

import pytest
import yaml

import veriserum_hf as vs
from tests.modeling.test_meshes import model
from veriserum_hf.errors import HubError
from veriserum_hf.hub.release import release
from veriserum_hf.inference import weights_sha256
from veriserum_hf.modeling import released_veriserum

SETTINGS = {"dataset": None, "dataset_config_name": "calibrated", "data": "simulated:on-the-fly", "worlds": {}}
RESULTS = "| what | measured |\n|---|---|\n| Randomised worlds: median | 1.20 deg, 0.60 mm |"


@pytest.fixture
def run(tmp_path):
    """Folder of a run on randomised worlds, with what was measured in other worlds."""
    folder = tmp_path / "RUN"
    model().save_pretrained(folder)
    (folder / "training.yaml").write_text(yaml.safe_dump(SETTINGS | {"output_dir": str(folder), "seed": 0}))
    (folder / "results.md").write_text(f"{RESULTS}\n")
    return folder


def test_a_run_becomes_a_checkpoint_that_its_name_loads(run, tmp_path, monkeypatch):
    made = release(run, "tiny-pose", tmp_path / "checkpoints")
    assert sorted(path.name for path in made.iterdir()) == [
        *("README.md", "config.json", "model.safetensors", "preprocessor_config.json", "results.md", "training.yaml"),
    ]
    assert not (made / "model.safetensors").is_symlink() and "auto_map" not in json.loads(
        (made / "config.json").read_text()
    )
    monkeypatch.setattr(released_veriserum, "_FOLDERS", (tmp_path / "checkpoints", tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    assert vs.VeriserumPoseModel.from_pretrained("tiny-pose").config.implants == "mesh"
    assert weights_sha256("tiny-pose") == weights_sha256(str(run))


def test_the_card_states_what_was_measured_and_how_it_is_loaded(run, tmp_path):
    card = (release(run, "tiny-pose", tmp_path) / "README.md").read_text()
    assert RESULTS in card and 'from_pretrained("tiny-pose")' in card
    assert "trust_remote_code" not in card and str(tmp_path) not in card
    assert "**Known implants**: any: it is given the mesh of each." in card


def test_the_card_says_what_trust_is_where_the_model_has_it(run, tmp_path):
    assert "`trusted`" not in (release(run, "without", tmp_path) / "README.md").read_text()
    of_signs = {"means": [0.0] * 6, "deviations": [1.0] * 6, "confidence": [0.0] * 7, "doubt": [0.0] * 7}
    trust = {**of_signs, "limit": 0.1, "low": [-9.0] * 3, "high": [9.0] * 3}
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"trust": trust}))
    assert (
        "`trusted` is false where the pose should not" in (release(run, "with", tmp_path) / "README.md").read_text()
    )


def test_what_is_there_is_not_changed(run, tmp_path):
    made = release(run, "tiny-pose", tmp_path)
    with pytest.raises(HubError, match="tiny-pose exists and was not changed; choose another name, or remove it"):
        release(run, "tiny-pose", tmp_path)
    with pytest.raises(HubError, match="'a/b' is no name of a released checkpoint: expected one without a folder"):
        release(run, "a/b", tmp_path)
    assert (made / "README.md").is_file()
