"""The end of a training in several processes, in the order that cannot block.

A model that is wrapped for several processes holds a reference to their group. Were that the last one, freeing the
model would end the group's threads while Python's lock is held, and such a thread may be waiting for this lock to
free a tensor of the last exchange: the process would never end. `destroy_process_group` releases the lock. So
everything that refers to the group is freed first, whether the run is done, has failed or was interrupted.
"""

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator


@contextmanager
def ended(accelerator: Accelerator) -> Iterator[Accelerator]:
    """Context of a run: afterwards its trackers are closed, and the group of its processes no longer exists.

    Nothing outside of the context may refer to what the accelerator has prepared.
    """
    try:
        yield accelerator
    except BaseException as error:
        _forget_variables(error)
        # What an error of one process leaves undone, a GPU's group would wait for.
        if torch.distributed.is_initialized() and torch.distributed.get_backend() != "gloo":
            raise
        _end(accelerator)
        raise
    _end(accelerator)


def _end(accelerator: Accelerator) -> None:
    accelerator.free_memory()
    gc.collect()  # once more: what it had prepared may refer to itself
    accelerator.end_training()


def _forget_variables(error: BaseException | None) -> None:
    """Free the variables of the functions that an error has passed through, which its traceback keeps."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
