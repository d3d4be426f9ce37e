"""Frames to register, with their true poses and initial poses of many kinds, and what comes of each."""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import concatenate_datasets, load_dataset
from numpy.typing import NDArray

from tests.benchmarks.bench_accuracy import METHODS, data, trained
from tests.benchmarks.cramer_rao import bound
from tests.benchmarks.independent_frames import independent_frame
from tests.benchmarks.pose_errors import moved, pose_error
from tests.benchmarks.table import CORES
from veriserum_hf.core.domain import PLANES
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.geometry.pose import make_transform, matrix_to_quaternion, quaternion_to_matrix
from veriserum_hf.jobs.threads import single_threaded_opencv
from veriserum_hf.poses.files import poses_by_frame, read_poses
from veriserum_hf.registration.refine import register
from veriserum_hf.simulation.implants import IMPLANTS, implant_mesh
from veriserum_hf.simulation.intensifier import expose
from veriserum_hf.simulation.scenario import scene, trial
from veriserum_hf.simulation.settings import Settings, Stream
from veriserum_hf.simulation.write import simulate

HELD_OUT = Settings(trials=60, frames_per_trial=2, seed=11)
BARE = replace(HELD_OUT, height_px=800)  # frames without holders are as large as the bound is worked out for
_SIZE = 512
_OURS = "ours, both planes"
Frame = tuple[dict[str, Any], dict[str, NDArray[np.float64]]]  # a row, and the true poses


@dataclass(frozen=True)
class Found:
    """One registered implant.

    Attributes
    ----------
    error : (6,) shift of the origin in mm, rotation vector in deg: registration less truth.
    sigma : (6,) as stated; NaN where it has failed.
    bound : (2,) Cramer-Rao bound of shift and rotation, mm and deg; NaN where it was not computed.
    verdict : as stated.
    seconds : of processor time, for its whole frame.

    """

    error: NDArray[np.float64]
    sigma: NDArray[np.float64]
    bound: NDArray[np.float64]
    verdict: str
    seconds: float

    @property
    def off(self) -> tuple[float, float]:
        """Distance in mm and angle in deg."""
        return float(np.linalg.norm(self.error[:3])), float(np.linalg.norm(self.error[3:]))


@lru_cache(maxsize=1)
def _dataset(folder: Path) -> tuple[Any, dict[int, dict[str, NDArray[np.float64]]]]:
    """Rows of the archive of this benchmark, all splits, and the true poses by measurement."""
    splits = load_dataset(str(folder / "registration" / "dataset"), "calibrated")
    truth: dict[int, dict[str, NDArray[np.float64]]] = {}
    for row in pq.read_table(folder / "registration" / "archive" / "truth.parquet").to_pylist():
        T = make_transform(quaternion_to_matrix(row["quaternion_xyzw"]), row["translation_mm"])
        truth.setdefault(row["measurement_id"], {})[row["component"]] = T
    return concatenate_datasets([splits[name] for name in sorted(splits)]), truth


def cluttered(folder: Path, index: int) -> Frame:
    """Frame as an archive has it."""
    rows, truth = _dataset(folder)
    row = rows[index]
    return row, truth[row["measurement_id"]]


def bare(folder: Path, index: int) -> Frame:
    """Frame without holders, otherwise as the simulator draws it."""
    number, frame = divmod(index, BARE.frames_per_trial)
    shown = trial(BARE, number)
    row = _row(number, frame)
    for place, plane in enumerate(PLANES):
        raw = expose(
            scene(BARE, number, frame, with_holders=False),
            shown.session.rig[plane],
            shown.session.distortions[plane],
            shown.imaging[plane],
            BARE.rng(Stream.NOISE, number, frame, place),
            height_px=BARE.height_px,
        )
        encoded = cv2.imencode(".jpg", raw, (cv2.IMWRITE_JPEG_QUALITY, shown.imaging[plane].jpeg_quality))[1]
        decoded = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
        row[f"image_{plane}"] = shown.session.distortions[plane].correct(decoded, _SIZE)
    return row, {component: shown.pose(component, frame) for component in shown.anatomy_ids}


def independent(folder: Path, index: int) -> Frame:
    """Frame of another renderer and imaging chain, holders included."""
    number, frame = divmod(index, HELD_OUT.frames_per_trial)
    shown = trial(HELD_OUT, number)
    row, rng = _row(number, frame), np.random.default_rng([99, index])
    for plane in PLANES:
        row[f"image_{plane}"] = independent_frame(scene(HELD_OUT, number, frame), shown.session.rig[plane], rng)
    return row, {component: shown.pose(component, frame) for component in shown.anatomy_ids}


