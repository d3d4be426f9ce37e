"""A run that was killed and resumed ends with the weights of one that was not."""

import json
import shutil

import pytest
import yaml

from tests.training.conftest import STEPS
from tests.training.runs import (
    LATEST,
    STREAMED,
    assert_same_end,
    assert_same_weights,
    largest_difference,
    run,
    run_and_resume,
    settings_file,
    train_and_kill,
    weights,
)
from veriserum_hf.inference.models import load_model


def settings_of(config, dataset):
    """Six batches make an epoch of one process: five, ten and fifteen steps lie inside of one."""
    often = ("--max_train_steps", STEPS, "--checkpointing_steps", 5, "--eval_steps", 8)
    return ("--config", config, "--dataset", dataset, *often)


def test_one_process_that_is_killed(trained, config, dataset, tmp_path):
    folder, settings = tmp_path / "run", settings_of(config, dataset)
    train_and_kill(folder, "checkpoints/step_000010", *settings)
    _, errors = run("train", *settings, "--output_dir", folder, *LATEST)
    assert f"resuming from {folder}/checkpoints/step_0000" in errors
    assert_same_end(trained, folder)


@pytest.mark.slow
def test_a_stream(config, dataset, tmp_path):
    """From the first batch of the second epoch on."""
    settings = ("--config", config, "--dataset", dataset, *STREAMED, "--max_train_steps", 8)
    assert_same_end(*run_and_resume(tmp_path, *settings, step=7, positions=[[1, 1]]))


@pytest.mark.slow
@pytest.mark.parametrize(("reuse", "step"), [(1, 2), (2, 3)])
def test_frames_that_are_rendered_on_the_fly(reuse, step, tmp_path):
    """Also with frames that are learned from twice, from between the batches that are drawn for a rendered one."""
    config = settings_file(tmp_path / "config.yaml", augmentation=None)
    rendered = ("--data", "simulated:on-the-fly", "--size", 128, "--pairs", 2, "--batch_size", 2, "--reuse", reuse)
    settings = ("--config", config, *rendered, "--max_train_steps", step + 2)
    whole, half = run_and_resume(tmp_path, *settings, step=step, positions=[[0, step]])
    assert_same_weights(whole, half)
    model = load_model(str(half))
    assert model.config.image_size == 128 and len(model.config.anatomies) == 3
    assert json.loads((half / "metrics.json").read_text())["validation"] is None


@pytest.mark.slow
def test_batches_that_are_gathered_over_the_end_of_an_epoch(config, dataset, tmp_path):
    """Four steps of four batches, six of which make an epoch: the second begins in one and ends in another."""
    gathered = ("--gradient_accumulation_steps", 4, "--max_train_steps", 4)
    settings = ("--config", config, "--dataset", dataset, *gathered)
    assert_same_end(*run_and_resume(tmp_path, *settings, step=2, positions=[[1, 2]]))


