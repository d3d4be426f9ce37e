"""A study of two trials of one calibration, the archive that it comes from, and what both become."""

import shutil

import pytest

from tests.fixtures.archives import write_archive
from tests.fixtures.studies import write_study
from veriserum_hf.dataset import import_study
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.plan import Options

EDGE_PX = 96
TRIALS, FRAMES = 2, 3


@pytest.fixture(scope="package")
def archive(tmp_path_factory):
    """Two trials of one calibration."""
    root = tmp_path_factory.mktemp("study") / "archive"
    return write_archive(
        root, trials=TRIALS, frames_per_trial=FRAMES, frame_size=(208, 200), extension="png", bit_depth=16
    )


@pytest.fixture(scope="package")
def converted(archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "out"
    options = Options(size=EDGE_PX, encoding="png")
    return convert_archive(archive.root, out, options=options, workers=1).output


@pytest.fixture(scope="package")
def good(converted, tmp_path_factory):
    """The study's folder; not to be changed."""
    return write_study(tmp_path_factory.mktemp("good"), converted).parent


@pytest.fixture
def study(good, tmp_path):
    """A copy of the study that may be changed: its YAML file."""
    shutil.copytree(good, tmp_path / "study")
    return tmp_path / "study/study.yaml"


@pytest.fixture(scope="package")
def imported(good, tmp_path_factory):
    return import_study(good / "study.yaml", tmp_path_factory.mktemp("imported") / "out", workers=1).output
