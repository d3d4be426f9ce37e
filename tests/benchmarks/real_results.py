"""Results of registrations of real frames, made in processes and kept in files, so that a run resumes.

They are below the folder of the studies, under a hash of what the registration does: a changed method begins anew.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

import veriserum_hf
from tests.benchmarks.real_frames import IMPLANTS, TWO_PLANES, Array, Found, Poses, Task, register_frame, study
from tests.benchmarks.table import CORES
from tests.fixtures.real_studies import REAL, biplane_frames
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import make_transform
from veriserum_hf.jobs import source_hash
from veriserum_hf.poses import read_trajectory, transforms

_SPACING = 20  # of the frames; some lie between
_FOUND = 0.7  # share of the outline with an edge within a pixel: where a search for an initial pose ends
_LIMIT = 60.0  # mm and deg, of that search


class Results:
    """Results by task, made in as many processes as there are cores, and kept in files."""

    def __init__(self, folder: Path) -> None:
        rooms = Path(veriserum_hf.__file__).parent
        inner = sorted(path.parent.name for path in (rooms / "registration").glob("*/__init__.py"))
        sources = ("registration", *(f"registration.{name}" for name in inner), "rendering", "geometry")
        self.folder = folder
        self.kept = folder / f"results-{source_hash(*sources)[:12]}"
        self.kept.mkdir(exist_ok=True)

    def of(self, tasks: Mapping[Task, Poses]) -> dict[Task, dict[str, Found]]:
        """Register from these initial poses, unless it was done before."""
        done = {task: found for task in tasks if (found := self._read(task)) is not None}
        missing = {task: initial for task, initial in tasks.items() if task not in done}
        with _processes() as pool:
            jobs = {pool.submit(_in_a_process, self.folder, task, initial): task for task, initial in missing.items()}
            for job in as_completed(jobs):
                task = jobs[job]
                done[task] = job.result()
                text = json.dumps({name: asdict(found) for name, found in done[task].items()})
                _written(self._path(task), text)
        return {task: done[task] for task in tasks}

    def initial_poses(self) -> dict[int, Poses]:
        """An initial pose of every frame in two planes: its own, or that found from the frames next to it.

        Implants that were not found are missing.
        """
        frames, of = biplane_frames(), study(self.folder, TWO_PLANES)
        poses = {number: initial for number in range(len(frames)) if (initial := of.initial(number))}
        path = self.kept / "initial_poses.json"
        if not path.exists():
            spaced = [number for number, frame in enumerate(frames) if frame % _SPACING == 0]
            known = [number for number in spaced if number in poses]
            before, after = spaced[: spaced.index(known[0])][::-1], spaced[spaced.index(known[-1]) + 1 :]
            chains = ((known[1], known[0], before), (known[-2], known[-1], after))
            with _processes() as pool:
                jobs = [pool.submit(_chained, self.folder, [poses[a], poses[b]], [a, b, *on]) for a, b, on in chains]
                found = {number: each for job in jobs for number, each in job.result().items()}
            text = {number: {name: T.tolist() for name, T in each.items()} for number, each in found.items()}
            _written(path, json.dumps(text))
        read = json.loads(path.read_text())
        found = {int(number): {name: np.array(T) for name, T in each.items()} for number, each in read.items()}
        return dict(sorted((poses | found).items()))

    def scratch(self, number: int) -> tuple[Poses, float] | None:
        """Initial poses from the images alone, and the CPU-s they took; None without such a search."""
        with _processes() as pool:
            return pool.submit(_from_scratch, self.folder, number).result()

    def _path(self, task: Task) -> Path:
        return self.kept / ("-".join(map(str, task)).replace(" ", "_") + ".json")

    def _read(self, task: Task) -> dict[str, Found] | None:
        path = self._path(task)
        if not path.exists():
            return None
        return {name: Found(**found) for name, found in json.loads(path.read_text()).items()}


def _written(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def _processes() -> ProcessPoolExecutor:
    os.environ["OMP_NUM_THREADS"] = "1"
    return ProcessPoolExecutor(CORES, get_context("spawn"), initializer=_single_threaded)


def _single_threaded() -> None:
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@cache
def _warm(folder: Path, name: str, method: str) -> None:
    """Compile and load what a first registration in a process needs, which is not part of its time."""
    task = Task(name, 6 if name == TWO_PLANES else 0, "", method=method)
    register_frame(folder, task, study(folder, name).initial(task.number))


def _in_a_process(folder: Path, task: Task, initial: Poses) -> dict[str, Found]:
    if task.method != "intensity":
        _warm(folder, task.study, task.method)
    return register_frame(folder, task, initial)


def published_femur_mm(folder: Path) -> Array:
    """Positions of the femur in the world by the published poses, (n, 3) mm, of all frames of the study."""
    camera = study(folder, TWO_PLANES).camera(0, "bs")
    positions: Array = read_trajectory(REAL / TWO_PLANES / "camera_1/femur_published.jts", camera)[:, :3, 3]
    return positions


def _chained(folder: Path, poses: list[Poses], numbers: list[int]) -> dict[int, Poses]:
    """Initial poses of frames in order, from those of the first two; the femur's published positions move both."""
    frames, femur_mm = biplane_frames(), published_femur_mm(folder)
    found: dict[int, Poses] = {}
    for k, number in enumerate(numbers[2:], 2):
        shift = np.eye(4)
        shift[:3, 3] = femur_mm[frames[number]] - femur_mm[frames[numbers[k - 1]]]
        best: dict[str, Found] = {}
        for initial in _candidates(folder, number, poses[-2], poses[-1], shift):
            task = Task(TWO_PLANES, number, "search")
            for name, one in register_frame(folder, task, initial, limit_mm=_LIMIT, limit_deg=_LIMIT).items():
                if one.verdict != "failed" and (name not in best or one.share > best[name].share):
                    best[name] = one
            if len(best) == len(IMPLANTS) and min(one.share for one in best.values()) >= _FOUND:
                break
        found[number] = {name: np.array(one.T) for name, one in best.items()}
        # Frames go on from what is known, if need be the last pose.
        poses.append({name: found[number].get(name, shift @ poses[-1][name]) for name in IMPLANTS})
    return found


def _candidates(folder: Path, number: int, older: Poses, last: Poses, shift: Array) -> Iterator[Poses]:
    """Initial poses of a frame: as in the frame before, with the same rotation once more, and from scratch."""
    yield {name: shift @ last[name] for name in IMPLANTS}
    extrapolated = {}
    for name, T in last.items():
        rotation = T[:3, :3] @ older[name][:3, :3].T
        at = shift @ T
        extrapolated[name] = make_transform(rotation @ T[:3, :3], at[:3, 3])
    yield extrapolated
    if (scratch := _from_scratch(folder, number)) is not None and scratch[0]:
        yield scratch[0]


def _from_scratch(folder: Path, number: int) -> tuple[Poses, float] | None:
    try:
        from veriserum_hf.registration import find_poses
    except ImportError:
        return None
    of = study(folder, TWO_PLANES)
    row = {**of.rows[number], "femur": None, "tibia": None}
    began = time.process_time()
    try:
        found = find_poses(row, IMPLANTS, {id: of.meshes[name] for name, id in IMPLANTS.items()})
    except RegistrationError:
        found = {}
    return {name: transforms([pose])[0] for name, pose in found.items()}, time.process_time() - began
