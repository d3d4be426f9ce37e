"""What runs a job in another process, of this machine or another one."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veriserum_hf.errors import WorkerError
from veriserum_hf.jobs.board import place, writer_of
from veriserum_hf.jobs.provenance import versions

if TYPE_CHECKING:
    from veriserum_hf.jobs.pool import Job

_one_at_a_time = threading.Lock()  # jobs are made for processes: they set how many threads libraries use


@dataclass(frozen=True)
class Needed:
    """What a process of another machine must have in common with the one that hands out the jobs.

    Attributes
    ----------
    versions : of `veriserum_hf.jobs.provenance.versions`.
    reads : files and folders that the jobs read.

    """

    versions: Mapping[str, str]
    reads: Sequence[Path]

    def check(self) -> None:
        """Raise WorkerError where something is different here."""
        found = versions()
        if other := [
            f"{name} {found.get(name, 'not installed')} instead of {wanted}"
            for name, wanted in self.versions.items()
            if found.get(name) != wanted
        ]:
            raise WorkerError(
                f"{place()} has {', '.join(other)}. All machines need the same versions, such as one environment on "
                "the shared file system. What is finished is kept: run the same command again to resume."
            )
        if unseen := [path for path in self.reads if not path.exists()]:
            raise WorkerError(
                f"{place()} does not see {unseen[0]}, which is read. The folders of input and output must be shared "
                "by all machines, under the same paths. What is finished is kept: run the same command again to "
                "resume."
            )


def run_in_worker(job: "Job", note: Path, needed: Needed | None) -> None:
    """Run a job where what it needs is there.

    Parameters
    ----------
    job : what there is to do.
    note : file on the notice board for its progress.
    needed : of an executor's processes; None for those of this machine.

    """
    with _one_at_a_time:
        advance = writer_of(note)
        advance(0)
        if needed is not None:
            needed.check()
        job.run(advance)
