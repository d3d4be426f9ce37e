"""Rows of the data set as tensors, map-style and streaming."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from torch.utils.data import Dataset, IterableDataset, default_collate

from veriserum_hf.core import CAMERA_OF, COMPONENTS, IMAGE_OF, PLANES, FrameRow, PlaneName, PoseRow
from veriserum_hf.dataset import holds_images
from veriserum_hf.errors import CalibrationError, TrainingError
from veriserum_hf.geometry import FIELD_MM, Camera, make_transform, quaternion_to_matrix

Sample = dict[str, Any]


class Cameras(TypedDict):
    """Cameras of B frames, float64: ``intrinsics`` (B, 3, 3), px; ``world_to_camera`` (B, 4, 4), mm."""

    intrinsics: torch.Tensor
    world_to_camera: torch.Tensor


class Batch(TypedDict):
    """B dual-plane frames, stacked.

    Attributes
    ----------
    image_bs, image_fs : (B, 1, N, N) uint8.
    camera_bs, camera_fs : see `Cameras`.
    anatomy_id : (B, 2) int64 of femoral and tibial component, -1 where a frame has no pose of it.
    labels : (B, 2, 4, 4) float64 ``T_world_implant``, mm; NaN where a frame has none.
    measurement_id, trial_id : (B,) int64. task : B names.

    """

    image_bs: torch.Tensor
    image_fs: torch.Tensor
    camera_bs: Cameras
    camera_fs: Cameras
    anatomy_id: torch.Tensor
    labels: torch.Tensor
    measurement_id: torch.Tensor
    trial_id: torch.Tensor
    task: list[str]


Augment = Callable[[Sample, np.random.Generator], Sample]


def sample_of(row: FrameRow) -> Sample:
    """Convert a row of the configurations with corrected images into tensors.

    Returns
    -------
    image_bs, image_fs : (1, N, N) uint8; of 16-bit images the upper byte.
    camera_bs, camera_fs : ``intrinsics`` (3, 3) and ``world_to_camera`` (4, 4), float64.
    anatomy_id : (2,) int64 of femoral and tibial component, -1 where the row has no pose of it.
    labels : (2, 4, 4) float64 ``T_world_implant``, NaN where the row has none.
    measurement_id, trial_id : int64. task : str.

    Raises
    ------
    TrainingError
        If the row has no corrected images, or one of another size than its camera is for, or a camera contradicts
        itself.

    """
    if not holds_images(row.keys()):
        raise TrainingError(
            f"expected rows with corrected images, cameras and poses, got the fields {', '.join(row)}; use the "
            "configuration calibrated, target or manual"
        )
    sample: Sample = {}
    for plane in PLANES:
        camera = row[CAMERA_OF[plane]]
        if camera is None:
            raise TrainingError(
                f"measurement {row['measurement_id']} has no {CAMERA_OF[plane]}; expected both planes"
            )
        sample[IMAGE_OF[plane]] = _grey(row, plane, round(FIELD_MM / (camera["pixel_size_mm"] or np.inf)))
        try:
            Camera.from_row(camera)
        except CalibrationError as error:
            raise TrainingError(f"measurement {row['measurement_id']}, {CAMERA_OF[plane]}: {error}") from error
        sample[CAMERA_OF[plane]] = Cameras(
            intrinsics=torch.tensor(camera["intrinsics"], dtype=torch.float64),
            world_to_camera=torch.tensor(camera["world_to_camera"], dtype=torch.float64),
        )
    poses = [row[component] for component in COMPONENTS]
    sample["anatomy_id"] = torch.tensor([-1 if pose is None else pose["anatomy_id"] for pose in poses])
    sample["labels"] = torch.stack([_transform(pose) for pose in poses])
    sample["measurement_id"] = torch.tensor(row["measurement_id"])
    sample["trial_id"] = torch.tensor(row["trial_id"])
    sample["task"] = row["task"] or "unknown"
    return sample


def _grey(row: FrameRow, plane: PlaneName, size: int) -> torch.Tensor:
    image = np.asarray(row[IMAGE_OF[plane]])
    if image.shape != (size, size):
        raise TrainingError(
            f"measurement {row['measurement_id']}: image_{plane} is {' x '.join(map(str, image.shape))} px, but its "
            f"camera is that of an image of {size} x {size} px; convert the archive again, and do not resize images"
        )
    return torch.from_numpy((image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image.copy())[None]


def _transform(pose: PoseRow | None) -> torch.Tensor:
    if pose is None:
        return torch.full((4, 4), torch.nan, dtype=torch.float64)
    return torch.from_numpy(make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"]))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; tasks become a list."""
    batch: Batch = default_collate(list(samples))
    return batch


def model_inputs(batch: Batch) -> dict[str, torch.Tensor | Cameras]:
    """The part of a batch that a model's forward takes, labels included."""
    return {
        "image_bs": batch["image_bs"],
        "image_fs": batch["image_fs"],
        "camera_bs": batch["camera_bs"],
        "camera_fs": batch["camera_fs"],
        "anatomy_id": batch["anatomy_id"],
        "labels": batch["labels"],
    }


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

    """

    def __init__(self, rows: datasets.Dataset, augment: Augment | None = None, seed: int = 0) -> None:
        self.rows, self.augment, self.seed, self._epoch = rows, augment, seed, _shared_epoch()

    def set_epoch(self, epoch: int) -> None:
        """Draw other random numbers, in running worker processes too; between two passes over the data only."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return _augmented(self.rows[index], self.augment, self.seed, int(self._epoch))


class StreamedSamples(IterableDataset[Sample]):
    """Samples of a streamed data set: this process's share of it, in another order every epoch.

    Parameters
    ----------
    rows : of ``load_dataset(..., streaming=True)``.
    augment, seed : as of `FrameSamples`.
    rank, world_size : of this process.
    shuffle_buffer : rows to draw the next one from; 0 keeps the order.

    """

    def __init__(
        self,
        rows: datasets.IterableDataset,
        augment: Augment | None = None,
        seed: int = 0,
        *,
        rank: int = 0,
        world_size: int = 1,
        shuffle_buffer: int = 0,
    ) -> None:
        if shuffle_buffer:
            rows = rows.shuffle(seed=seed, buffer_size=shuffle_buffer)
        self.rows = split_dataset_by_node(rows, rank, world_size)
        self.augment, self.seed, self._epoch = augment, seed, _shared_epoch()

    def set_epoch(self, epoch: int) -> None:
        """Draw another order and other random numbers, in running worker processes too; between two passes only."""
        self._epoch.fill_(epoch)
        self.rows.set_epoch(epoch)  # datasets shares it with worker processes itself

    def __iter__(self) -> Iterator[Sample]:
        for row in self.rows:
            yield _augmented(row, self.augment, self.seed, int(self._epoch))


def _augmented(row: FrameRow, augment: Augment | None, seed: int, epoch: int) -> Sample:
    sample = sample_of(row)
    if augment is None:
        return sample
    return augment(sample, np.random.default_rng((seed, epoch, row["measurement_id"])))
