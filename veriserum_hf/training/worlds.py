"""Training batches of randomised worlds: frames are drawn by other processes and rendered on the training device.

See `veriserum_hf.simulation.WorldRanges` for what is randomised. A batch follows from the seed and its number alone,
whatever the number of processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from veriserum_hf.core import PLANES
from veriserum_hf.jobs import cores
from veriserum_hf.modeling import surface_points
from veriserum_hf.rendering import scenes
from veriserum_hf.simulation import Drawn, WorldRanges, Worlds, WorldShape, draw_images, world_shapes
from veriserum_hf.training.batches import Batch, Cameras, check_rendered

# Of random numbers, under the seed.
_TRAINING_STREAM, _VALIDATION_STREAM = 11, 12
_VALIDATION_SEED = 2027


@dataclass(frozen=True, eq=False)
class _DrawnBatch:
    """A batch in main memory, to be rendered; arrays are those of `Batch`, both planes in one."""

    number: int
    drawn: Drawn
    shapes: Tensor
    labels: Tensor
    world_to_camera: Tensor
    tasks: list[str]
    noise_seed: int


class _DrawnBatches(Dataset[_DrawnBatch]):
    """Batches by their numbers, without end."""

    def __init__(self, worlds: Worlds, batch_size: int, seed: tuple[int, int]) -> None:
        self._worlds, self._batch_size, self._seed = worlds, batch_size, seed

    def __getitem__(self, number: int) -> _DrawnBatch:
        rng = np.random.default_rng((*self._seed, number))
        frames = [self._worlds.draw(rng) for _ in range(self._batch_size)]
        return _DrawnBatch(
            number,
            Drawn.of(frames, self._worlds.size, rng),
            torch.tensor([frame.shapes for frame in frames]),
            torch.from_numpy(np.stack([frame.labels for frame in frames])),
            torch.from_numpy(np.stack([frame.world_to_camera for frame in frames])),
            [frame.task for frame in frames],
            int(rng.integers(2**62)),
        )


class WorldBatches:
    """An endless iterable of training batches of randomised worlds, with the points of each frame's implants.

    Images are uint8 on the device, and so is every other tensor. ``measurement_id`` and ``trial_id`` number the
    frames of all batches: every frame is its own trial.

    Parameters
    ----------
    batch_size : dual-plane frames in a batch.
    ranges : that the worlds are drawn from.
    size : edge of the images, px.
    seed : other seeds give other batches, of the same implants.
    device : where batches are rendered and stay.
    rank, world_size : of this process: its batch k is batch ``k world_size + rank`` of all of them.
    start : number of the first batch, to resume an interrupted run.
    workers : processes that draw; 0 for this one.
    prefetched : batches that each of them has ready in advance.
    held_out : show implants that no training sees.

    Raises
    ------
    ValueError
        If a number is out of its range.

    """

    def __init__(
        self,
        batch_size: int,
        ranges: WorldRanges,
        *,
        size: int = 512,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        workers: int = 0,
        prefetched: int = 2,
        held_out: bool = False,
    ) -> None:
        check_rendered(batch_size, size, rank, world_size, start, seed)
        self.batch_size, self.size, self.device = batch_size, size, torch.device(device)
        self.rank, self.world_size, self.start = rank, world_size, start
        self._seed, self._workers, self._prefetched = seed, workers, prefetched
        self._stream = _TRAINING_STREAM
        shapes = shapes_of(ranges, held_out=held_out)
        self._worlds = Worlds(ranges, shapes, size)
        self._solids = scenes.Solids.of(self._worlds.meshes, self.device)
        points = np.stack([surface_points(shape.mesh.vertices, shape.mesh.faces) for shape in shapes])
        self._points = torch.from_numpy(points).to(self.device)
        self._ids = torch.tensor([shape.anatomy_id for shape in shapes], device=self.device)

    def __iter__(self) -> Iterator[Batch]:
        loader = DataLoader(
            _DrawnBatches(self._worlds, self.batch_size, (self._seed, self._stream)),
            batch_size=None,
            sampler=_Numbers(self.start * self.world_size + self.rank, self.world_size),
            collate_fn=_unchanged,
            num_workers=self._workers,
            generator=torch.Generator(),  # or it would draw from the caller's random numbers
            prefetch_factor=self._prefetched if self._workers else None,
        )
        for drawn in loader:
            yield self._render(drawn)

    def _render(self, batch: _DrawnBatch) -> Batch:
        device = self.device
        drawn = batch.drawn.to(device)
        generator = torch.Generator(device).manual_seed(batch.noise_seed)
        # Sums of path lengths and blurs need float32, whatever the training runs in.
        with torch.autocast(device.type, enabled=False):
            image_bs, image_fs = draw_images(drawn, self._solids, self.size, generator)[:, None].chunk(len(PLANES))
        intrinsics, to_camera = drawn.intrinsics.chunk(len(PLANES)), batch.world_to_camera.to(device).unbind(1)
        camera_bs, camera_fs = (
            Cameras(intrinsics=K, world_to_camera=T) for K, T in zip(intrinsics, to_camera, strict=True)
        )
        of_images = [drawn.looks[name][:, 0] for name in ("first_column", "first_row", "columns", "rows")]
        image_px = torch.cat(of_images, dim=1).long()
        shapes = batch.shapes.to(device)
        numbers = torch.arange(self.batch_size, device=device) + batch.number * self.batch_size
        return {
            "image_bs": image_bs,
            "image_fs": image_fs,
            "camera_bs": camera_bs,
            "camera_fs": camera_fs,
            "anatomy_id": self._ids[shapes],
            "implant_points": self._points[shapes],
            "labels": batch.labels.to(device),
            "image_px": torch.stack(image_px.chunk(len(PLANES)), dim=1),
            "measurement_id": numbers,
            "trial_id": numbers.clone(),
            "task": batch.tasks,
        }


class _Numbers:
    """Numbers of batches, without end."""

    def __init__(self, first: int, step: int) -> None:
        self._first, self._step = first, step

    def __iter__(self) -> Iterator[int]:
        number = self._first
        while True:
            yield number
            number += self._step


def _unchanged(batch: Any) -> Any:
    return batch


@lru_cache(maxsize=2)
def shapes_of(ranges: WorldRanges, *, held_out: bool = False) -> list[WorldShape]:
    """The implants of worlds, drawn once; see `world_shapes`."""
    return world_shapes(ranges, held_out=held_out, processes=min(cores(), ranges.shapes))


def validation_worlds(
    ranges: WorldRanges,
    frames: int = 400,
    *,
    start: int = 0,
    batch_size: int = 50,
    size: int = 512,
    device: torch.device | str = "cpu",
    held_out: bool = False,
    workers: int = 0,
) -> Iterator[Batch]:
    """The same frames of randomised worlds at every call, apart from those of all trainings.

    Parameters
    ----------
    ranges : that the worlds are drawn from.
    frames : how many, a multiple of the batch size.
    start : how many are before them, a multiple of it, too. The trust of a model is fitted to the first ones.
    batch_size, size, device, workers : see `WorldBatches`.
    held_out : show implants that no training sees, instead of those that all trainings show.

    Raises
    ------
    ValueError
        If the frames, or those before them, are no multiple of the batch size.

    """
    if frames < 1 or frames % batch_size or start % batch_size:
        raise ValueError(f"frames and start must be multiples of the batch size {batch_size}, got {frames}, {start}")
    source = WorldBatches(
        batch_size,
        ranges,
        size=size,
        seed=_VALIDATION_SEED,
        device=device,
        start=start // batch_size,
        workers=workers,
        held_out=held_out,
    )
    source._stream = _VALIDATION_STREAM
    for _, batch in zip(range(frames // batch_size), source, strict=False):
        yield batch
