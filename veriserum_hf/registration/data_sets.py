"""``veriserum register``: registration of whole data sets, one job a trial; an interrupted run is resumed.

Everything is written below ``OUT.incomplete`` and moved to ``OUT`` in one step at the end: one small file for each
finished trial, and the predictions of a model, so that it runs once. The result does not depend on the number of
processes.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from veriserum_hf.archive import VeriserumArchive, require_agreement
from veriserum_hf.core import CAMERA_OF, CONVERGED, __version__, listed
from veriserum_hf.dataset import ALL, SOURCES_OF_ROWS, CamerasFile, Frames, Rows, check_trials, is_archive, open_rows
from veriserum_hf.errors import RegistrationError
from veriserum_hf.jobs import (
    incomplete_folder,
    keep_whole,
    library_versions,
    parquet_bytes,
    put_in_place,
    run_jobs,
    source_hash,
    staging_folder,
    write_file,
)
from veriserum_hf.poses import REGISTERED_SCHEMA, SessionPlanes, planes_by_session, poses_by_frame
from veriserum_hf.registration.initial_poses import (
    NONE,
    StartingModel,
    check_start,
    configs_for,
    identity_of_start,
    starts_of,
)
from veriserum_hf.registration.refine import METHODS, ChosenMethod
from veriserum_hf.registration.trials.jobs import TRIALS, TrialJob, device, trial_jobs
from veriserum_hf.registration.trials.searched_implants import implants_of_poses, implants_to_find

# What shapes poses, in addition to frames, initial poses and options.
SOURCES_OF_POSES = (
    *SOURCES_OF_ROWS,
    "dataset.archive_frames",
    "dataset.frames",
    "dataset.model_frames",
    "dataset.image_files",
    "dataset.stored",
    "dataset.whole_camera",
    "geometry.femoral_component",
    "geometry.implant_axes",
    "geometry.sessions",
    "geometry.tibial_component",
    "poses",
    "rendering",
    "modeling",
    "inference",
    "registration",
)
_LIBRARIES = ("manifold3d", "numba", "roma", "torch", "trimesh")
_MODEL_STARTS, _MERGED = "model.parquet", "poses.parquet"  # below the folder of unfinished work
ARCHIVE_PX = 512  # edge of the corrected images of an archive's frames
Progress = Callable[[int, int], None]


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

    def planes_by_session(self) -> list[SessionPlanes]:
        """Disagreement of the planes in each session."""
        ids = pc.unique(self.poses["measurement_id"])
        names = ("measurement_id", "trial_id", *CAMERA_OF.values())
        tables = (frames.table(*names) for frames in self.source.splits.values())
        rows = [row for each in tables for row in each.filter(pc.is_in(each["measurement_id"], ids)).to_pylist()]
        return planes_by_session(rows, poses_by_frame(self.poses))


def register_dataset(
    dataset: str,
    output: str | os.PathLike[str],
    *,
    start: str = "refined",
    model: str | None = None,
    method: ChosenMethod = "auto",
    split: str = ALL,
    trials: Sequence[int] = (),
    cameras: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    model_progress: Progress | None = None,
    any_agreement: bool = False,
    camera_covariance: bool = True,
) -> Registrations:
    """Register all frames of a data set or an archive, or resume where this was interrupted.

    Parameters
    ----------
    dataset : folder that ``veriserum convert`` made, data set on the hub, or archive.
    output : Parquet file to write.
    start : initial poses: ``"target"``, ``"refined"``, ``"manual"``, ``"initial"`` (of own frames), ``"model"``,
        ``"none"`` (found in the images), or a file of poses.
    model : run folder or hub name, with the start ``"model"``.
    method : see `veriserum_hf.registration.refine.register`.
    split : train, validation, test or all.
    trials : ids; all if empty.
    cameras : file of refined cameras, which replace those of the frames.
    workers : processes; None for one a core, or a single one with a GPU. The result does not depend on it.
    executor : runs the trials instead of processes of this machine, each on the device that it finds there; see
        `veriserum_hf.jobs.run_jobs`. A model's predictions are made here.
    progress : called with the number of frames done and of all.
    model_progress : the same for the model's predictions.
    any_agreement : register an archive also where its labels and images agree in another reading only.
    camera_covariance : whether the covariance of refined cameras is part of that of the poses.

    Raises
    ------
    RegistrationError
        If there is nothing to register, an implant cannot be rendered, it is unknown which implants frames without
        poses show, or the output exists and is another registration, or cannot be written.
    CalibrationError
        If the refined cameras cannot be read, or are not those of all frames.
    DataSetError
        If the data set has no such frames or no implants, or cannot be loaded.
    TrainingError
        If the file of initial poses or the model cannot be used, or is of another data set.
    ArchiveError, ConversionError
        If the archive's structure is invalid, its labels and images do not agree, or it has no implants.
    WorkerError
        If a worker process was killed.

    """
    check_start(start, model)
    if method not in METHODS:
        raise RegistrationError(f"method is {method!r}; expected {', '.join(METHODS)}")
    refined = None if cameras is None else CamerasFile.read(Path(cameras))
    target = Path(output).expanduser().absolute()
    source = open_rows(dataset, configs_for(start), archive_px=ARCHIVE_PX)
    if refined is not None:
        source = source.with_cameras(refined.cameras)
    chosen = _chosen(source, split, trials)
    if refined is not None:
        for each in chosen.values():
            check_trials(refined.cameras, each.table("trial_id")["trial_id"].to_pylist())
    frames = sum(map(len, chosen.values()))
    record = _record(source, chosen, split, trials, method, identity_of_start(start, model), refined)
    covariances = source.plane_covariances if camera_covariance else {}
    if len(covariances) < len(source.plane_covariances):
        record["camera_covariance"] = False
    if (finished := _finished(target, record)) is not None:
        return _result(target, finished, source, frames)
    if is_archive(dataset) and not any_agreement:  # of a data set, the conversion has done that
        require_agreement(VeriserumArchive(dataset))
    # Before the folder is made: it would block the next attempt, with other initial poses.
    starting_model = StartingModel(model, source, chosen) if model is not None else None
    starts = starts_of(source, chosen, start) if model is None and start != NONE else {}
    searched = implants_to_find(source, chosen) if start == NONE else {}
    about = {"veriserum_hf": __version__, "dataset": dataset, "start": start, "method": method}
    about |= {"model": model} if model else {}
    about |= refined.about if refined is not None else {}
    with staging_folder(target, record, "registration", RegistrationError) as incomplete:
        if (finished := _finished(target, record)) is not None:  # by another process, a moment ago
            return _result(target, finished, source, frames)
        keep_whole(incomplete)
        (incomplete / TRIALS).mkdir(exist_ok=True)
        if starting_model is not None:
            starts = starting_model.starts(incomplete / _MODEL_STARTS, model_progress)
            searched = implants_of_poses(starts)
        jobs = [
            job
            for each in chosen.values()
            for job in trial_jobs(each, starts, searched, source, incomplete, method, covariances)
        ]
        if workers is None and executor is None and device() != "cpu":
            workers = 1
        reads = [path for path in (Path(dataset).absolute(),) if path.exists()]
        run_jobs(jobs, workers, progress, executor=executor, folder=incomplete, reads=reads)
        poses = _registered(jobs, source, frames)
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
    method: ChosenMethod,
    start: Mapping[str, str | None],
    refined: CamerasFile | None,
) -> dict[str, object]:
    """Identity of a registration, as JSON."""
    versions = {"veriserum_hf": __version__, "source": source_hash(*SOURCES_OF_POSES)}
    return {
        "versions": versions | library_versions(*_LIBRARIES),
        "dataset": {"config": source.config, "identity": source.digest(chosen)},
        "options": {"split": split, "trials": sorted(trials), "method": method}
        | ({} if refined is None else {"cameras_sha256": refined.sha256}),
        "start": start,
    }


def _registered(jobs: Sequence[TrialJob], source: Rows[Frames], frames: int) -> pa.Table:
    """Poses of all trials."""
    poses = pa.concat_tables(pq.read_table(job.file) for job in sorted(jobs, key=lambda job: job.file))
    if not len(poses):
        raise RegistrationError(
            f"no implant was found in the images of {frames} frame{'s' if frames > 1 else ''} of {source.name}; give "
            "initial poses of some of them, with --start FILE"
        )
    return poses


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
