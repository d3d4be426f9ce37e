"""Runs over real frames: which are registered from where, and how far their poses are from each other."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.benchmarks.real_frames import TWO_PLANES, Array, Found, Poses, Task, off, placed, starts, study
from tests.benchmarks.real_results import Results
from veriserum_hf.core import FAILED
from veriserum_hf.geometry import Camera

OWN = "initial pose"
_SAME = (0.05, 0.1)  # mm and deg between results that are one pose


class One(NamedTuple):
    """A registered implant and where it came from."""

    task: Task
    component: str
    found: Found
    initial: Array  # the pose whose neighbourhood it was registered from

    @property
    def wrong(self) -> bool:
        return self.found.verdict in (FAILED, "refused")

    def apart(self, other: Array) -> tuple[float, float]:
        return off(np.array(self.found.T), other, np.array(self.found.center_mm))


class Bench:
    """Registers what the groups of rows ask for, and remembers it for the details."""

    def __init__(self, folder: Path, method: str, every: int) -> None:
        self.folder, self.method, self.every = folder, method, every
        self.results = Results(folder)
        self.seen: list[One] = []
        self._initial: dict[int, Poses] | None = None

    def frames(self, name: str) -> list[int]:
        """Numbers of frames of a study that are measured; in two planes those with an initial pose."""
        if name != TWO_PLANES:
            return list(range(len(study(self.folder, name).rows)))[:: self.every]
        return list(self.initial())[:: self.every]

    @property
    def expected(self) -> int:
        """Number of frames in two planes that are to be registered, whether they have an initial pose or not."""
        return len(self.frames(TWO_PLANES)) if self.every > 1 else len(study(self.folder, TWO_PLANES).rows)

    def initial(self) -> dict[int, Poses]:
        """Initial poses of the study in two planes; the search for missing ones is not part of a short run."""
        if self._initial is None:
            of = study(self.folder, TWO_PLANES)
            own = {number: poses for number in range(len(of.rows)) if (poses := of.initial(number))}
            self._initial = own if self.every > 1 else self.results.initial_poses()
        return self._initial

    def base(self, name: str, number: int) -> Poses:
        """The pose that initial poses are off from."""
        return self.initial()[number] if name == TWO_PLANES else study(self.folder, name).initial(number)

    def begun(self, name: str, number: int, mm: float, seed: int, **of_task: str) -> tuple[Task, Poses]:
        """Task of a frame whose initial pose is off by so much, and that pose."""
        poses = self.base(name, number)
        method = of_task.pop("method", self.method)
        if not mm:
            return Task(name, number, OWN, method=method, **of_task), poses
        begin = starts(self.folder, name, number, poses, mm, seed)
        return Task(name, number, f"{mm:g} mm seed {seed}", method=method, **of_task), begin

    def run(self, tasks: Iterable[tuple[Task, Poses]]) -> list[One]:
        """Results of tasks, one for each implant."""
        ones = [
            One(task, component, one, self.base(task.study, task.number)[component])
            for task, found in self.results.of({task: poses for task, poses in tasks if poses}).items()
            for component, one in found.items()
        ]
        self.seen += ones
        return ones


class Agreed(NamedTuple):
    """The result that most results of an implant are near to, itself included, and how many are."""

    one: One
    votes: int

    @property
    def matrix(self) -> Array:
        return np.array(self.one.found.T)


def agreed(ones: Sequence[One]) -> dict[tuple[int, str], Agreed]:
    """Of every frame and implant that has any result."""
    groups: dict[tuple[int, str], list[One]] = {}
    for one in ones:
        groups.setdefault((one.task.number, one.component), []).append(one)
    found = {}
    for key, of in groups.items():
        usable = [one for one in of if not one.wrong] or of
        votes = [sum(_near(one, np.array(other.found.T)) for one in usable) for other in usable]
        found[key] = Agreed(usable[int(np.argmax(votes))], max(votes))
    return found


def _near(one: One, pose: Array) -> bool:
    mm, deg = one.apart(pose)
    return mm <= _SAME[0] and deg <= _SAME[1]


def is_back(one: One, agreed: Agreed | None) -> bool:
    return agreed is not None and agreed.votes > 1 and not one.wrong and _near(one, agreed.matrix)


def _ray(camera: Camera, at_mm: Array) -> Array:
    ray: Array = at_mm - camera.source_mm
    return ray / np.linalg.norm(ray)


def in_view(bench: Bench, one: One) -> tuple[float, float, float]:
    """Shift of the centre from the initial pose in plane and along the ray, mm, and rotation, deg."""
    center_mm = np.array(one.found.center_mm)
    before, after = (placed(center_mm, T) for T in (one.initial, np.array(one.found.T)))
    ray = _ray(study(bench.folder, one.task.study).camera(one.task.number, "bs"), before)
    depth = float((after - before) @ ray)
    in_plane = float(np.linalg.norm(after - before - depth * ray))
    return in_plane, depth, one.apart(one.initial)[1]


def depth_sd(bench: Bench, one: One) -> float:
    """Stated standard deviation of the centre's depth, mm; the covariance is that of the origin."""
    T, center_mm = np.array(one.found.T), np.array(one.found.center_mm)
    ray = _ray(study(bench.folder, one.task.study).camera(one.task.number, "bs"), placed(center_mm, T))
    arm = T[:3, :3] @ center_mm
    row = np.concatenate([ray, np.radians(np.cross(arm, ray))])
    return float(np.sqrt(row @ np.array(one.found.covariance) @ row))
