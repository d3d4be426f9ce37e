"""Registration of a trial frame by frame; frames that fail are initialised from neighbouring frames.

A frame whose own initial pose does not lead to the verdict ``"converged"`` is registered again, initialised from the
last frame that converged, in two ways. With the motion between the initial poses of the two frames: right where all
initial poses have nearly the same error, such as a robot's targets. Without motion: right where this initial pose is
an outlier, such as a wrong prediction of a network; at 30 frames a second a knee moves by a few mm and degrees
between frames. Implants are independent: one that has converged is registered again from the pose it converged to. A
second pass runs backwards, so that the first frames of a trial have a neighbour too. The better verdict is kept, and
of equal verdicts the better score.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import trimesh

from veriserum_hf.core import (
    COMPONENTS,
    CONVERGED,
    IMAGE_OF,
    PLANES,
    VERDICTS,
    Component,
    FloatArray,
    FrameRow,
    PoseFileRow,
    PoseRow,
)
from veriserum_hf.dataset import Frames
from veriserum_hf.errors import FrameError, RegistrationError
from veriserum_hf.geometry import (
    angle_between_deg,
    invert_transform,
    make_transform,
    matrix_to_quaternion,
    quaternion_to_matrix,
    transform_points,
)
from veriserum_hf.registration.initial_poses import Starts
from veriserum_hf.registration.refine import RefinedPose, register_batch

Origin = Literal["given", "previous frame", "next frame"]
Meshes = Mapping[int, trimesh.Trimesh]


@dataclass(frozen=True, eq=False)
class _InitialPose:
    """An initial pose."""

    anatomy_id: int
    T_world_implant: FloatArray
    origin: Origin

    def as_start(self) -> PoseRow:
        """Pose in the form of a row of the data set."""
        return {
            "anatomy_id": self.anatomy_id,
            "translation_mm": self.T_world_implant[:3, 3].tolist(),
            "quaternion_xyzw": matrix_to_quaternion(self.T_world_implant[:3, :3]).tolist(),
        }


@dataclass(frozen=True, eq=False)
class _Found:
    """Result from an initial pose."""

    pose: RefinedPose
    origin: Origin

    @property
    def converged(self) -> bool:
        return bool(self.pose.verdict == CONVERGED)

    @property
    def rank(self) -> tuple[int, float]:
        """Higher is better; two failed results rank equal, so that the given initial pose stays."""
        failed = self.pose.verdict == VERDICTS[-1]
        return -VERDICTS.index(self.pose.verdict), 0.0 if failed else self.pose.score


@dataclass(frozen=True, eq=False)
class _Neighbour:
    """The last frame in which an implant converged: its given initial pose, if any, and the result."""

    given: _InitialPose | None
    pose: RefinedPose

    def held(self, origin: Origin) -> _InitialPose:
        """Initial pose without motion since that frame."""
        return _InitialPose(self.pose.anatomy_id, self.pose.T_world_implant, origin)

    def moved(self, given: _InitialPose, origin: Origin) -> _InitialPose | None:
        """Initial pose with the motion of the given ones: their error in the implant's frame is constant."""
        if self.given is None:
            return None
        T_start_implant = invert_transform(self.given.T_world_implant) @ self.pose.T_world_implant
        return _InitialPose(given.anatomy_id, given.T_world_implant @ T_start_implant, origin)


def register_trial(
    frames: Frames,
    starts: Starts,
    meshes: Meshes,
    advance: Callable[[int], None] = lambda units: None,
    *,
    device: str = "cpu",
    at_once: int = 1,
) -> list[PoseFileRow]:
    """Register all frames of a trial; a row for each implant that has an initial pose in any frame.

    Parameters
    ----------
    frames : in their order.
    starts : initial poses by measurement id and component; at least one.
    meshes : by anatomy id, mm.
    advance : called with the number of frames done since the last call.
    device : see `veriserum_hf.registration.refine.register`.
    at_once : frames that are registered together; except for rounding, the result does not depend on it.

    Returns
    -------
    Rows of `veriserum_hf.poses.REGISTERED_SCHEMA`, frame by frame.

    """
    trial = _Trial(frames, starts, meshes, device)
    trial.from_given_starts(at_once, advance)
    trial.from_neighbours(range(len(frames)), "previous frame")
    trial.from_neighbours(range(len(frames) - 1, -1, -1), "next frame")
    return trial.rows()


