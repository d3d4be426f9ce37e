"""Trials to register, one job each, for worker processes."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from veriserum_hf.core import FloatArray
from veriserum_hf.dataset import Frames, Rows
from veriserum_hf.jobs import parquet_bytes, single_threaded_opencv, write_listed
from veriserum_hf.poses import REGISTERED_SCHEMA
from veriserum_hf.registration.deviations import Deviations
from veriserum_hf.registration.initial_poses import Starts
from veriserum_hf.registration.refine import ChosenMethod
from veriserum_hf.registration.trials.mesh_files import read_mesh, write_mesh
from veriserum_hf.registration.trials.trial import Implants, register_trial

try:
    import torch
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

TRIALS = "trials"  # folder below that of unfinished work
_AT_ONCE = {"cpu": 1, "cuda": 32}  # frames in a batch


@dataclass(frozen=True, eq=False)
class TrialJob:
    """One trial to register, with everything that a worker process needs.

    Attributes
    ----------
    frames : of the trial, in their order.
    starts : initial poses by measurement id and component.
    searched : implants by measurement id that are searched for in the images where initial poses fail.
    meshes : files of `veriserum_hf.registration.trials.mesh_files` by anatomy id.
    file : Parquet file to write.
    unfinished : folder above it that lists finished files.
    method, deviations : see `veriserum_hf.registration.refine.register`.

    """

    frames: Frames
    starts: Starts
    searched: Implants
    meshes: Mapping[int, Path]
    file: Path
    unfinished: Path
    method: ChosenMethod
    deviations: Deviations

    @property
    def units(self) -> int:
        """Dual-plane frames."""
        return len(self.frames)

    @property
    def done(self) -> bool:
        """Whether the file exists."""
        return self.file.exists()

    def run(self, advance: Callable[[int], None]) -> None:
        """Register every frame, and write the file in one step."""
        there = device()
        with single_threaded_opencv(), _one_thread_of_torch():
            rows = register_trial(
                self.frames,
                self.starts,
                {id: read_mesh(file) for id, file in self.meshes.items()},
                advance,
                searched=self.searched,
                method=self.method,
                device=there,
                deviations=self.deviations,
                at_once=_AT_ONCE[there],
            )
        write_listed(self.unfinished, self.file, parquet_bytes(pa.Table.from_pylist(rows, REGISTERED_SCHEMA)))


def device() -> str:
    """Where the trials of this machine are registered: ``"cuda"`` where there is a GPU, or ``"cpu"``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def _one_thread_of_torch() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def trial_jobs(
    frames: Frames,
    starts: Starts,
    searched: Implants,
    source: Rows[Frames],
    incomplete: Path,
    method: ChosenMethod,
    plane_covariances: Mapping[int, FloatArray],
) -> list[TrialJob]:
    """One job for each trial that has an initial pose, or implants to search for.

    With refined cameras, which the frames have already, their covariance by trial is part of that of the poses.
    """
    rows: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for row, ids in enumerate(frames.table("measurement_id", "trial_id", "frame_index").to_pylist()):
        rows[ids["trial_id"]].append((ids["frame_index"], row, ids["measurement_id"]))
    jobs, files = [], dict[int, Path]()
    for trial_id, of_trial in sorted(rows.items()):
        own = {id: starts[id] for _, _, id in sorted(of_trial) if id in starts}
        looked_for = {id: searched[id] for _, _, id in sorted(of_trial) if id in searched}
        shown = {pose["anatomy_id"] for poses in own.values() for pose in poses.values()}
        shown |= {id for implants in looked_for.values() for id in implants.values()}
        if shown:
            taken = frames.taken([row for _, row, _ in sorted(of_trial)])
            files |= {id: write_mesh(source.meshes[id], incomplete) for id in shown - files.keys()}
            meshes = {id: files[id] for id in sorted(shown)}
            file = incomplete / TRIALS / f"trial_{trial_id:06d}.parquet"
            covariance = plane_covariances.get(trial_id)
            deviations = Deviations() if covariance is None else Deviations(plane_covariance=covariance)
            jobs.append(TrialJob(taken, own, looked_for, meshes, file, incomplete, method, deviations))
    return jobs
