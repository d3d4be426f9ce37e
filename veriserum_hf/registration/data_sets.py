"""``veriserum register``: registration of whole data sets, one job a trial; an interrupted run is resumed.

Everything is written below ``OUT.incomplete`` and moved to ``OUT`` in one step at the end: one small file for each
finished trial, and the predictions of a model, so that it runs once. The result does not depend on the number of
processes.
"""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from veriserum_hf.core import CONVERGED, __version__, listed
from veriserum_hf.dataset import ALL, SOURCES_OF_ROWS, Frames, Rows, open_rows
from veriserum_hf.errors import RegistrationError
from veriserum_hf.jobs import (
    cores,
    incomplete_folder,
    keep_whole,
    library_versions,
    parquet_bytes,
    put_in_place,
    run_jobs,
    single_threaded_opencv,
    source_hash,
    staging_folder,
    write_file,
    write_listed,
)
from veriserum_hf.poses import REGISTERED_SCHEMA
from veriserum_hf.registration.initial_poses import (
    StartingModel,
    Starts,
    check_start,
    configs_for,
    identity_of_start,
    starts_of,
)
from veriserum_hf.registration.trials import Meshes, register_trial

try:
    import torch
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

# What shapes poses, in addition to frames, initial poses and options.
SOURCES_OF_POSES = (
    *SOURCES_OF_ROWS,
    "dataset.archive_frames",
    "dataset.frames",
    "dataset.model_frames",
    "dataset.stored",
    "poses",
    "rendering",
    "modeling",
    "inference",
    "registration",
)
_LIBRARIES = ("manifold3d", "numba", "roma", "torch", "trimesh")
_TRIALS, _MODEL_STARTS, _MERGED = "trials", "model.parquet", "poses.parquet"  # below the folder of unfinished work
ARCHIVE_PX = 512  # edge of the corrected images of an archive's frames
_AT_ONCE = {"cpu": 1, "cuda": 32}  # frames in a batch
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class TrialJob:
    """One trial to register, with everything that a worker process needs.

    Attributes
    ----------
    frames : of the trial, in their order.
    starts : initial poses by measurement id and component; at least one.
    meshes : by anatomy id, mm.
    file : Parquet file to write.
    unfinished : folder above it that lists finished files.
    device : ``"cpu"`` or ``"cuda"``.

    """

    frames: Frames
    starts: Starts
    meshes: Meshes
    file: Path
    unfinished: Path
    device: str

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
        with single_threaded_opencv(), _one_thread_of_torch():
            rows = register_trial(
                self.frames, self.starts, self.meshes, advance, device=self.device, at_once=_AT_ONCE[self.device]
            )
        write_listed(self.unfinished, self.file, parquet_bytes(pa.Table.from_pylist(rows, REGISTERED_SCHEMA)))


@contextmanager
def _one_thread_of_torch() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, eq=False)
class Registrations:
    """Result of a registration of whole trials.

    Attributes
    ----------
    output : the Parquet file.
    poses : its rows, by `REGISTERED_SCHEMA`.
    source : data set or archive of the frames.
    frames : number of requested dual-plane frames.
    without_start : those in trials without any initial pose; the file has no rows of them.

    """

    output: Path
    poses: pa.Table
    source: Rows[Frames]
    frames: int
    without_start: int

    @property
    def not_converged(self) -> int:
        """Number of poses with the verdict ambiguous or failed."""
        return sum(verdict != CONVERGED for verdict in self.poses["verdict"].to_pylist())


def register_dataset(
    dataset: str,
    output: str | os.PathLike[str],
    *,
    start: str = "refined",
    model: str | None = None,
    split: str = ALL,
    trials: Sequence[int] = (),
    workers: int | None = None,
    progress: Progress | None = None,
    model_progress: Progress | None = None,
) -> Registrations:
    """Register all frames of a data set or an archive, or resume where this was interrupted.

    Parameters
    ----------
    dataset : folder that ``veriserum convert`` made, data set on the hub, or archive.
    output : Parquet file to write.
    start : initial poses: ``"target"``, ``"refined"``, ``"manual"``, ``"model"``, or a file of poses.
    model : run folder or hub name, with the start ``"model"``.
    split : train, validation, test or all.
    trials : ids; all if empty.
    workers : processes; None for one a core, or a single one with a GPU. The result does not depend on it.
    progress : called with the number of frames done and of all.
    model_progress : the same for the model's predictions.

    Raises
    ------
    RegistrationError
        If there is nothing to register, an implant cannot be rendered, or the output exists and is another
        registration, or cannot be written.
    DataSetError
        If the data set has no such frames or no implants, or cannot be loaded.
    TrainingError
        If the file of initial poses or the model cannot be used, or is of another data set.
    ArchiveError, ConversionError
        If the archive's structure is invalid, or it has no implants.
    WorkerError
        If a worker process was killed.

    """
    check_start(start, model)
    target = Path(output).expanduser().absolute()
    source = open_rows(dataset, configs_for(start), archive_px=ARCHIVE_PX)
    chosen = _chosen(source, split, trials)
    frames = sum(map(len, chosen.values()))
    record = _record(source, chosen, split, trials, identity_of_start(start, model))
    if (finished := _finished(target, record)) is not None:
        return _result(target, finished, source, frames)
    # Before the folder is made: it would block the next attempt, with other initial poses.
    starting_model = StartingModel(model, source, chosen) if model is not None else None
    starts = starts_of(source, chosen, start) if model is None else {}
    about = {"veriserum_hf": __version__, "dataset": dataset, "start": start} | ({"model": model} if model else {})
    with staging_folder(target, record, "registration", RegistrationError) as incomplete:
        if (finished := _finished(target, record)) is not None:  # by another process, a moment ago
            return _result(target, finished, source, frames)
        keep_whole(incomplete)
        if starting_model is not None:
            starts = starting_model.starts(incomplete / _MODEL_STARTS, model_progress)
        poses = _registered(source, chosen, starts, incomplete, workers, progress)
        metadata = REGISTERED_SCHEMA.metadata | about | {"record": json.dumps(record)}
        # With the pages' checksums, so that a damaged file is not taken for the result.
        whole = parquet_bytes(poses.replace_schema_metadata(metadata), write_page_checksum=True)
        write_file(incomplete / _MERGED, whole)
        put_in_place(incomplete / _MERGED, target)
    return _result(target, poses, source, frames)


