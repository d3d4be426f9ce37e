"""Two processes share the frames, print each message once, and resume where they were killed."""

import numpy as np
import pytest
import torch
from datasets import load_dataset

from tests.training.processes import Started
from tests.training.runs import (
    LATEST,
    STREAMED,
    assert_same_end,
    run,
    run_and_resume,
    run_as_users_do,
    train_and_kill,
)
from veriserum_hf.training.batches import sample_of
from veriserum_hf.training.samples import StreamedSamples


@pytest.fixture(scope="module")
def trained_by_two(tmp_path_factory, config, dataset):
    """Run folder of two processes that `torchrun` starts, their settings and what they wrote; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "by_two"
    often = ("--max_train_steps", 8, "--checkpointing_steps", 5, "--eval_steps", 4)
    settings = ("--config", config, "--dataset", dataset, *often)
    return folder, settings, run_as_users_do("train", *settings, "--output_dir", folder, processes=2)


def test_progress_is_on_standard_error_and_says_each_thing_once(trained_by_two):
    _, _, (output, errors) = trained_by_two
    assert output == ""
    assert errors.count("step 4: rotation_deg") == errors.count("step 8: rotation_deg") == 1
    assert "Writing model shards" not in errors and "Loading weights" not in errors
    assert errors.count("8/8") >= 1 and "nan" not in errors


@pytest.mark.slow
def test_two_processes_that_are_killed(trained_by_two, tmp_path):
    """Three batches make an epoch."""
    whole, settings, _ = trained_by_two
    folder = tmp_path / "run"
    train_and_kill(folder, "checkpoints/step_000005", *settings, processes=2)
    _, errors = run("train", *settings, "--output_dir", folder, *LATEST, processes=2)
    assert f"resuming from {folder}/checkpoints/step_000005, step 5\n" in errors
    assert_same_end(whole, folder)


@pytest.mark.slow
def test_two_processes_with_a_stream(config, dataset, tmp_path):
    """Three batches make an epoch."""
    settings = ("--config", config, "--dataset", dataset, *STREAMED, "--max_train_steps", 5)
    assert_same_end(*run_and_resume(tmp_path, *settings, step=4, positions=[[1, 1], [1, 1]], processes=2))


def test_two_shuffled_streams_share_the_frames(dataset):
    """With their own cameras and poses, whatever the size of the buffer and of the shards."""
    stored = {row["measurement_id"]: sample_of(row) for row in load_dataset(str(dataset), split="train")}
    stream = load_dataset(str(dataset), split="train", streaming=True)
    shares = [StreamedSamples(stream, rank=rank, world_size=2, shuffle_buffer=8) for rank in range(2)]
    samples = [list(share) for share in shares]
    for sample in samples[0] + samples[1]:
        expected = stored[int(sample["measurement_id"])]
        assert torch.equal(sample["labels"], expected["labels"])
        for camera in ("camera_bs", "camera_fs"):
            assert all(torch.equal(sample[camera][name], value) for name, value in expected[camera].items())
    seen = [[int(sample["measurement_id"]) for sample in share] for share in samples]
    assert len(seen[0]) == len(seen[1]) == 24 and sorted(seen[0] + seen[1]) == sorted(stored)
    assert seen[0] != sorted(seen[0])


def test_two_processes_see_every_frame_of_an_epoch_once(dataset, tmp_path):
    started = Started("tests/training/epochs.py", dataset, tmp_path, processes=2)
    assert started.end() == [0, 0], started.written("errors")
    one, other = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    everyone = sorted(load_dataset(str(dataset), split="train")["measurement_id"])
    for epoch in range(2):
        assert sorted([*one[epoch], *other[epoch]]) == everyone
    assert not np.array_equal(one[0], one[1])
