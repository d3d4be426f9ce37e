"""A small data set to train on, and a run that was trained on it."""

import runpy
from functools import partial

import pytest

from tests.fixtures.made_once import made_once
from tests.training.processes import ROOT
from tests.training.runs import run, settings_file
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.plan import Options
from veriserum_hf.simulation.settings import Settings
from veriserum_hf.simulation.write import simulate

STEPS = 16  # of six in an epoch


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Folder with 48 frames to train on, six of every other split, 128 px, in several shards."""
    return made_once(tmp_path_factory, "to_train_on", _simulated) / "dataset"


def _simulated(folder):
    settings = Settings(trials=20, frames_per_trial=3, pairs=2, height_px=200, marker_frames=0)
    archive = simulate(folder / "archive", settings, workers=1)
    convert_archive(archive, folder / "dataset", options=Options(size=128), workers=1, shard_size_bytes=150_000)


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """Settings of a tiny model."""
    return settings_file(tmp_path_factory.mktemp("config") / "tiny.yaml")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, config, dataset):
    """Run folder of sixteen steps, with a checkpoint every fifth and tracking; not to be changed."""
    often = ("--max_train_steps", STEPS, "--checkpointing_steps", 5, "--eval_steps", 8, "--with_tracking")
    train = partial(run, "train", "--config", config, "--dataset", dataset, *often, "--output_dir")
    return made_once(tmp_path_factory, "trained", train)


@pytest.fixture
def refused(config, monkeypatch, capsys):
    """The script's messages before it ends with status 2; in this process, since another takes seconds to begin."""

    def errors_of(*options):
        monkeypatch.setattr("sys.argv", ["train.py", *map(str, ("--config", config, *options))])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "training/train.py"), run_name="__main__")
        output, errors = capsys.readouterr()
        assert stop.value.code == 2 and output == "" and "Traceback" not in errors
        return errors

    return errors_of