def _record(
    source: Rows[Frames],
    chosen: Mapping[str, Frames],
    split: str,
    trials: Sequence[int],
    start: Mapping[str, str | None],
) -> dict[str, object]:
    """Identity of a registration, as JSON."""
    versions = {"veriserum_hf": __version__, "source": source_hash(*SOURCES_OF_POSES)}
    return {
        "versions": versions | library_versions(*_LIBRARIES),
        "dataset": {"config": source.config, "identity": source.digest(chosen)},
        "options": {"split": split, "trials": sorted(trials)},
        "start": start,
    }


def _registered(
    source: Rows[Frames],
    chosen: Mapping[str, Frames],
    starts: Starts,
    incomplete: Path,
    workers: int | None,
    progress: Progress | None,
) -> pa.Table:
    """Poses of all trials; those with a file in the folder of unfinished work are registered already."""
    (incomplete / _TRIALS).mkdir(exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    jobs = [job for each in chosen.values() for job in _jobs(each, starts, source, incomplete, device)]
    run_jobs(jobs, workers or (cores() if device == "cpu" else 1), progress)
    return pa.concat_tables(pq.read_table(job.file) for job in sorted(jobs, key=lambda job: job.file))


def _chosen(source: Rows[Frames], split: str, trials: Sequence[int]) -> dict[str, Frames]:
    """Frames by split, of all trials or of these."""
    every = source.of_split(split)
    if not trials:
        return every
    trial_ids = {name: frames.table("trial_id")["trial_id"].to_pylist() for name, frames in every.items()}
    there = {id for ids in trial_ids.values() for id in ids}
    if missing := sorted(set(trials) - there):
        raise RegistrationError(
            f"{source.dataset} {source.config}, split {split}, has no trial {listed(missing)}; there are "
            f"{listed(sorted(there), 12)}"
        )
    rows = {name: [row for row, id in enumerate(ids) if id in trials] for name, ids in trial_ids.items()}
    return {name: every[name].taken(indices) for name, indices in rows.items() if indices}


def _jobs(frames: Frames, starts: Starts, source: Rows[Frames], incomplete: Path, device: str) -> list[TrialJob]:
    """One job for each trial that has an initial pose."""
    rows: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for row, ids in enumerate(frames.table("measurement_id", "trial_id", "frame_index").to_pylist()):
        rows[ids["trial_id"]].append((ids["frame_index"], row, ids["measurement_id"]))
    jobs = []
    for trial_id, of_trial in sorted(rows.items()):
        own = {id: starts[id] for _, _, id in sorted(of_trial) if id in starts}
        shown = {pose["anatomy_id"] for poses in own.values() for pose in poses.values()}
        if shown:
            taken = frames.taken([row for _, row, _ in sorted(of_trial)])
            meshes = {id: source.meshes[id] for id in sorted(shown)}
            file = incomplete / _TRIALS / f"trial_{trial_id:06d}.parquet"
            jobs.append(TrialJob(taken, own, meshes, file, incomplete, device))
    return jobs


def _finished(target: Path, record: Mapping[str, object]) -> pa.Table | None:
    """Poses of the same registration, if it is complete already."""
    if not target.exists():
        return None
    try:
        found = pq.read_table(target, page_checksum_verification=True)
        same = json.loads((found.schema.metadata or {}).get(b"record", b"null")) == json.loads(json.dumps(record))
    except (OSError, ValueError, RecursionError):  # pyarrow's are one of these
        same = False
    if not same:
        raise RegistrationError(
            f"{target} exists and is not the result of this registration (same frames, implants, initial poses, "
            "options and versions). Nothing was changed. Choose another output, or remove this file, as after any "
            "change of the data set."
        )
    shutil.rmtree(incomplete_folder(target), ignore_errors=True)  # if killed during the clean-up
    return found


def _result(output: Path, poses: pa.Table, source: Rows[Frames], frames: int) -> Registrations:
    registered = len(set(poses["measurement_id"].to_pylist()))
    return Registrations(output, poses, source, frames, frames - registered)
