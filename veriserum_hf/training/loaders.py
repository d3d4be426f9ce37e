"""Training and validation batches of a run, from its settings."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import skip_first_batches
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader

from veriserum_hf.dataset import TrainingTrials, no_trials, open_rows, training_trials
from veriserum_hf.errors import TrainingError
from veriserum_hf.training.augment import Augmentation, apply_changes, augment, draw_changes
from veriserum_hf.training.batches import Batch, Sample, collate, image_size_of
from veriserum_hf.training.cache import SampleCache, cached
from veriserum_hf.training.on_the_fly import SimulatedBatches
from veriserum_hf.training.reuse import reused
from veriserum_hf.training.samples import Augment, FrameSamples, StreamedSamples
from veriserum_hf.training.settings import ON_THE_FLY, DataSettings, Json, OptimizationSettings
from veriserum_hf.training.worlds import WorldBatches

Change = Callable[[Sample, Augmentation, np.random.Generator], Sample]


class Batches(Protocol):
    """Endless training batches.

    Attributes
    ----------
    image_size : edge of the images, px, to which all are fitted; else that of a data set's first frame.
    batches_per_epoch : of this process; None where there are no epochs, or they have no end that is known.
    position : epoch, and batches of it that were given out.

    """

    image_size: int
    batches_per_epoch: int | None
    position: tuple[int, int]

    def start_at(self, epoch: int, batches: int) -> Iterator[Batch]:
        """Yield batches from a position on, on this process's device."""


def training_batches(
    data: DataSettings, optimization: OptimizationSettings, accelerator: Accelerator, size: int | None = None
) -> Batches:
    """Training batches of the data set, or rendered on the fly, with images of a size, or of the data's own."""
    if data.data == ON_THE_FLY:
        return RenderedBatches(data, optimization, accelerator, size or data.size)
    dataset, config = str(data.dataset), data.dataset_config_name
    if data.streaming:
        streamed = open_rows(dataset, config, split="train", streaming=True)
        return StoredBatches(streamed.splits["train"].rows, data, optimization, accelerator, size)
    rows = open_rows(dataset, config, split="train").splits["train"].rows
    return StoredBatches(rows, data, optimization, accelerator, size)


class StoredBatches:
    """Batches of a data set, in another order every epoch; see `Batches`.

    Each process gets its own share of every epoch.

    Parameters
    ----------
    rows : training split, with random access or as a stream.
    data, optimization : settings of the run.
    accelerator : of this process.
    size : edge of the images, px; that of the first frame if None.

    Raises
    ------
    TrainingError
        If the split has fewer frames than a batch of every process, or the augmentation is invalid.

    """

    def __init__(
        self,
        rows: datasets.Dataset | datasets.IterableDataset,
        data: DataSettings,
        optimization: OptimizationSettings,
        accelerator: Accelerator,
        size: int | None = None,
    ) -> None:
        self._on_device = _changes_batches(accelerator.device)
        augmentation = _augment_with(data.augmentation, draw_changes if self._on_device else augment)
        self.position = (0, 0)
        self.batches_per_epoch: int | None = None
        self.image_size = size or image_size_of(next(iter(rows.take(1))))
        self._device = accelerator.device
        self._samples: StreamedSamples | FrameSamples
        load = partial(
            batches_of,
            batch_size=optimization.batch_size,
            num_workers=data.num_workers,
            device=accelerator.device,
            prefetch_factor=data.prefetch_factor,
        )
        if data.streaming:
            self._samples = StreamedSamples(
                rows,
                augmentation,
                optimization.seed,
                size=self.image_size,
                rank=accelerator.process_index,
                world_size=accelerator.num_processes,
                shuffle_buffer=data.shuffle_buffer,
            )
            self._loader = load(self._samples)
            return
        _check_size(len(rows), optimization.batch_size, accelerator.num_processes)
        cache = _cache_of(rows, self.image_size, data)
        self._samples = FrameSamples(rows, augmentation, optimization.seed, self.image_size, cache)
        self._loader = accelerator.prepare(load(self._samples, shuffle=True))
        self.batches_per_epoch = len(self._loader)

    def start_at(self, epoch: int, batches: int) -> Iterator[Batch]:
        """Yield batches from a position on, on this process's device."""
        while True:
            for part in (self._samples, self._loader):
                if hasattr(part, "set_epoch"):
                    part.set_epoch(epoch)
            for batch in skip_first_batches(self._loader, batches) if batches else self._loader:
                batches += 1
                self.position = (epoch, batches)
                there = send_to_device(batch, self._device, non_blocking=True)
                yield apply_changes(there) if self._on_device else there
            if not batches:
                raise TrainingError("this process has no frames: use fewer processes, or a data set of more shards")
            epoch, batches = epoch + 1, 0


