"""Simulated frames with holders, as a laboratory has them: raw frames of 800 rows corrected to 512 px."""

import pyarrow.parquet as pq
import pytest
import torch

from tests.registration.scenes import pose, transform
from veriserum_hf.registration.frames import open_frames
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

_CHOSEN = (1, 5, 7)  # both femoral components, the smallest and largest tibial ones


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Several threads in each of several test processes wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def knees(tmp_path_factory):
    """Archive of seven trials of one frame."""
    folder = tmp_path_factory.mktemp("knees") / "archive"
    return simulate(folder, Settings(trials=7, frames_per_trial=1, seed=4, height_px=800, marker_frames=0), workers=1)


@pytest.fixture(scope="session")
def rows(knees):
    """Three frames, ordered by measurement; their poses are exact."""
    exact = {
        (row["measurement_id"], row["component"]): pose(row["anatomy_id"], transform(row))
        for row in pq.read_table(knees / "truth.parquet").to_pylist()
    }
    source = open_frames(str(knees), ("target",))
    found = []
    for frames in source.splits.values():
        ids = frames.table("measurement_id")["measurement_id"].to_pylist()
        for row in frames.taken([index for index, id in enumerate(ids) if id in _CHOSEN]).read():
            found.append(row | {name: exact[row["measurement_id"], name] for name in ("femur", "tibia")})
    return sorted(found, key=lambda row: row["measurement_id"])


@pytest.fixture(scope="session")
def meshes(knees):
    """Implants by anatomy id."""
    return open_frames(str(knees), ("target",)).meshes
