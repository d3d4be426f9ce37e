"""Processes that are forked from one that has imported everything and done nothing.

To fork the process of the tests, which has threads, is not safe; to start a new one takes seconds.
"""

import multiprocessing

FORKED = multiprocessing.get_context("forkserver")
# A child imports the main module again, which is pytest.
FORKED.set_forkserver_preload(["pytest", "tests.jobs.processes", "tests.preloaded"])
