"""A trained model is loaded the same way wherever it is used."""

import pytest
import torch
from transformers.utils import logging

from tests.modeling.frames import model
from veriserum_hf.errors import TrainingError
from veriserum_hf.inference.models import load_model, weights_sha256


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model().save_pretrained(folder)
    return folder


def test_it_is_ready_for_use_and_has_the_weights_that_were_saved(run_folder):
    loaded = load_model(str(run_folder))
    assert not any(module.training for module in loaded.modules())
    assert loaded.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    expected = model().state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor.cpu(), expected[name]) for name, tensor in loaded.state_dict().items())


def test_it_is_put_on_the_device_that_is_asked_for(run_folder):
    loaded = load_model(str(run_folder), "meta")
    assert {tensor.device.type for tensor in (*loaded.parameters(), *loaded.buffers())} == {"meta"}


@pytest.mark.parametrize("shown", [True, False])
def test_no_bar_is_shown_and_the_setting_stays_as_it_was(run_folder, capfd, shown):
    before = logging.is_progress_bar_enabled()
    try:
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
        load_model(str(run_folder))
        with pytest.raises(TrainingError, match="cannot load the model"):
            load_model(str(run_folder / "nowhere"))
        assert logging.is_progress_bar_enabled() == shown
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()
    assert capfd.readouterr() == ("", "")


def test_weights_are_known_by_their_content(run_folder, tmp_path):
    model().save_pretrained(tmp_path / "same")
    changed = model()
    changed.center_implant_mm += 1
    changed.save_pretrained(tmp_path / "changed")
    names = (run_folder, tmp_path / "same", tmp_path / "changed")
    first, same, other = (weights_sha256(str(name)) for name in names)
    assert first == same != other and len(first) == 64
    assert weights_sha256(str(tmp_path)) is None
