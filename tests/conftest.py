"""Archives that several tests read; a test that damages one works on a copy."""

import os
import shutil
import sys

import pytest
from hypothesis import settings

# Before numpy and datasets are imported. Tests run side by side: one thread each; and nothing here asks the hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

from tests.fixtures.archives import write_archive

settings.load_profile("ci")  # the same examples in every run, and no deadline that a busy machine may miss

pytest_plugins = ["tests.fixtures.downloads"]

SMALL = (416, 400)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Torch on one thread: several threads in each of several test processes wait for one another."""
    torch = sys.modules.get("torch")  # it is not imported for tests that do without
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def short_waits():
    """At the end of every pass over shuffled shards, datasets waits for threads of Arrow: 0.2 s instead of 5."""
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0.2


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Eight trials of three frames, 416 x 400 px JPEG, with phantom frames; not to be changed."""
    root = tmp_path_factory.mktemp("tiny") / "archive"
    return write_archive(root, trials=8, frames_per_trial=3, frame_size=SMALL, calibration_frames=True)


@pytest.fixture
def damaged(tiny, tmp_path):
    """A copy of the tiny archive's folder that may be changed."""
    root = tmp_path / "archive"
    shutil.copytree(tiny.root, root)
    return root
