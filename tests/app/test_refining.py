"""The process that registers, in the place of which another one begins where it was killed."""

import multiprocessing
import os
import sys
from concurrent.futures import BrokenExecutor
from threading import Timer

import pytest

from veriserum_hf.app.refining import Refiner

_LATEST_S = 60.0


@pytest.mark.slow
def test_nobody_waits_for_the_process_that_begins_in_the_place_of_one_that_was_killed(trials, tmp_path):
    go, interpreter = tmp_path / "go", tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nwhile [ ! -e "{go}" ]; do sleep 0.1; done\nexec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o755)
    place = trials.of_trial[trials.ids()[0]][0]
    work = trials.frames([place]), {place.measurement_id: trials.poses(place.measurement_id)}, None
    before = set(multiprocessing.active_children())
    refiner, late = Refiner(trials.source), Timer(_LATEST_S, go.touch)
    try:
        (process,) = set(multiprocessing.active_children()) - before
        killed = refiner.register(*work)
        process.kill()
        with pytest.raises(BrokenExecutor):
            killed.result()
        multiprocessing.set_executable(os.fspath(interpreter))
        late.start()
        found = refiner.register(*work)
        assert not go.exists()  # it returned before the process has begun
        go.touch()
        assert {row["verdict"] for row in found.result()} == {"converged"}
    finally:
        multiprocessing.set_executable(sys.executable)
        late.cancel()
        refiner.close()