def _row(number: int, frame: int) -> dict[str, Any]:
    shown = trial(HELD_OUT, number)
    cameras = {f"camera_{plane}": shown.session.rig[plane].camera(_SIZE) for plane in PLANES}
    poses = {component: {"anatomy_id": id} for component, id in shown.anatomy_ids.items()}
    return {"measurement_id": HELD_OUT.measurement_id(number, frame), **cameras, **poses}


def flipped(T: NDArray[np.float64], anatomy_id: int, rng: np.random.Generator) -> Any:
    """Tibial component rotated by 180 deg about its stem, where it looks similar, and off by 3 mm and 3 deg."""
    half = np.diag([-1.0, 1.0, -1.0, 1.0]) if IMPLANTS[anatomy_id].component == "tibia" else np.eye(4)
    return moved(T @ half, anatomy_id, rng, 3, 3)


def registered(folder: Path, frames: str, start: str, index: int) -> list[Found]:
    """Register one frame; the names are those of the functions above that make it and its initial pose."""
    row, truth = {"cluttered": cluttered, "bare": bare, "independent": independent}[frames](folder, index)
    rng = np.random.default_rng([7, index])
    starts, ids = {}, {component: row[component]["anatomy_id"] for component in truth}
    for component, T in truth.items():
        if start == "network":
            starts[component] = _network(folder)[row["measurement_id"]][component]
            continue
        off = {"near": (5, 5), "far": (10, 10), "lost": (25, 40)}.get(start)
        begin = moved(T, ids[component], rng, *off) if off else flipped(T, ids[component], rng)
        quaternion = matrix_to_quaternion(begin[:3, :3])
        starts[component] = {"translation_mm": begin[:3, 3], "quaternion_xyzw": quaternion}
        starts[component]["anatomy_id"] = ids[component]
    meshes = {id: implant_mesh(id) for id in ids.values()}
    began = time.process_time()
    poses = register(row, meshes, starts)
    seconds = time.process_time() - began
    bounds = np.full((len(poses), 2), np.nan)
    if frames == "bare":
        number, frame = divmod(index, BARE.frames_per_trial)
        shown = trial(BARE, number)
        parts = scene(BARE, number, frame, with_holders=False)
        least = bound(parts, shown.session.rig, shown.session.distortions, shown.imaging, BARE.height_px)
        bounds = np.sqrt([[np.trace(each[part, part]) for part in (np.s_[:3], np.s_[3:])] for each in least])
    found = []
    for pose, T, least_sd in zip(poses.values(), truth.values(), bounds, strict=True):
        error = pose_error(pose.T_world_implant, T)
        found.append(Found(error, np.sqrt(np.diag(pose.covariance)), least_sd, pose.verdict, seconds))
    return found


@lru_cache(maxsize=1)
def _network(folder: Path) -> dict[int, dict[str, dict[str, Any]]]:
    return poses_by_frame(read_poses(folder / "registration" / "network.parquet"))


def _in_a_process(folder: Path, frames: str, start: str, index: int) -> list[Found]:
    with single_threaded_opencv():
        torch.set_num_threads(1)
        return registered(folder, frames, start, index)


def several(folder: Path, frames: str, start: str, count: int) -> list[Found]:
    """Register so many frames, spread evenly over the archive, in as many processes as there are cores."""
    indices = np.unique(np.linspace(0, HELD_OUT.trials * HELD_OUT.frames_per_trial - 1, count).astype(int)).tolist()
    one = partial(_in_a_process, folder, frames, start)
    with ProcessPoolExecutor(CORES, get_context("spawn")) as pool:
        return [found for each in pool.map(one, indices) for found in each]


def archived(folder: Path) -> None:
    """Archive and data set, made where they are not there yet."""
    own = folder / "registration"
    own.mkdir(parents=True, exist_ok=True)
    if not (own / "dataset").exists():
        simulate(own / "archive", HELD_OUT)
        convert_archive(own / "archive", own / "dataset")


def prepared(folder: Path) -> None:
    """Archive, data set and the network's poses, made where they are not there yet."""
    own = folder / "registration"
    archived(folder)
    if not (own / "network.parquet").exists():
        from veriserum_hf.dataset.open import open_rows
        from veriserum_hf.inference.models import load_model
        from veriserum_hf.inference.predictions import write_predictions

        trained(folder, _OURS, METHODS[_OURS], data(folder))
        model = load_model(str(folder / _OURS.translate(str.maketrans(" :'`,", "_____"))))
        rows = open_rows(str(own / "dataset"), "calibrated").joined("all")
        write_predictions(model, rows, own / "network.parquet", about={}, batch_size=16)