class _Trial:
    """The frames of a trial, and the results so far."""

    def __init__(self, frames: Frames, starts: Starts, meshes: Meshes, device: str) -> None:
        self.frames, self.meshes, self.device = frames, meshes, device
        self.ids = frames.table("measurement_id", "trial_id", "frame_index").to_pylist()
        self.given = [
            {
                component: _InitialPose(pose["anatomy_id"], _transform(pose), "given")
                for component, pose in starts.get(id["measurement_id"], {}).items()
            }
            for id in self.ids
        ]
        self.found: dict[int, dict[Component, _Found]] = {index: {} for index in range(len(self.ids))}
        self.unreadable: dict[int, FrameError] = {}

    def from_given_starts(self, at_once: int, advance: Callable[[int], None]) -> None:
        """Register every frame from its own initial pose."""
        reading = enumerate(self.frames.read())
        while part := list(islice(reading, at_once)):
            batches: dict[tuple[str, ...], dict[int, FrameRow]] = defaultdict(dict)
            for index, row in part:
                if isinstance(row, FrameError):
                    self.unreadable[index] = row
                elif self.given[index]:
                    images = ((plane, row[IMAGE_OF[plane]]) for plane in PLANES)
                    shapes = (f"{plane} {np.asarray(image).shape}" for plane, image in images if image is not None)
                    batches[*shapes, *sorted(self.given[index])][index] = row
            for rows in batches.values():
                starts = [self.given[index] for index in rows]
                self.found.update(zip(rows, self._registered(list(rows.values()), starts), strict=True))
            advance(len(part))

    def from_neighbours(self, order: Sequence[int], origin: Origin) -> None:
        """Register what has not converged again, initialised from the frame before it in this order."""
        neighbours: dict[Component, _Neighbour] = {}
        for index in order:
            if index not in self.unreadable and self._unconverged(index, neighbours):
                row = next(self.frames.taken([index]).read())
                if not isinstance(row, FrameError):
                    self._register_again(index, row, neighbours, origin)
            for name, found in self.found[index].items():
                if found.converged:
                    neighbours[name] = _Neighbour(self.given[index].get(name), found.pose)

    def _unconverged(self, index: int, neighbours: Mapping[Component, _Neighbour]) -> list[Component]:
        """Implants of a frame that have not converged, but have in a neighbouring frame."""
        found = self.found[index]
        return [name for name in neighbours if name not in found or not found[name].converged]

    def _register_again(
        self, index: int, row: FrameRow, neighbours: Mapping[Component, _Neighbour], origin: Origin
    ) -> None:
        """Register implants that have not converged from a neighbour's pose; keep the better result."""
        found, given = self.found[index], self.given[index]
        for with_motion in (True, False):
            again: dict[Component, _InitialPose] = {}
            for name in self._unconverged(index, neighbours):
                neighbour, own = neighbours[name], given.get(name)
                if own is not None and own.anatomy_id != neighbour.pose.anatomy_id:
                    continue
                if with_motion:
                    initial = neighbour.moved(own, origin) if own is not None else None
                else:
                    initial = neighbour.held(origin)
                if initial is not None:
                    again[name] = initial
            if not again:
                continue
            others = {
                name: _InitialPose(each.pose.anatomy_id, each.pose.T_world_implant, each.origin)
                for name, each in found.items()
            }
            (better_found,) = self._registered([row], [others | again])
            for name, better in better_found.items():
                if name in again and (name not in found or better.rank > found[name].rank):
                    found[name] = better

    def _registered(
        self, rows: Sequence[FrameRow], starts: Sequence[Mapping[Component, _InitialPose]]
    ) -> list[dict[Component, _Found]]:
        """Register frames together, each from its initial poses; one by one where this fails."""
        given = [{name: initial.as_start() for name, initial in start.items()} for start in starts]
        try:
            poses = register_batch(rows, self.meshes, given, device=self.device)
        except RegistrationError as error:
            if len(rows) > 1:  # the error of one frame must not affect the others
                return [self._registered([row], [start])[0] for row, start in zip(rows, starts, strict=True)]
            (start,) = starts
            if len(start) > 1:  # nor that of one implant the other
                apart = (self._registered(rows, [{name: initial}])[0] for name, initial in start.items())
                return [{name: each for found in apart for name, each in found.items()}]
            return [
                {name: _Found(_failed(name, initial, str(error)), initial.origin) for name, initial in start.items()}
            ]
        return [
            {name: _Found(pose, start[name].origin) for name, pose in found.items()}
            for found, start in zip(poses, starts, strict=True)
        ]

    def rows(self) -> list[PoseFileRow]:
        shown = [name for name in COMPONENTS if any(name in given for given in self.given)]
        return [self._row(index, name) for index in range(len(self.ids)) for name in shown]

    def _row(self, index: int, component: Component) -> PoseFileRow:
        given, found = self.given[index].get(component), self.found[index].get(component)
        if found is None:
            with_start = [other for other, poses in enumerate(self.given) if component in poses]
            nearest = self.given[min(with_start, key=lambda other: abs(other - index))][component]
            unreadable = self.unreadable.get(index)
            without = "no initial pose in this frame, and no other frame of its trial has converged"
            why = str(unreadable) if unreadable else without
            found = _Found(_failed(component, given or nearest, why), "given")
        pose = found.pose
        moved_mm, moved_deg = self._moved(given, found) if given else (None, None)
        T = pose.T_world_implant
        registered = bool(np.isfinite(pose.score))
        return {
            "measurement_id": self.ids[index]["measurement_id"],
            "trial_id": self.ids[index]["trial_id"],
            "frame_index": self.ids[index]["frame_index"],
            "anatomy_id": pose.anatomy_id,
            "component": component,
            "translation_mm": T[:3, 3].tolist(),
            "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist(),
            "covariance": _finite(pose.covariance),
            "image_covariance": _finite(pose.image_covariance),
            "method": pose.method if registered else None,
            "verdict": pose.verdict,
            "score": pose.score if registered else None,
            "detail": pose.detail,
            "moved_mm": moved_mm,
            "moved_deg": moved_deg,
            "start": found.origin if given or found.origin != "given" else None,
        }

    def _moved(self, given: _InitialPose, found: _Found) -> tuple[float, float]:
        """Distance of the mesh's centre in mm, and angle in degrees, from the given initial pose."""
        if found.origin == given.origin:
            return found.pose.moved_mm, found.pose.moved_deg
        center_mm = self.meshes[given.anatomy_id].bounds.mean(axis=0, keepdims=True)
        T_start, T = given.T_world_implant, found.pose.T_world_implant
        shift_mm = transform_points(T, center_mm) - transform_points(T_start, center_mm)
        return float(np.linalg.norm(shift_mm)), float(angle_between_deg(T_start[:3, :3], T[:3, :3]))


def _failed(component: Component, at: _InitialPose, why: str) -> RefinedPose:
    return RefinedPose(
        component=component,
        anatomy_id=at.anatomy_id,
        T_world_implant=at.T_world_implant,
        covariance=np.full((6, 6), np.nan),
        image_covariance=np.full((6, 6), np.nan),
        method="outline",
        score=float("nan"),
        verdict="failed",
        detail=why,
        moved_mm=0.0,
        moved_deg=0.0,
    )


def _finite(covariance: FloatArray) -> list[list[float]] | None:
    """Covariance as rows; None where it is unknown."""
    rows: list[list[float]] = covariance.tolist()
    return rows if np.isfinite(covariance).all() else None


def _transform(pose: PoseRow) -> FloatArray:
    return make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])
