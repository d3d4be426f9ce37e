"""Samples of the data set, map-style and streaming: decoded or of a cache, and augmented."""

from collections.abc import Callable, Iterator
from typing import Protocol

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from torch.utils.data import Dataset, IterableDataset

from veriserum_hf.core import FileRow
from veriserum_hf.dataset import decoded, files_of
from veriserum_hf.errors import FrameError, TrainingError
from veriserum_hf.training.batches import Sample, sample_of

Augment = Callable[[Sample, np.random.Generator], Sample]


class Samples(Protocol):
    """Samples by index."""

    def __getitem__(self, index: int) -> Sample:
        """Return one of them."""


def _shared_epoch() -> torch.Tensor:
    """Epoch 0, in shared memory: a loader's worker processes outlive an epoch and have to see the next one."""
    epoch = torch.zeros((), dtype=torch.int64)
    epoch.share_memory_()
    return epoch


class FrameSamples(Dataset[Sample]):
    """Samples of a data set with random access.

    Parameters
    ----------
    rows : of ``load_dataset``.
    augment : changes a sample by the random numbers it is given: those of this seed, epoch and measurement, so that
        neither the order of frames nor the number of workers nor an interruption changes anything.
    seed : of the augmentation.
    size : of the images, px, see `sample_of`.
    cache : the same samples by index, decoded before; they are decoded on demand if not given.

    """

    def __init__(
        self,
        rows: datasets.Dataset,
        augment: Augment | None = None,
        seed: int = 0,
        size: int | None = None,
        cache: Samples | None = None,
    ) -> None:
        self.rows, self.augment, self.seed, self.size = files_of(rows), augment, seed, size
        self.cache = cache
        self._epoch = _shared_epoch()

    def set_epoch(self, epoch: int) -> None:
        """Draw other random numbers, in running worker processes too; between two passes over the data only."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        sample = _sample_of_files(self.rows[index], self.size) if self.cache is None else self.cache[index]
        return _augmented(sample, self.augment, self.seed, int(self._epoch))


class StreamedSamples(IterableDataset[Sample]):
    """Samples of a streamed data set: this process's share of it, in another order every epoch.

    Parameters
    ----------
    rows : of ``load_dataset(..., streaming=True)``.
    augment, seed, size : as of `FrameSamples`.
    rank, world_size : of this process.
    shuffle_buffer : rows to draw the next one from; 0 keeps the order.

    """

    def __init__(
        self,
        rows: datasets.IterableDataset,
        augment: Augment | None = None,
        seed: int = 0,
        *,
        size: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        shuffle_buffer: int = 0,
    ) -> None:
        rows = files_of(rows)
        if shuffle_buffer:
            rows = rows.shuffle(seed=seed, buffer_size=shuffle_buffer)
        self.rows = split_dataset_by_node(rows, rank, world_size)
        self.augment, self.seed, self.size, self._epoch = augment, seed, size, _shared_epoch()

    def set_epoch(self, epoch: int) -> None:
        """Draw another order and other random numbers, in running worker processes too; between two passes only."""
        self._epoch.fill_(epoch)
        self.rows.set_epoch(epoch)  # datasets shares it with worker processes itself

    def __iter__(self) -> Iterator[Sample]:
        for row in self.rows:
            yield _augmented(_sample_of_files(row, self.size), self.augment, self.seed, int(self._epoch))


def _sample_of_files(row: FileRow, size: int | None) -> Sample:
    try:
        return sample_of(decoded(row), size)
    except FrameError as error:
        raise TrainingError(f"measurement {row['measurement_id']} cannot be used: {error}") from error


def _augmented(sample: Sample, augment: Augment | None, seed: int, epoch: int) -> Sample:
    if augment is None:
        return sample
    return augment(sample, np.random.default_rng((seed, epoch, int(sample["measurement_id"]))))
