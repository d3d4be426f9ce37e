"""Batches are the same however they are loaded: by which process, and whichever it was before."""

import multiprocessing
from itertools import islice

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration

from veriserum_hf.training.loaders import batches_of, training_batches, validation_samples
from veriserum_hf.training.settings import DataSettings, OptimizationSettings

EPOCH = 6  # batches
WAYS = {
    "two processes": {"num_workers": 2},
    "one process that is far ahead": {"num_workers": 1, "prefetch_factor": 5},
}


def loaded(dataset, first=(0, 0), count=3 * EPOCH, **settings):
    """Batches from a position on, with every kind of augmentation."""
    sharing = DataLoaderConfiguration(use_seedable_sampler=True, data_seed=0)
    data = DataSettings(dataset=str(dataset), augmentation={}, **settings)
    batches = training_batches(
        data, OptimizationSettings(batch_size=8), Accelerator(cpu=True, dataloader_config=sharing)
    )
    return list(islice(batches.start_at(*first), count))


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one["measurement_id"], other["measurement_id"])
        for plane in ("bs", "fs"):
            assert torch.equal(one[f"image_{plane}"], other[f"image_{plane}"])
            assert torch.equal(one[f"camera_{plane}"]["intrinsics"], other[f"camera_{plane}"]["intrinsics"])


def by_measurement(batches):
    return {
        int(id): image
        for batch in batches
        for id, image in zip(batch["measurement_id"], batch["image_bs"], strict=True)
    }


@pytest.fixture(scope="module")
def in_this_process(dataset):
    """Three epochs of the data set, each augmented in another way."""
    batches = loaded(dataset, num_workers=0)
    first, second = (by_measurement(batches[start : start + EPOCH]) for start in (0, EPOCH))
    assert first.keys() == second.keys() and not any(torch.equal(first[id], second[id]) for id in first)
    return batches


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_processes_that_outlive_an_epoch_augment_the_next_one_anew(settings, dataset, in_this_process):
    assert_same(loaded(dataset, **settings), in_this_process)


def test_loading_goes_on_in_an_epoch(dataset, in_this_process):
    """The first epoch is of another loader than the ones that follow."""
    assert_same(loaded(dataset, (1, 2), 2 * EPOCH - 2, num_workers=1), in_this_process[EPOCH + 2 :])


def test_a_stream_by_a_process_that_outlives_an_epoch(dataset):
    streamed = {"streaming": True, "shuffle_buffer": 8, "num_workers": 1}
    batches = loaded(dataset, **streamed)
    assert_same(loaded(dataset, (2, 0), EPOCH, **streamed), batches[2 * EPOCH :])
    assert not torch.equal(batches[0]["measurement_id"], batches[EPOCH]["measurement_id"])


def test_validation_keeps_its_processes(dataset):
    """They would otherwise start again for every evaluation."""
    frames = validation_samples(DataSettings(dataset=str(dataset)))
    loader = batches_of(frames, 4, 1, torch.device("cpu"))
    before = set(multiprocessing.active_children())
    passes, processes = [], []
    for _ in range(2):
        passes.append(list(loader))
        processes.append(set(multiprocessing.active_children()) - before)
    assert_same(*passes)
    assert processes[0] == processes[1] and len(processes[0]) == 1
