"""Run by several processes: which frames each process is given in two epochs."""

import sys
from itertools import islice
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration

from veriserum_hf.training.loaders import training_batches
from veriserum_hf.training.settings import DataSettings, OptimizationSettings


def main(dataset, folder):
    """Write the measurement ids (2, frames) of this process."""
    sharing = DataLoaderConfiguration(use_seedable_sampler=True, data_seed=0)
    accelerator = Accelerator(cpu=True, dataloader_config=sharing)
    batches = training_batches(
        DataSettings(dataset=dataset, num_workers=0), OptimizationSettings(batch_size=4), accelerator
    )
    count = batches.batches_per_epoch
    ids = [batch["measurement_id"].numpy() for batch in islice(batches.start_at(0, 0), 2 * count)]
    np.save(Path(folder) / f"{accelerator.process_index}.npy", np.concatenate(ids).reshape(2, -1))
    accelerator.end_training()


main(*sys.argv[1:])
