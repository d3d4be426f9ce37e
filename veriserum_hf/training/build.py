"""Model and data of a run, from its settings."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import skip_first_batches
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader
from transformers import AutoConfig

from veriserum_hf.dataset import load_split
from veriserum_hf.errors import TrainingError
from veriserum_hf.modeling import VeriserumPoseConfig, VeriserumPoseModel, load_backbone
from veriserum_hf.simulation import IMPLANT_PAIRS, IMPLANTS, implant_mesh
from veriserum_hf.training.augment import Augmentation, augment
from veriserum_hf.training.batches import Augment, FrameSamples, Sample, StreamedSamples, collate, sample_of
from veriserum_hf.training.on_the_fly import SimulatedBatches
from veriserum_hf.training.settings import ON_THE_FLY, DataSettings, ModelSettings, OptimizationSettings

Anatomies = list[dict[str, Any]]  # rows of the configuration ``anatomies``


def load_anatomies(data: DataSettings) -> Anatomies:
    """Implants that training frames show: ``anatomy_id``, ``component`` and ``mesh`` each."""
    if data.data != ON_THE_FLY:
        rows = load_split(str(data.dataset), "anatomies", "train")
        return [{name: row[name] for name in ("anatomy_id", "component", "mesh")} for row in rows]
    ids = sorted({id for pair in IMPLANT_PAIRS[: data.pairs] for id in pair})
    return [{"anatomy_id": id, "component": IMPLANTS[id].component, "mesh": implant_mesh(id)} for id in ids]


def make_model(
    settings: ModelSettings, anatomies: Anatomies, image_size: int, *, gradient_checkpointing: bool = False
) -> VeriserumPoseModel:
    """Make a model with a pretrained backbone, or with random weights.

    Raises
    ------
    TrainingError
        If there is no such backbone, or a setting is impossible.

    """
    try:
        if settings.backbone is not None:
            backbone = load_backbone(settings.backbone, len(settings.planes) if settings.head == "pooled" else 1)
            backbone_config = backbone.config
        else:
            fields = dict(settings.backbone_config)  # type: ignore[arg-type] # JSON was read by the settings
            backbone, backbone_config = None, AutoConfig.for_model(fields.pop("model_type", ""), **fields)
        config = VeriserumPoseConfig(
            backbone_config=backbone_config,
            anatomies=[{"id": row["anatomy_id"], "component": row["component"]} for row in anatomies],
            image_size=image_size,
            **settings.of_model(),
        )
        model = VeriserumPoseModel(config, backbone)
        if gradient_checkpointing:
            model.gradient_checkpointing_enable()
    except ValueError as error:
        raise TrainingError(f"cannot make the model: {error}") from error
    model.set_anatomies({row["anatomy_id"]: torch.tensor(row["mesh"].vertices) for row in anatomies})
    return model


class Batches(Protocol):
    """Training batches without end.

    Attributes
    ----------
    image_size : edge of the images, px.
    batches_per_epoch : of this process; None where there are no epochs, or they have no end that is known.
    position : epoch, and batches of it that were given out.

    """

    image_size: int
    batches_per_epoch: int | None
    position: tuple[int, int]

    def start_at(self, epoch: int, batches: int) -> Iterator[Sample]:
        """Yield batches from a position on, on this process's device."""


def training_batches(data: DataSettings, optimization: OptimizationSettings, accelerator: Accelerator) -> Batches:
    """Training batches of the data set, or rendered on the fly."""
    if data.data == ON_THE_FLY:
        return RenderedBatches(data, optimization, accelerator)
    rows = load_split(str(data.dataset), data.dataset_config_name, "train", streaming=data.streaming)
    return StoredBatches(rows, data, optimization, accelerator)


class StoredBatches:
    """Batches of a data set, in another order every epoch; see `Batches`.

    Each process gets its own share of every epoch.
    """

    def __init__(
        self, rows: Any, data: DataSettings, optimization: OptimizationSettings, accelerator: Accelerator
    ) -> None:
        change, size = _augment_with(data.augmentation), optimization.batch_size
        processes = accelerator.num_processes
        self.position = (0, 0)
        self.batches_per_epoch: int | None = None
        self.image_size = sample_of(next(iter(rows.take(1))))["image_bs"].shape[-1]
        self._device = accelerator.device
        self._samples: Any
        self._loader: Any
        if data.streaming:
            self._samples = StreamedSamples(
                rows,
                change,
                optimization.seed,
                rank=accelerator.process_index,
                world_size=processes,
                shuffle_buffer=data.shuffle_buffer,
            )
            self._loader = DataLoader(self._samples, size, collate_fn=collate, num_workers=data.num_workers)
            return
        if len(rows) < size * processes:
            raise TrainingError(
                f"the training split has {len(rows)} frames, fewer than batches of {size} for {processes} processes "
                "need: choose a smaller --batch_size, or convert more trials"
            )
        self._samples = FrameSamples(rows, change, optimization.seed)
        self._loader = accelerator.prepare(
            DataLoader(
                self._samples, size, shuffle=True, drop_last=True, collate_fn=collate, num_workers=data.num_workers
            )
        )
        self.batches_per_epoch = len(self._loader)

    def start_at(self, epoch: int, batches: int) -> Iterator[Sample]:
        """Yield batches from a position on, on this process's device."""
        while True:
            for part in (self._samples, self._loader):
                if hasattr(part, "set_epoch"):
                    part.set_epoch(epoch)
            for batch in skip_first_batches(self._loader, batches) if batches else self._loader:
                batches += 1
                self.position = (epoch, batches)
                yield send_to_device(batch, self._device)
            if not batches:
                raise TrainingError("this process has no frames: use fewer processes, or a data set of more shards")
            epoch, batches = epoch + 1, 0


class RenderedBatches:
    """Batches that are rendered on the device that trains; see `Batches`."""

    def __init__(self, data: DataSettings, optimization: OptimizationSettings, accelerator: Accelerator) -> None:
        self.position = (0, 0)
        self.batches_per_epoch: int | None = None
        self.image_size = data.size
        self._make = partial(
            SimulatedBatches,
            optimization.batch_size,
            size=data.size,
            pairs=data.pairs,
            seed=optimization.seed,
            device=accelerator.device,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
        )

    def start_at(self, epoch: int, batches: int) -> Iterator[Sample]:
        """Yield batches from a position on; there is one epoch without end."""
        for number, batch in enumerate(self._make(start=batches), start=batches + 1):
            self.position = (epoch, number)
            yield batch


def validation_loader(data: DataSettings, batch_size: int) -> DataLoader[Sample] | None:
    """The validation split in its order, all of it; None without a data set."""
    if data.dataset is None:
        return None
    rows = load_split(data.dataset, data.dataset_config_name, "validation")
    return DataLoader(FrameSamples(rows), batch_size, collate_fn=collate, num_workers=data.num_workers)


def model_inputs(batch: Sample) -> dict[str, Any]:
    """What of a batch a model's forward takes, labels included."""
    names = ("image_bs", "image_fs", "camera_bs", "camera_fs", "anatomy_id", "labels")
    return {name: batch[name] for name in names}


def _augment_with(strengths: Any) -> Augment | None:
    if strengths is None:
        return None
    try:
        augmentation = Augmentation(**strengths)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"augmentation: {error}") from error
    return partial(_augmented, augmentation)


def _augmented(augmentation: Augmentation, sample: Sample, rng: np.random.Generator) -> Sample:
    return augment(sample, augmentation, rng)
