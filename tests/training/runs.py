"""Runs of training and evaluation."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from tests.fixtures.models import BACKBONE, HEAD
from tests.training.processes import ENVIRONMENT, ROOT, Started

TINY = {
    "backbone_config": BACKBONE,
    **HEAD,
    "crop_size": 64,
    "map_size": 4,
    "batch_size": 8,
    "augmentation": {},
    "warmup_steps": 2,
    "ema_decay": 0.9,
}
LATEST = ("--resume_from_checkpoint", "latest")
STREAMED = ("--streaming", "--shuffle_buffer", 8)


def run(script, *arguments, processes=1, status=0):
    """What a script writes; it ends with this status."""
    started = Started(f"training/{script}.py", *arguments, processes=processes)
    assert started.end() == [status] * processes, started.written("errors")
    return started.written("output"), started.written("errors")


def run_as_users_do(script, *arguments, processes=1):
    """What a script writes that `python`, or torchrun where there are several processes, starts in a new process."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes) if processes > 1 else ()
    done = subprocess.run(
        [sys.executable, *map(str, (*launch, f"training/{script}.py", *arguments))],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def settings_file(path, **changed):
    path.write_text(yaml.safe_dump(TINY | changed))
    return path


def train_and_kill(folder, at, *arguments, processes=1):
    """Train, and kill every process as soon as the run's folder holds this one."""
    for _ in range(10):
        started = Started("training/train.py", *arguments, "--output_dir", folder, processes=processes)
        started.wait(until=(folder / at).exists)
        assert not any(started.statuses()), started.written("errors")
        started.kill()
        if not (folder / "last").exists():
            return
        shutil.rmtree(folder)  # it came to its end before it was killed
    raise AssertionError("every run came to its end before it was killed")


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def assert_same_weights(one, other):
    """Those that were averaged, best and last, and those that were trained."""
    newest = sorted(path.name for path in (one / "checkpoints").iterdir())[-1]
    for folder in ("", "last", f"checkpoints/{newest}"):
        assert largest_difference(weights(one / folder), weights(other / folder)) < 1e-6


def assert_same_end(one, other):
    """The weights, and what was measured."""
    assert_same_weights(one, other)
    best, again = (json.loads((run / "metrics.json").read_text())["validation"] for run in (one, other))
    assert best["step"] == again["step"]
    assert best["mtre_mm"]["median"] == pytest.approx(again["mtre_mm"]["median"], rel=1e-6)


def run_and_resume(folder, *settings, step, positions, processes=1):
    """Train in one folder, and resume in another from a checkpoint with these epochs and batches of the processes."""
    whole, half = folder / "whole", folder / "half"
    # Measured at the end alone: the other folder has no better model from before.
    settings = (*settings, "--checkpointing_steps", 1, "--eval_steps", 99)
    run("train", *settings, "--output_dir", whole, processes=processes)
    checkpoint = whole / f"checkpoints/step_{step:06d}"
    assert json.loads((checkpoint / "state.json").read_text())["positions"] == positions
    resumed = ("--output_dir", half, "--resume_from_checkpoint", checkpoint)
    _, errors = run("train", *settings, *resumed, processes=processes)
    assert f"resuming from {checkpoint}, step {step}\n" in errors
    return whole, half
