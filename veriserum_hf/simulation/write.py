"""``veriserum simulate``: a simulated archive in the layout of the download, with its exact poses.

As a conversion does, it works below ``OUT.incomplete`` and puts ``OUT`` in place in one step at the end. Every frame
appears under its name in one step and depends on the settings alone: an interrupted simulation resumes where it
stopped, and its result is the same to the byte, whatever the number of processes.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pyarrow as pa

from veriserum_hf.archive import SIMULATION_RECORD
from veriserum_hf.core import PLANES, PlaneName, __version__, listed
from veriserum_hf.errors import SimulationError
from veriserum_hf.jobs import (
    SUMS,
    Job,
    check_place,
    damaged_files,
    incomplete_folder,
    keep_whole,
    library_versions,
    list_whole,
    listed_files,
    parquet_bytes,
    put_in_place,
    run_jobs,
    source_hash,
    staging_folder,
    write_file,
    write_sums,
)
from veriserum_hf.poses import TRUTH_SCHEMA
from veriserum_hf.simulation.activities import FRAME_RATE_HZ
from veriserum_hf.simulation.image_files import GridJob, MarkerJob, frame_jobs
from veriserum_hf.simulation.implants import IMPLANT_PAIRS, IMPLANTS, write_nifti, write_stl
from veriserum_hf.simulation.poses import (
    CALIBRATION_TRUTH_SCHEMA,
    calibration_truth_rows,
    pose_ids,
    pose_rows,
    truth_rows,
)
from veriserum_hf.simulation.scenario import SESSIONS, session, trial
from veriserum_hf.simulation.settings import LIBRARIES_OF_FRAMES, SOURCES_OF_FRAMES, Settings
from veriserum_hf.simulation.tables import (
    ANATOMIES_FOLDER,
    CALIBRATION_FOLDER,
    DATABASE_NAME,
    FRAMES_FOLDER,
    CalibrationRows,
    CalibrationTables,
    Row,
    TrialRow,
    calibration_tables,
    session_tables,
    write_csv,
    write_database,
)

TRUTH_NAME, CALIBRATION_TRUTH_NAME = "truth.parquet", "calibration_truth.parquet"
_ARCHIVE = "archive"  # below the folder of unfinished work: what becomes the result


def simulate(
    output: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a simulated archive, or resume one that was interrupted.

    Parameters
    ----------
    output : folder to make; it must not exist, or be empty.
    settings : what to simulate.
    workers : processes; None for one a core. The result does not depend on it.
    executor : runs the work instead of processes of this machine; see `veriserum_hf.jobs.run_jobs`.
    progress : called with the number of frames done and of all; a dual-plane frame counts as one.

    Returns
    -------
    The finished folder. It also holds ``truth.parquet``, the exact pose of every implant in every frame,
    ``calibration_truth.parquet``, those of the marker phantom, and ``simulation.json``: all settings, the
    true geometry of both planes for every source-intensifier calibration, and what was drawn for every trial.

    Raises
    ------
    SimulationError
        If the folder cannot be made: it holds something, belongs to another simulation, or the disk is full.

    """
    settings = settings or Settings()
    target = Path(output).expanduser().resolve()
    check_place(target, SimulationError)
    if _finished(target, settings):
        return target
    with staging_folder(target, _record(settings), "simulation", SimulationError) as incomplete:
        if _finished(target, settings):  # by another process, a moment ago
            return target
        keep_whole(incomplete)
        archive = incomplete / _ARCHIVE
        (archive / FRAMES_FOLDER).mkdir(parents=True, exist_ok=True)
        (archive / CALIBRATION_FOLDER).mkdir(exist_ok=True)
        _write_all_but_images_once(incomplete, settings)
        jobs: list[Job] = [
            *frame_jobs(settings, archive / FRAMES_FOLDER, incomplete),
            *_phantom_jobs(settings, archive / CALIBRATION_FOLDER, incomplete),
        ]
        run_jobs(jobs, workers, progress, executor=executor, folder=incomplete)
        write_sums(incomplete, archive)
        put_in_place(archive, target)
    return target


