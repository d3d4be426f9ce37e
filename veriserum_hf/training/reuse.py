"""Rendered frames that are learned from several times, each time among others.

Rendering a frame costs more than learning from it. Frames of recent batches stay on the device, and every batch is
drawn from all of them. A batch follows from the seed and its number alone: a run that is resumed renders the recent
batches again.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

import numpy as np
import torch

from veriserum_hf.training.batches import Batch

RECENT_FRAMES = 4096  # 2 GB of pairs of 512 px
_STREAM = 21  # of random numbers, under the seed


def reused(
    fresh: Callable[..., Iterable[Batch]], times: int, batch_size: int, seed: tuple[int, ...], start: int
) -> Iterator[Batch]:
    """Yield batches from number ``start`` on, each drawn from the frames of the most recent fresh ones.

    Parameters
    ----------
    fresh : gives the batches that are rendered, from the number ``start`` on.
    times : batches that are yielded for each fresh one; so often a frame is seen on average.
    batch_size : frames in a batch.
    seed : of the draws.
    start : number of the first batch.

    """
    most = max(1, RECENT_FRAMES // batch_size)
    newest = start // times
    oldest = max(0, newest - most + 1)
    recent: Any = None
    for number, batch in zip(count(oldest), fresh(start=oldest), strict=False):
        recent = _put(recent, batch, number % most * batch_size, most * batch_size)
        if number < newest:
            continue
        frames = min(number + 1, most) * batch_size
        for each in range(max(start, number * times), (number + 1) * times):
            drawn = np.random.default_rng((*seed, _STREAM, each)).choice(frames, batch_size, replace=False)
            yield _taken(recent, drawn)


def _put(recent: Any, batch: Any, first: int, room: int) -> Any:
    """Copy a batch to where the oldest one was; makes the place for all at first."""
    if isinstance(batch, dict):
        return {name: _put(recent and recent[name], value, first, room) for name, value in batch.items()}
    if isinstance(batch, torch.Tensor):
        if recent is None:
            recent = batch.new_empty(room, *batch.shape[1:])
        recent[first : first + len(batch)] = batch
        return recent
    recent = recent or [""] * room
    recent[first : first + len(batch)] = batch
    return recent


def _taken(recent: Any, indices: np.ndarray) -> Any:
    if isinstance(recent, dict):
        return {name: _taken(value, indices) for name, value in recent.items()}
    if isinstance(recent, torch.Tensor):
        return recent[torch.from_numpy(indices).to(recent.device)]
    return [recent[index] for index in indices]
