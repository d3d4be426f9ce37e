"""A training whose loss or gradient is no longer finite."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from veriserum_hf.errors import TrainingError
from veriserum_hf.training.batches import Batch
from veriserum_hf.training.checkpoints import CHECKPOINTS


def not_finite(what: str, folder: Path, step: int, batch: Batch, losses: Mapping[str, Tensor]) -> TrainingError:
    """The error to raise: where a number was not finite, and what is kept.

    Parameters
    ----------
    what : ``"the loss"`` or ``"the gradient"``.
    folder : of the run.
    step : optimiser steps that were done before.
    batch : that it happened in.
    losses : of that batch, by name.

    """
    parts = ", ".join(name for name, value in losses.items() if not torch.isfinite(value) and name != "loss")
    checkpoints = sorted(path.name for path in (folder / CHECKPOINTS).glob("step_*"))
    best = (
        f"the best checkpoint so far in {folder}" if (folder / "config.json").exists() else "no best checkpoint yet"
    )
    return TrainingError(
        f"{what} is not finite at step {step} ({parts or 'all losses are'}), measurements "
        f"{batch['measurement_id'].tolist()}. Kept: {best}, {checkpoints[-1] if checkpoints else 'no checkpoint'} to "
        "resume from. Check those frames' poses, or start a new run with a lower --learning_rate or --max_grad_norm"
    )
