"""What a process finds imported and computed that `tests.forked` forks."""

import gc

import datasets.config

import veriserum_hf.dataset.export
import veriserum_hf.registration.data_sets
import veriserum_hf.simulation.write
import veriserum_hf.training.evaluate
import veriserum_hf.training.train  # noqa: F401
from veriserum_hf.dataset import SOURCES_OF_ROWS
from veriserum_hf.jobs import source_hash

datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0.2  # as in `tests.conftest`
source_hash(*SOURCES_OF_ROWS)  # which each process would compute again
gc.freeze()  # or each process that looks for garbage copies all of this
