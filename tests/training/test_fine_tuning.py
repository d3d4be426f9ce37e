"""Runs that begin with the weights of another model."""

import yaml

from tests.training.runs import largest_difference, run, settings_file, weights
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.plan import Options
from veriserum_hf.modeling import VeriserumPoseModel


def test_a_run_begins_with_the_model_that_it_fine_tunes_and_has_its_shape(trained, dataset, tmp_path):
    config = settings_file(tmp_path / "settings.yaml", crop_size=96, hidden_size=16, crop_jitter_px=1.5)
    options = ("--config", config, "--dataset", dataset, "--max_train_steps", 1, "--learning_rate", 1e-9)
    run("train", *options, "--model", trained, "--output_dir", tmp_path / "tuned")
    before, after = weights(trained), weights(tmp_path / "tuned")
    moved = {name for name in before if "running" in name or "tracked" in name}  # means over a batch
    assert largest_difference(*({n: w for n, w in each.items() if n not in moved} for each in (before, after))) < 1e-6
    tuned = VeriserumPoseModel.from_pretrained(tmp_path / "tuned").config
    assert (tuned.crop_size, tuned.crop_jitter_px, tuned.image_size) == (64, 1.5, 128)
    written = yaml.safe_load((tmp_path / "tuned" / "training.yaml").read_text())
    assert (written["model"], written["crop_size"], written["backbone_config"]) == (str(trained), 64, None)


def test_images_of_another_size_are_fitted_to_that_of_the_model(trained, dataset, config, tmp_path):
    smaller = tmp_path / "dataset"
    convert_archive(dataset.parent / "archive", smaller, options=Options(size=96), workers=1)
    options = ("--config", config, "--dataset", smaller, "--max_train_steps", 1)
    run("train", *options, "--model", trained, "--output_dir", tmp_path / "tuned")
    assert VeriserumPoseModel.from_pretrained(tmp_path / "tuned").config.image_size == 128


def test_a_model_that_does_not_exist_or_fit_is_named(refused, trained, dataset, tmp_path):
    options = ("--dataset", dataset, "--max_train_steps", 1, "--output_dir", tmp_path / "run")
    assert "cannot load the model no-such-model: there is no such folder" in refused(
        *options, "--model", "no-such-model"
    )
    assert f"{trained} cannot be trained for the planes bs" in refused(*options, "--model", trained, "--planes", "bs")
    assert not (tmp_path / "run").exists()