def _finished(target: Path, settings: Settings) -> bool:
    """Whether the result is there already; SimulationError where it is damaged, or something else is there."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    try:
        found = json.loads((target / SIMULATION_RECORD).read_text())
    except (OSError, ValueError, RecursionError):
        found = {}
    record = json.loads(json.dumps(_record(settings)))
    if not isinstance(found, dict) or {name: found.get(name) for name in record} != record:
        raise SimulationError(
            f"{target} exists already and is not an empty folder. Nothing was changed. Choose another folder, or "
            "remove this one."
        )
    if damaged := damaged_files(target):
        raise SimulationError(
            f"{target} is the result of this simulation, but damaged: {listed(damaged)} missing or not as written "
            f"(see {SUMS}). Remove the folder and run the same command again."
        )
    shutil.rmtree(incomplete_folder(target), ignore_errors=True)  # if killed during the clean-up
    return True


def _write_all_but_images_once(incomplete: Path, settings: Settings) -> None:
    """The same as `write_all_but_images`, unless every file of it is there and whole."""
    archive = incomplete / _ARCHIVE
    images = {archive / FRAMES_FOLDER, archive / CALIBRATION_FOLDER}
    tables = [path for name in listed_files(incomplete) if (path := incomplete / name).parent not in images]
    if tables and all(path.exists() for path in tables):
        return
    (archive / SIMULATION_RECORD).unlink(missing_ok=True)
    write_all_but_images(archive, settings)
    files = (path for path in archive.rglob("*") if path.is_file() and path.parent not in images)
    list_whole(incomplete, sorted(files))


def write_all_but_images(archive: Path, settings: Settings) -> None:
    """Write tables, implants, exact poses and, as the last, the record of a simulated archive into a folder.

    Nothing is done where the record exists already.
    """
    if (archive / SIMULATION_RECORD).exists():
        return
    (archive / ANATOMIES_FOLDER).mkdir(parents=True, exist_ok=True)
    for anatomy_id in _anatomy_ids(settings):
        write_stl(anatomy_id, archive / ANATOMIES_FOLDER / f"ana_{anatomy_id:06d}.stl")
        if settings.nifti:
            write_nifti(anatomy_id, archive / ANATOMIES_FOLDER / f"ana_{anatomy_id:06d}_HU10000_filled.nii")
    trials: list[TrialRow] = []
    poses: list[Row] = []
    truth: list[Row] = []
    imaging: dict[int, dict[PlaneName, dict[str, object]]] = {}
    for index, ids in groupby(pose_ids(settings), key=itemgetter(0)):
        shown = trial(settings, index)
        measurements = range(settings.measurement_id(index, 0), settings.measurement_id(index + 1, 0))
        trials.append(TrialRow(shown.id, shown.trajectory.task, shown.session.id, measurements))
        poses += pose_rows(settings, shown, ids)
        truth += truth_rows(settings, shown)
        imaging[shown.id] = {plane: asdict(shown.imaging[plane]) for plane in PLANES}
    _write_tables(archive, settings, trials, poses)
    (archive / TRUTH_NAME).write_bytes(parquet_bytes(pa.Table.from_pylist(truth, TRUTH_SCHEMA)))
    if not settings.csv:
        markers = calibration_truth_rows(settings, _calibrations(settings).markers)
        truth_table = pa.Table.from_pylist(list(markers), CALIBRATION_TRUTH_SCHEMA)
        (archive / CALIBRATION_TRUTH_NAME).write_bytes(parquet_bytes(truth_table))
    drawn: dict[str, object] = {"imaging_by_trial": imaging, "rig_by_source_calibration": _rigs(settings)}
    errors = _camera_errors(settings)
    if errors:
        drawn["camera_errors_by_source_calibration"] = errors
    if settings.distortion == "real":
        drawn["distortion_by_calibration"] = _distortions(settings)
    write_file(archive / SIMULATION_RECORD, json.dumps(_record(settings) | drawn, indent=1))


def _record(settings: Settings) -> dict[str, object]:
    """What makes two simulations the same."""
    versions = {"veriserum_hf": __version__, "source": source_hash(*SOURCES_OF_FRAMES, libraries=LIBRARIES_OF_FRAMES)}
    return {"versions": versions | library_versions(*LIBRARIES_OF_FRAMES), "settings": asdict(settings)}


def _anatomy_ids(settings: Settings) -> list[int]:
    return sorted({anatomy_id for pair in IMPLANT_PAIRS[: settings.pairs] for anatomy_id in pair})


def _calibrations(settings: Settings) -> CalibrationTables:
    days = [session(settings, index) for index in range(SESSIONS)]
    return calibration_tables(
        [
            CalibrationRows(day.distortion_id, day.source_id, day.stored, day.source, settings.marker_frames)
            for day in days
        ]
    )


def _rigs(settings: Settings) -> dict[int, dict[PlaneName, dict[str, object]]]:
    """The true geometry of both planes, by source-intensifier calibration."""
    days = [session(settings, index) for index in range(SESSIONS)]
    return {
        day.source_id: {
            name: {
                "T_world_intensifier": plane.T_world_intensifier.tolist(),
                "principal_point_mm": plane.principal_point_mm.tolist(),
                "sid_mm": plane.sid_mm,
            }
            for name, plane in day.rig.items()
        }
        for day in days
    }


def _camera_errors(settings: Settings) -> dict[int, dict[str, object]]:
    """The true cameras less the stored ones, by source-intensifier calibration; empty where they are the same."""
    days = [session(settings, index) for index in range(SESSIONS)]
    return {day.source_id: day.errors.as_json() for day in days if not day.errors.none}


def _distortions(settings: Settings) -> dict[int, dict[PlaneName, str]]:
    """Text of the true distortion of both planes, by distortion calibration."""
    days = [session(settings, index) for index in range(SESSIONS)]
    return {day.distortion_id: {name: d.to_string() for name, d in day.distortions.items()} for day in days}


def _phantom_jobs(settings: Settings, folder: Path, unfinished: Path) -> Iterator[Job]:
    if settings.csv:  # the CSV files do not state what a phantom's frame belongs to
        return
    calibrations = _calibrations(settings)
    for index in range(SESSIONS):
        day = session(settings, index)
        for plane in PLANES:
            yield GridJob(settings, index, calibrations.grids[day.distortion_id, plane], plane, folder, unfinished)
        for frame, number in enumerate(calibrations.markers[day.source_id]):
            yield MarkerJob(settings, index, frame, number, folder, unfinished)


def _write_tables(archive: Path, settings: Settings, trials: list[TrialRow], poses: list[Row]) -> None:
    anatomies = {id: (IMPLANTS[id].component, IMPLANTS[id].description) for id in _anatomy_ids(settings)}
    calibrations = _calibrations(settings).tables
    tables = session_tables(trials, anatomies, FRAME_RATE_HZ) | calibrations | {"poses": poses}
    if settings.csv:
        write_csv(archive, tables)
    else:
        (archive / DATABASE_NAME).unlink(missing_ok=True)  # half written when the simulation was interrupted
        try:
            write_database(archive / DATABASE_NAME, tables)
        except sqlite3.OperationalError as error:  # what a full disk is to SQLite
            raise OSError(f"{DATABASE_NAME}: {error}") from error
