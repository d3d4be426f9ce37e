"""A run that was killed and goes on ends with the weights of one that was not."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from datasets import load_dataset

from tests.training.conftest import STEPS
from tests.training.runs import ROOT, kill_when, largest_difference, run, settings_file, start, weights
from veriserum_hf.evaluation.inputs import load_model
from veriserum_hf.learning.batches import StreamedSamples, sample_of

LATEST = ("--resume_from_checkpoint", "latest")
STREAMED = ("--streaming", "--shuffle_buffer", 8)


def settings_of(config, dataset, steps=STEPS, every=5):
    """Six batches make an epoch of one process: five, ten and fifteen steps lie inside of one."""
    often = ("--max_train_steps", steps, "--checkpointing_steps", every, "--eval_steps", 8)
    return ("--config", config, "--dataset", dataset, *often)


def assert_same_end(one, other):
    """The averaged weights, best and last, those that were trained, and what was measured."""
    newest = sorted(path.name for path in (one / "checkpoints").iterdir())[-1]
    for folder in ("", "last", f"checkpoints/{newest}"):
        assert largest_difference(weights(one / folder), weights(other / folder)) < 1e-6
    best, again = (json.loads((run / "metrics.json").read_text())["validation"] for run in (one, other))
    assert best["step"] == again["step"]
    assert best["mtre_mm"]["median"] == pytest.approx(again["mtre_mm"]["median"], rel=1e-6)


def killed_and_resumed(settings, folder, checkpoint):
    """Train with two processes, and again with a kill in between."""
    run("train", *settings, "--output_dir", folder / "whole", processes=2)
    halves = (*settings, "--output_dir", folder / "halves")
    kill_when(folder / "halves/checkpoints" / checkpoint, start("train", *halves, processes=2))
    run("train", *halves, *LATEST, processes=2)
    assert_same_end(folder / "whole", folder / "halves")


def test_one_process(trained, config, dataset, tmp_path):
    settings = (*settings_of(config, dataset), "--output_dir", tmp_path)
    kill_when(tmp_path / "checkpoints/step_000010", start("train", *settings))
    assert not (tmp_path / "last").exists()
    _, errors = run("train", *settings, *LATEST)
    assert f"resuming from {tmp_path}/checkpoints/step_0000" in errors
    assert_same_end(trained, tmp_path)


@pytest.mark.slow
def test_two_processes(config, dataset, tmp_path):
    killed_and_resumed(settings_of(config, dataset, steps=8, every=5), tmp_path, "step_000005")


@pytest.mark.slow
def test_a_stream(config, dataset, tmp_path):
    """From the first batch of the second epoch on."""
    settings = (*settings_of(config, dataset, steps=8, every=7), *STREAMED)
    run("train", *settings, "--output_dir", tmp_path / "whole")
    checkpoint = tmp_path / "whole/checkpoints/step_000007"
    assert json.loads((checkpoint / "state.json").read_text())["positions"] == [[1, 1]]
    run("train", *settings, "--output_dir", tmp_path / "half", "--resume_from_checkpoint", checkpoint)
    assert largest_difference(weights(tmp_path / "whole/last"), weights(tmp_path / "half/last")) < 1e-6


@pytest.mark.slow
def test_two_processes_with_a_stream(config, dataset, tmp_path):
    """Three batches make an epoch."""
    killed_and_resumed((*settings_of(config, dataset, steps=5, every=4), *STREAMED), tmp_path, "step_000004")


@pytest.mark.slow
def test_frames_that_are_rendered_on_the_fly(tmp_path):
    config = settings_file(tmp_path / "config.yaml", augmentation=None)
    rendered = ("--data", "simulated:on-the-fly", "--size", 128, "--pairs", 2, "--batch_size", 2)
    settings = ("--config", config, *rendered, "--max_train_steps", 4, "--checkpointing_steps", 2)
    run("train", *settings, "--output_dir", tmp_path / "whole")
    checkpoint = tmp_path / "whole/checkpoints/step_000002"
    run("train", *settings, "--output_dir", tmp_path / "half", "--resume_from_checkpoint", checkpoint)
    assert largest_difference(weights(tmp_path / "whole/last"), weights(tmp_path / "half/last")) < 1e-6
    model = load_model(str(tmp_path / "half"))
    assert model.config.image_size == 128 and len(model.config.anatomies) == 3
    assert json.loads((tmp_path / "half/metrics.json").read_text())["validation"] is None


@pytest.mark.slow
def test_batches_that_are_gathered_over_the_end_of_an_epoch(config, dataset, tmp_path):
    """Four steps of four batches, six of which make an epoch: the second begins in one and ends in another."""
    gathered = ("--gradient_accumulation_steps", 4, "--max_train_steps", 4, "--checkpointing_steps", 1)
    settings = ("--config", config, "--dataset", dataset, *gathered)
    run("train", *settings, "--output_dir", tmp_path / "whole")
    checkpoint = tmp_path / "whole/checkpoints/step_000002"
    assert json.loads((checkpoint / "state.json").read_text())["positions"] == [[1, 2]]
    run("train", *settings, "--output_dir", tmp_path / "half", "--resume_from_checkpoint", checkpoint)
    assert largest_difference(weights(tmp_path / "whole/last"), weights(tmp_path / "half/last")) < 1e-6


def test_a_checkpoint_that_is_half_written_is_not_taken(trained, config, dataset, tmp_path):
    """Such as a process leaves that was killed while it wrote."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "step_000005").symlink_to(trained / "checkpoints/step_000005")
    (folder / "step_000010.partial").mkdir()
    _, errors = run("train", *settings_of(config, dataset), "--output_dir", tmp_path, *LATEST)
    assert f"resuming from {folder}/step_000005, step 5" in errors
    assert_same_end(trained, tmp_path)


