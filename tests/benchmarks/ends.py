"""Run by two processes: short trainings, one after the other, each of which ends its group of processes.

Every third is interrupted in its only step, and every third fails there. With each end, what is left of the models
that were wrapped for two processes is counted.
"""

import gc
import os
import sys
from pathlib import Path
from unittest import mock

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.nn.parallel import DistributedDataParallel

from veriserum_hf.errors import TrainingError
from veriserum_hf.training.run import TrainingRun
from veriserum_hf.training.train import run_training

WAYS = {"done": None, "failed": TrainingError, "interrupted": KeyboardInterrupt}
_step, _destroy = TrainingRun.step, torch.distributed.destroy_process_group


def main(ends: str, folder: str, *settings: str) -> None:
    """Write one line for each end: how, and how many wrapped models there were at that moment."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    root = torch.distributed.TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), is_master=False)
    log = Path(folder, f"{rank}.txt")
    for number in range(int(ends)):
        way, error = list(WAYS.items())[number % len(WAYS)]
        torch.distributed.init_process_group(
            "gloo", store=torch.distributed.PrefixStore(str(number), root), rank=rank, world_size=size
        )
        output = ("--output_dir", str(Path(folder, f"run_{number}")))
        with (
            mock.patch.object(TrainingRun, "step", _stopped_by(error)),
            mock.patch.object(torch.distributed, "destroy_process_group", _counted(log, way)),
        ):
            try:
                run_training([*settings, *output])
            except (TrainingError, KeyboardInterrupt):
                assert error is not None
        for state in (AcceleratorState, PartialState, GradientState):
            state._reset_state()


def _stopped_by(error: type[BaseException] | None):
    def step(self: TrainingRun):
        losses = _step(self)
        if error is not None:
            raise error("as requested")
        return losses

    return step


def _counted(log: Path, way: str):
    def destroy(*arguments: object) -> None:
        left = sum(type(each) is DistributedDataParallel for each in gc.get_objects())
        _destroy(*arguments)
        with log.open("a") as lines:
            lines.write(f"{way} {left}\n")

    return destroy


main(*sys.argv[1:])
