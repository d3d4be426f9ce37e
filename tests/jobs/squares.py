"""Jobs for tests; in a module of its own, which a worker process imports in no time."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from veriserum_hf.jobs.files import write_file


@dataclass(frozen=True)
class Square:
    """Writes its number squared, and the process that did so next to it, for every unit of its size."""

    folder: Path
    number: int
    units: int = 1
    what: str = ""

    @property
    def file(self):
        return self.folder / f"{self.number}.txt"

    @property
    def done(self):
        return self.file.exists()

    def run(self, advance):
        with (self.folder / "order").open("a") as order:
            order.write(f"{self.number}\n")
        if self.what == "fails":
            raise ValueError(f"job {self.number} cannot be done")
        if self.what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        for _ in range(self.units):
            advance(1)
            time.sleep(0.02 if self.what == "slow" else 0)
        write_file(self.folder / f"{self.number}.process", str(os.getpid()))
        write_file(self.file, str(self.number**2))