def test_another_configuration_is_refused(trained, config, dataset, refused):
    settings = (*settings_of(config, dataset), "--output_dir", trained, *LATEST)
    errors = refused(*settings, "--learning_rate", 0.5, "--batch_size", 4, "--max_train_steps", 99)
    assert (
        "step_000015 is a checkpoint of another configuration: batch_size was 8 and is 4 now; learning_rate was "
        "0.001 and is 0.5 now; steps was 16 and is 99 now; batches_per_epoch was 6 and is 12 now. Resume with the "
        "same settings, or start anew in another --output_dir" in errors
    )


def test_a_new_run_does_not_mix_with_an_old_one(trained, config, dataset, refused):
    errors = refused(*settings_of(config, dataset), "--output_dir", trained)
    assert f"{trained} holds checkpoints of a run already: go on with it with --resume_from_checkpoint" in errors


def test_a_new_run_does_not_take_the_folder_of_a_model(trained, config, dataset, tmp_path, refused):
    """What was measured of that one would be told of this one."""
    shutil.copy(trained / "model.safetensors", tmp_path)
    errors = refused(*settings_of(config, dataset), "--output_dir", tmp_path)
    assert f"{tmp_path} holds a model already, and what was measured of it: choose another --output_dir" in errors


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
    assert "is not finite at step " in errors and "or start anew with a lower --learning_rate" in errors


def test_two_shuffled_streams_share_the_frames(dataset):
    """With their own cameras and poses, whatever the size of the buffer and of the shards."""
    stored = {row["measurement_id"]: sample_of(row) for row in load_dataset(str(dataset), split="train")}
    stream = load_dataset(str(dataset), split="train", streaming=True)
    seen = []
    for rank in range(2):
        samples = list(StreamedSamples(stream, rank=rank, world_size=2, shuffle_buffer=8))
        for sample in samples:
            expected = stored[int(sample["measurement_id"])]
            assert torch.equal(sample["labels"], expected["labels"])
            for camera in ("camera_bs", "camera_fs"):
                assert all(torch.equal(sample[camera][name], value) for name, value in expected[camera].items())
        seen.append([int(sample["measurement_id"]) for sample in samples])
    assert len(seen[0]) == len(seen[1]) == 24 and sorted(seen[0] + seen[1]) == sorted(stored)
    assert seen[0] != sorted(seen[0])


def test_two_processes_see_every_frame_of_an_epoch_once(dataset, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [*launch, "-m", "tests.training.epochs", str(dataset), str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        check=True,
    )
    one, other = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    everyone = sorted(load_dataset(str(dataset), split="train")["measurement_id"])
    for epoch in range(2):
        assert sorted([*one[epoch], *other[epoch]]) == everyone
    assert not np.array_equal(one[0], one[1])