def test_a_checkpoint_that_is_half_written_is_not_taken(trained, config, dataset, tmp_path):
    """Such as a process leaves that was killed while it wrote."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "step_000005").symlink_to(trained / "checkpoints/step_000005")
    (folder / ".step_000010.0a1b2c3d.partial").mkdir()
    _, errors = run("train", *settings_of(config, dataset), "--output_dir", tmp_path, *LATEST)
    assert f"resuming from {folder}/step_000005, step 5" in errors
    assert_same_end(trained, tmp_path)


def test_another_configuration_is_refused(trained, config, dataset, refused):
    settings = (*settings_of(config, dataset), "--output_dir", trained, *LATEST)
    errors = refused(*settings, "--learning_rate", 0.5, "--batch_size", 4, "--max_train_steps", 99)
    assert (
        "step_000015 is a checkpoint of another configuration: batch_size was 8 and is 4 now; learning_rate was "
        "0.001 and is 0.5 now; steps was 16 and is 99 now; batches_per_epoch was 6 and is 12 now. Resume with the "
        "same settings, or start a new run in another --output_dir" in errors
    )


def test_a_new_run_does_not_mix_with_an_old_one(trained, config, dataset, refused):
    errors = refused(*settings_of(config, dataset), "--output_dir", trained)
    assert f"{trained} holds checkpoints of a run already: resume it with --resume_from_checkpoint" in errors


def test_a_new_run_does_not_take_the_folder_of_a_model(trained, config, dataset, tmp_path, refused):
    """The other run's evaluation would be taken for this one's."""
    shutil.copy(trained / "model.safetensors", tmp_path)
    errors = refused(*settings_of(config, dataset), "--output_dir", tmp_path)
    assert f"{tmp_path} holds a model already, and its evaluation: choose another --output_dir" in errors


def test_a_run_that_goes_on_in_another_folder_has_a_model_of_its_own(trained, config, dataset, tmp_path):
    settings = (*settings_of(config, dataset), "--output_dir", tmp_path / "run")
    run("train", *settings, "--resume_from_checkpoint", trained / "checkpoints/step_000015")
    assert load_model(str(tmp_path / "run")).config.image_size == 128
    assert json.loads((tmp_path / "run/metrics.json").read_text())["validation"]["step"] == STEPS
    assert largest_difference(weights(tmp_path / "run"), weights(trained / "last")) < 1e-6
    # From the beginning: what it was resumed from may be gone.
    assert yaml.safe_load((tmp_path / "run/training.yaml").read_text())["resume_from_checkpoint"] is None


def test_another_data_set_is_refused(trained, config, dataset, tmp_path, refused):
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    record = json.loads((dataset / "conversion.json").read_text())
    fingerprint = record["archive"]["fingerprint"]
    record["archive"]["fingerprint"] = "of another"
    (other / "conversion.json").write_text(json.dumps(record))
    errors = refused(*settings_of(config, other), "--output_dir", trained, *LATEST)
    assert f"data_revision was 'archive {fingerprint}' and is 'archive of another' now" in errors


def test_epochs_are_counted_in_batches_whatever_a_step_gathers(trained, config, dataset, refused):
    """Two epochs of six batches, four a step, are three steps."""
    epochs = ("--num_train_epochs", 2, "--gradient_accumulation_steps", 4)
    errors = refused("--config", config, "--dataset", dataset, "--output_dir", trained, *LATEST, *epochs)
    assert "steps was 16 and is 3 now" in errors


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_checkpoint_is_named(damage, trained, config, dataset, tmp_path, refused):
    broken = tmp_path / "broken"
    shutil.copytree(trained / "checkpoints/step_000005", broken)
    weights_file = broken / "model.safetensors"
    if damage == "cut":
        weights_file.write_bytes(weights_file.read_bytes()[:-100])
    elif damage == "gone":
        weights_file.unlink()
    else:
        (broken / "state.json").write_text("{}")
    settings = (*settings_of(config, dataset), "--output_dir", tmp_path / "run")
    assert f"cannot resume from {broken}: " in refused(*settings, "--resume_from_checkpoint", broken)


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(config, dataset, tmp_path, refused):
    errors = refused(*settings_of(config, dataset), "--output_dir", tmp_path, *LATEST)
    assert f"{tmp_path} has no checkpoint to resume from; --checkpointing_steps N writes one every N steps" in errors


def test_a_loss_that_is_lost_stops_the_run_and_leaves_the_best(config, dataset, tmp_path):
    """With a learning rate without bounds; the schedule's first step is at zero."""
    at = ("--config", config, "--dataset", dataset, "--output_dir", tmp_path)
    without_bounds = ("--learning_rate", "1e30", "--max_train_steps", 16, "--checkpointing_steps", 1)
    _, errors = run("train", *at, *without_bounds, "--ema_decay", 0, "--eval_steps", 1, status=2)
    assert "error: " in errors and "Traceback" not in errors
    assert load_model(str(tmp_path)).config.image_size == 128
    assert all(bool(tensor.isfinite().all()) for tensor in weights(tmp_path).values())
    run("evaluate", "--model", tmp_path, "--dataset", dataset, "--json")
    first = tmp_path / "checkpoints/step_000001"
    changed = (*at[:-1], tmp_path / "again", *without_bounds, "--ema_decay", 0, "--resume_from_checkpoint", first)
    _, errors = run("train", *changed, status=2)
    assert "resuming from" in errors
    assert "is not finite at step " in errors and "or start a new run with a lower --learning_rate" in errors
