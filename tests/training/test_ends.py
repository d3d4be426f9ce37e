"""The end of a training in two processes: nothing refers to their group any more, however it ends."""

import gc
import weakref

import pytest
import torch
from accelerate import Accelerator

from tests.benchmarks.bench_ends import ends
from veriserum_hf.errors import TrainingError
from veriserum_hf.training.ending import ended


@pytest.mark.slow
def test_short_trainings_of_two_processes_end_in_every_way(config, dataset, tmp_path):
    """``tests/benchmarks/bench_ends.py`` does that two hundred times, on a busy machine."""
    settings = ("--config", config, "--dataset", dataset, "--max_train_steps", 1, "--num_workers", 0)
    found = ends(3, tmp_path, list(map(str, settings)))
    assert found == [[("done", 0), ("failed", 0), ("interrupted", 0)]] * 2


@pytest.mark.parametrize("error", [None, TrainingError, KeyboardInterrupt])
def test_whatever_was_prepared_is_freed_before_the_group(error, monkeypatch):
    freed, prepared = [], []

    def step(accelerator):
        model = accelerator.prepare(torch.nn.Linear(2, 2))
        model.itself = model  # as in a cycle
        prepared.append(weakref.ref(model))
        if error is not None:
            try:
                raise ValueError("of a function below")
            except ValueError as cause:
                raise error("stopped") from cause

    gc.disable()  # it must not depend on when it runs
    try:
        accelerator = Accelerator(cpu=True)
        monkeypatch.setattr(accelerator, "end_training", lambda: freed.append(prepared[0]() is None))
        if error is None:
            with ended(accelerator) as inside:
                step(inside)
        else:
            with pytest.raises(error), ended(accelerator) as inside:
                step(inside)
    finally:
        gc.enable()
    assert freed == [True]
