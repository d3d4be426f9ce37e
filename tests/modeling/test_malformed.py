"""Malformed checkpoints are refused with a reason, quickly, and what is loaded is the model that was saved."""

import re
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.modeling.frames import SIZE, batch, model, without_labels
from tests.modeling.malformed import mutations
from veriserum_hf.errors import TrainingError
from veriserum_hf.inference.models import load_model
from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseModel, load_backbone

# Of the many changes of single fields, one in so many is tried here.
_STRIDE = 29
_OF_TRAINING_OR_NAMES = ("dropout", "crop_jitter_px", ".id ")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    model().save_pretrained(folder)
    VeriserumImageProcessor(size=SIZE).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def changes(good):
    return dict(mutations(good))


@pytest.fixture
def copied(good, changes, tmp_path):
    """Copy the sound checkpoint, and change it by the name of the mutation."""

    def copy(name):
        folder = tmp_path / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good, folder)
        changes[name](folder)
        return folder

    return copy


def chosen(changes):
    every = list(changes)
    of_fields = every[: next(index for index, name in enumerate(every) if name == "700,000 anatomies")]
    return [*of_fields[::_STRIDE], *every[len(of_fields) :]]


def test_a_malformed_checkpoint_is_refused_or_is_the_same_model(good, changes, tmp_path):
    inputs = without_labels(batch(1))
    with torch.inference_mode():
        expected = load_model(str(good), "cpu")(**inputs)
    refused = 0
    folder = tmp_path / "run"
    for name in chosen(changes):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good, folder)
        changes[name](folder)
        start = time.perf_counter()
        try:
            loaded = load_model(str(folder), "cpu")
        except TrainingError as error:
            refused += 1
            assert len(str(error)) < 3000, name
        else:
            if not any(part in f"{name} " for part in _OF_TRAINING_OR_NAMES):
                with torch.inference_mode():
                    assert torch.equal(loaded(**inputs).T_world_implant, expected.T_world_implant), name
        assert time.perf_counter() - start < 20, name
    assert refused > 100


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crop_size missing", "config.json has no crop_size; expected all fields that save_pretrained writes"),
        ("crop_size fraction", "crop_size must be a whole number, got 1.5"),
        ("hidden_size huge", "hidden_size is 1000000000000000000, expected a number of at most 1,000,000"),
        ("700,000 anatomies", " bytes, expected at most 10,000,000"),
        ("twice the same anatomy", "anatomies must differ, got tibia 0 twice"),
        ("depths 1e6", "describes no model: ValueError: it has more than"),
        ("depths 5000", "describes no model: ValueError: it has more than"),
        ("widths 50000", "numbers, but model.safetensors holds"),
        ("another model", "is that of a model of type 'resnet', expected 'veriserum_pose'"),
        ("quantization_config dict", "has the field quantization_config, which no saved pose model has"),
        ("config.json a list", "holds [], expected the fields of a configuration"),
        ("config.json deep", "is not a valid JSON file"),
        ("config.json large", "has 11,000,002 bytes, expected at most 10,000,000"),
        ("preprocessor size zero", "has the size 0, config.json the image_size 64"),
        ("weights half", "is no whole safetensors file"),
        ("weights header of 2**63", "or cut off: it states a header of 9,223,372,036,854,775,808 bytes"),
        ("weights nan", "hold numbers that are not finite: "),
        ("weights another type", "whole numbers, expected"),
        ("weights another shape", "are not those of the configuration: mismatched"),
        ("only pytorch_model.bin", "a pickle, which may run any code when it is loaded. Where you trust it"),
        ("only model.safetensors.index.json", "are divided into several files, expected one model.safetensors"),
        ("only flax_model.msgpack", "has no model.safetensors, expected the weights that save_pretrained writes"),
    ],
)
def test_the_message_names_what_is_wrong(copied, name, message):
    folder = copied(name)
    with pytest.raises(TrainingError, match=re.escape(message)):
        load_model(str(folder), "cpu")
    if "preprocessor" not in name:
        with pytest.raises((ValueError, OSError), match=re.escape(message)):
            VeriserumPoseModel.from_pretrained(folder)


def test_an_option_does_not_load_a_pickle(good, tmp_path):
    torch.save(load_file(good / "model.safetensors"), tmp_path / "pytorch_model.bin")
    shutil.copy(good / "config.json", tmp_path)
    with pytest.raises(ValueError, match="a pickle, which may run any code"):
        VeriserumPoseModel.from_pretrained(tmp_path, use_safetensors=False)


def test_a_backbone_is_loaded_from_safetensors_alone(tmp_path):
    backbone = model().backbone.model
    backbone.save_pretrained(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"^no backbone .*safetensors"):
        load_backbone(str(tmp_path))


def test_a_name_that_is_a_path_is_not_looked_for_on_the_hub(tmp_path):
    for name in (str(tmp_path / "nowhere"), "./nowhere", "~/no/where", "nowhere"):
        with pytest.raises(TrainingError, match=r"there is no such folder, and on the hub: names there are ORG/NAME"):
            load_model(name)


def test_a_model_of_as_many_trials_as_the_download_has_is_loaded(good, tmp_path):
    saved = VeriserumPoseModel.from_pretrained(good)
    trials = {str(10**6 + id): "0123456789ab" for id in range(1600)}
    saved.config.training_data = {"dataset": "OUT", "config": "calibrated", "archive": None, "trials": trials}
    saved.save_pretrained(tmp_path)
    assert VeriserumPoseModel.from_pretrained(tmp_path).config.training_data["trials"] == trials


def test_a_password_in_the_address_of_the_hub_is_in_no_message(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("cannot connect to 'http://user:secret@127.0.0.1:9'")

    monkeypatch.setattr("veriserum_hf.modeling.modeling_veriserum.weights_file", refuse)
    model().save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"//\*\*\*@127") as raised:
        VeriserumPoseModel.from_pretrained(tmp_path)
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__
