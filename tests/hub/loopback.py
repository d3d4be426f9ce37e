"""The loopback hub as a process of its own, and what tests want to know of it."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict
from pathlib import Path

from tests.hub.faults import Fault
from tests.hub.server import TOKEN
from tests.hub.store import Repository, Store

_ROOT = Path(__file__).parents[2]


class Loopback:
    """A hub that serves one folder until it is stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.server", str(folder), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), "it did not start"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def fail(self, *rules: Fault, refuse_token: bool = False) -> None:
        """Set the switch to fail; without arguments, nothing fails any more."""
        content = json.dumps({"rules": [asdict(rule) for rule in rules], "refuse_token": refuse_token}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/_faults", content)) as answer:
            assert answer.status == 200

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """Environment of a process that knows this hub alone, with an empty cache of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        return kept | own | ({"HF_TOKEN": token} if token else {})

    def settle(self) -> None:
        """Wait until every request is answered."""
        seen = -1
        while seen != (seen := len(self.requests())):
            time.sleep(0.5)

    def repository(self, id: str, kind: str = "datasets") -> Repository | None:
        return self.store.load(kind, id)

    def requests(self) -> list[dict[str, object]]:
        """Every request since the hub was started."""
        log = self.folder / "requests.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
