"""The loopback hub, for tests in this process and for processes of their own."""

import shutil

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session

from tests.hub.loopback import Loopback
from tests.hub.server import TOKEN


@pytest.fixture(scope="session")
def running_hub(tmp_path_factory):
    hub = Loopback(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.stop()


@pytest.fixture
def hub(running_hub):
    """A hub that holds nothing and does not fail."""
    running_hub.fail()
    for folder in ("repositories", "objects"):
        shutil.rmtree(running_hub.folder / folder)
        (running_hub.folder / folder).mkdir()
    (running_hub.folder / "requests.jsonl").unlink(missing_ok=True)
    return running_hub


@pytest.fixture
def online(hub, tmp_path, monkeypatch):
    """Let this process, which is offline otherwise, know the loopback hub alone, logged in."""
    for name, value in (
        ("ENDPOINT", hub.url),
        ("HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"),
        ("HF_HUB_OFFLINE", False),
        ("HF_HUB_DISABLE_XET", True),
        ("HF_TOKEN_PATH", str(tmp_path / "no-token")),
        ("HF_HUB_CACHE", str(tmp_path / "cache")),
    ):
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    close_session()
    yield hub
    close_session()