class RenderedBatches:
    """Batches that are rendered on the device that trains; see `Batches`."""

    def __init__(
        self, data: DataSettings, optimization: OptimizationSettings, accelerator: Accelerator, size: int
    ) -> None:
        self.position = (0, 0)
        self.batches_per_epoch: int | None = None
        self.image_size = size
        ranges = data.world_ranges()
        make: Callable[..., Iterable[Batch]] = partial(SimulatedBatches, pairs=data.pairs)
        if ranges is not None:
            make = partial(WorldBatches, ranges=ranges, workers=data.num_workers, prefetched=data.prefetch_factor)
        self._make = partial(
            make,
            optimization.batch_size,
            size=size,
            seed=optimization.seed,
            device=accelerator.device,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
        )
        self._reused: Callable[..., Iterable[Batch]] | None = None
        if data.reuse > 1:
            seed = (optimization.seed, accelerator.process_index)
            self._reused = partial(reused, self._make, data.reuse, optimization.batch_size, seed)

    def start_at(self, epoch: int, batches: int) -> Iterator[Batch]:
        """Yield batches from a position on; there is one epoch without end."""
        source = self._make(start=batches) if self._reused is None else self._reused(start=batches)
        for number, batch in enumerate(source, start=batches + 1):
            self.position = (epoch, number)
            yield batch


def validation_samples(data: DataSettings, size: int | None = None) -> FrameSamples | None:
    """The validation split in its order, in a size; None without a data set, or with no trial in that split."""
    if data.dataset is None:
        return None
    frames = open_rows(data.dataset, data.dataset_config_name).splits.get("validation")
    if not frames:  # of small data sets, no trial may be there
        return None
    return FrameSamples(frames.rows, size=size, cache=_cache_of(frames.rows, size, data) if size else None)


def trials_trained_on(data: DataSettings) -> TrainingTrials | None:
    """Trials of the training split; None where they are unknown."""
    if data.data == ON_THE_FLY:
        return no_trials()
    dataset, config = str(data.dataset), data.dataset_config_name
    if data.streaming:
        return training_trials(dataset, config, None)
    return training_trials(dataset, config, open_rows(dataset, config, split="train").splits["train"])


def batches_of(
    samples: FrameSamples | StreamedSamples,
    batch_size: int,
    num_workers: int,
    device: torch.device,
    *,
    prefetch_factor: int = 2,
    shuffle: bool = False,
) -> DataLoader[Sample]:
    """Batches whose worker processes outlive an epoch, and that a GPU copies while it computes.

    Parameters
    ----------
    samples : to stack.
    batch_size : samples in a batch.
    num_workers : processes that load; 0 for this one.
    device : that the batches go to.
    prefetch_factor : batches that each worker process has ready in advance.
    shuffle : in another order every epoch, and without a last batch that is not full.

    """
    return DataLoader(
        samples,
        batch_size,
        shuffle=shuffle,
        drop_last=shuffle,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        prefetch_factor=prefetch_factor if num_workers else None,
        pin_memory=device.type == "cuda",
    )


def _cache_of(rows: datasets.Dataset, size: int, data: DataSettings) -> SampleCache | None:
    """The cache of a split, made by as many processes as will read it; None without one."""
    if data.cache is None:
        return None
    samples = FrameSamples(rows, size=size)
    one_by_one = DataLoader(samples, None, num_workers=data.num_workers)
    return cached(rows, size, Path(data.cache), one_by_one)


def _changes_batches(device: torch.device) -> bool:
    """Whether images are augmented on the device, to the same grey levels as by the processes that load them."""
    return device.type == "cuda"


def _check_size(frames: int, batch_size: int, processes: int) -> None:
    if frames < batch_size * processes:
        raise TrainingError(
            f"the training split has {frames} frames, fewer than batches of {batch_size} for {processes} processes "
            "need: choose a smaller --batch_size, or convert more trials"
        )


def _augment_with(strengths: Json | str | None, change: Change) -> Augment | None:
    if not isinstance(strengths, dict):  # None: the settings have read what was JSON
        return None
    try:
        augmentation = Augmentation(**strengths)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"augmentation: {error}") from error
    return partial(_augmented, change, augmentation)


def _augmented(change: Change, augmentation: Augmentation, sample: Sample, rng: np.random.Generator) -> Sample:
    return change(sample, augmentation, rng)
