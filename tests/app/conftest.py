"""Trials to match: simulated, with exact poses, and initial poses that are off."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.fixtures.made_once import made_once
from tests.registration.scenes import displaced
from veriserum_hf.app.initial import LABEL, PoseSource
from veriserum_hf.app.saved import held
from veriserum_hf.app.session import Session
from veriserum_hf.app.trials import Trials
from veriserum_hf.app.workbench import _source
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.dataset.plan import Options
from veriserum_hf.geometry.pose import matrix_to_quaternion
from veriserum_hf.poses import PREDICTED_SCHEMA, poses_by_frame, read_poses, transforms, write_poses
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

SIZE_PX = 512


@dataclass(frozen=True)
class Trial:
    """A data set with its exact poses, and files of poses that are so far off, in mm and degrees."""

    dataset: Path
    truth: dict
    near: Path  # 5 mm, 5 deg
    far: Path  # 10 mm, 10 deg


def _make(folder):
    settings = Settings(trials=2, frames_per_trial=10, seed=4, height_px=800, marker_frames=0)
    simulate(folder / "A", settings, workers=1)
    configs = ("calibrated", "anatomies")
    convert_archive(folder / "A", folder / "OUT", configs=configs, options=Options(size=SIZE_PX), workers=1)
    meshes = open_rows(str(folder / "OUT"), ("calibrated",), archive_px=SIZE_PX).meshes
    for name, mm, deg in (("near", 5.0, 5.0), ("far", 10.0, 10.0)):
        rng, rows = np.random.default_rng(1), []
        for row in read_poses(folder / "A" / "truth.parquet").to_pylist():
            T = displaced(transforms([row])[0], meshes[row["anatomy_id"]], rng, mm, deg)
            quaternion = matrix_to_quaternion(T[:3, :3]).tolist()
            off = {"translation_mm": T[:3, 3].tolist(), "quaternion_xyzw": quaternion, "covariance": None}
            rows.append(row | off | {"verdict": "not assessed", "confidence": None})
        write_poses(folder / f"{name}.parquet", pa.Table.from_pylist(rows, PREDICTED_SCHEMA))


@pytest.fixture(scope="session")
def trial(tmp_path_factory):
    """Two trials of ten frames; not to be changed."""
    folder = made_once(tmp_path_factory, "to_match", _make)
    truth = poses_by_frame(read_poses(folder / "A" / "truth.parquet"))
    return Trial(folder / "OUT", truth, folder / "near.parquet", folder / "far.parquet")


@pytest.fixture(scope="session")
def trials(trial):
    """The same, opened."""
    return Trials.open(str(trial.dataset))


@pytest.fixture
def opened(trial, trials, tmp_path):
    """Sessions on a file of accepted poses, each as after a new start of the program."""

    class Opened:
        path = tmp_path / "manual.parquet"

        def __init__(self):
            self._held = None

        def __call__(self, observer="A. Reader", path=None):
            self.close()
            self._held = held(path or self.path, {})
            sources = [
                _source(trials, trial.near, "near"),
                PoseSource(LABEL, {id: trials.poses(id) for id in trials.labels}),
            ]
            return Session(trials, sources, self._held.__enter__(), observer)

        def close(self):
            if self._held is not None:
                self._held.__exit__(None, None, None)
            self._held = None

    sessions = Opened()
    yield sessions
    sessions.close()
