"""Checkpoints to resume a run from: tensors as safetensors, the rest as JSON, written as a whole or not at all.

Random numbers are not kept: those of a step follow from seed, step and process alone (`seed_step`), those of a
sample from seed, epoch and measurement.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from veriserum_hf.errors import TrainingError
from veriserum_hf.jobs import atomic_path, remove_abandoned

CHECKPOINTS = "checkpoints"  # below the run's folder


class RunState(TypedDict):
    """Where a run is, apart from its tensors.

    Attributes
    ----------
    step : optimiser steps that are done.
    positions : epoch, and batches of it that were given out, of each process.
    best : step and errors of the best checkpoint; None before the first evaluation.
    settings : those that a resumed run must share.
    conversion : of its data set, which a resumed run must share; checkpoints of before do not state it.
    scaler : of the gradients in fp16.

    """

    step: int
    positions: list[tuple[int, int]]
    best: dict[str, Any] | None
    settings: dict[str, object]
    conversion: NotRequired[dict[str, object]]
    scaler: dict[str, object] | None


def seed_step(seed: int, step: int, process: int) -> None:
    """Set torch's random numbers for a step, so that a resumed run draws what an uninterrupted one does."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, process)).generate_state(1, np.uint64)[0] >> 1))


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    average: AveragedModel | None,
    optimizer: Optimizer,
    state: RunState,
) -> None:
    """Write a checkpoint; the folder appears in one step, and what killed processes left next to it is removed.

    Parameters
    ----------
    folder : to make, or to replace.
    model, average, optimizer : not wrapped for several processes.
    state : whatever else is needed; it is written as JSON.

    """
    moments = {
        f"{index}.{name}": torch.as_tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder.parent)  # they are large
    with atomic_path(folder) as partial:
        partial.mkdir()
        _save(model.state_dict(), partial / "model.safetensors")
        if average is not None:
            _save(average.state_dict(), partial / "average.safetensors")
        _save(moments, partial / "optimizer.safetensors")
        (partial / "state.json").write_text(json.dumps(state, indent=1))


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    average: AveragedModel | None,
    optimizer: Optimizer,
    expected: Mapping[str, object],
    *,
    conversion: Mapping[str, object] | None = None,
) -> RunState:
    """Restore a checkpoint; returns its state.

    Parameters
    ----------
    folder : that `save_checkpoint` made.
    model, average, optimizer : as they were made for the run, to be filled.
    expected : settings that must be the checkpoint's own, under ``settings`` of its state.
    conversion : of the data set, which must be the checkpoint's own too, if it states one.

    Raises
    ------
    TrainingError
        If it is not a checkpoint, is damaged, or has other settings.

    """
    try:
        state: RunState = json.loads((folder / "state.json").read_text())
        found = state["settings"] | state.get("conversion", {})
        _check_settings(folder, found, {**expected, **((conversion or {}) if "conversion" in state else {})})
        model.load_state_dict(load_file(folder / "model.safetensors"))
        if average is not None:
            average.load_state_dict(load_file(folder / "average.safetensors"))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in load_file(folder / "optimizer.safetensors").items():
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = tensor
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
        raise TrainingError(
            f"cannot resume from {folder}: {error}. Expected a folder below {CHECKPOINTS} of a run with the same "
            "settings, or latest"
        ) from error
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def latest_checkpoint(run: Path) -> Path:
    """Newest checkpoint of a run; TrainingError if there is none."""
    found = sorted(path for path in (run / CHECKPOINTS).glob("step_*") if path.name[5:].isdigit())
    if not found:
        raise TrainingError(
            f"{run} has no checkpoint to resume from; --checkpointing_steps N writes one every N steps"
        )
    return found[-1]


def check_unused(run: Path) -> None:
    """Raise TrainingError where a new run would mix with another one in its folder."""
    if any((run / CHECKPOINTS).glob("step_*")):
        raise TrainingError(
            f"{run} holds checkpoints of a run already: resume it with --resume_from_checkpoint latest, or "
            "choose another --output_dir"
        )
    if (run / "model.safetensors").exists():
        raise TrainingError(
            f"{run} holds a model already, and its evaluation: choose another --output_dir, or remove it"
        )


def _save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    # A copy each: safetensors refuses tensors that share memory or are not in row order.
    save_file(
        {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        },
        path,
    )


def _check_settings(folder: Path, found: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Raise TrainingError where a run with these settings would not be the one that was interrupted."""
    other = [
        f"{name} was {found.get(name)!r} and is {value!r} now"
        for name, value in json.loads(json.dumps(dict(expected))).items()
        if found.get(name) != value
    ]
    if other:
        raise TrainingError(
            f"{folder} is a checkpoint of another configuration: {'; '.join(other)}. Resume with the same settings, "
            "or start a new run in another --output_dir"
        )
