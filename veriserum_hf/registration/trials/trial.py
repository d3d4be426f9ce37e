"""Registration of a trial frame by frame; frames that fail are initialised from neighbouring frames.

A frame is registered from its own initial pose, or from the poses of the frames before it where these are on edges
of its images (`veriserum_hf.registration.outline.last_poses`).

A frame where that does not lead to the verdict ``"converged"`` is registered again, initialised from the last frame
that converged, in two ways. With the motion between the initial poses of the two frames: right where all initial
poses have nearly the same error, such as a robot's targets. Without motion, over a few frames: right where this
initial pose is an outlier, such as a wrong prediction of a network; at 30 frames a second a knee moves by a few mm
and degrees between frames. Implants are independent: one that has converged is registered again from the pose it
converged to. A second pass runs backwards, so that the first frames of a trial have a neighbour too. The better
verdict is kept, and of equal verdicts the better score.

Where this fails too, or there are no initial poses at all, implants may be searched for in the images of a few
frames, at most `MOST_SEARCHES` of a trial. From a frame found so the trial is tracked in both directions, each frame
from the last one that converged, without extrapolated motion, which loses implants.

What the search found may have a rival: another pose that the images allow nearly as well, such as a mirrored tray in
one plane. All that follows from it is ``ambiguous``, in the frames that are tracked from there too, unless the search
in another frame finds a pose without a rival, which leads to the others.

An initial pose that its model says not to trust comes last, for an implant that nothing else has led to: from a wrong
pose a registration may converge to a wrong minimum.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, islice

import numpy as np
import trimesh

from veriserum_hf.core import IMAGE_OF, PLANES, Component, FrameRow, PoseFileRow
from veriserum_hf.dataset import Frames
from veriserum_hf.errors import FrameError, RegistrationError
from veriserum_hf.registration.deviations import Deviations
from veriserum_hf.registration.from_images.found_poses import find_poses
from veriserum_hf.registration.initial_poses import Starts
from veriserum_hf.registration.outline.last_poses import LastPoses
from veriserum_hf.registration.refine import ChosenMethod, RefinedPose, register_batch
from veriserum_hf.registration.trials.poses import Found, InitialPose, Neighbour, Origin
from veriserum_hf.registration.trials.rows import rows_of_trial
from veriserum_hf.registration.trials.verdicts import check_consistency

Meshes = Mapping[int, trimesh.Trimesh]
Implants = Mapping[int, Mapping[Component, int]]  # anatomy ids by measurement id
MOST_SEARCHES = 5  # in a trial: each may take a minute
_HELD_FRAMES = 3  # after which an implant has moved out of reach of a pose without motion


def register_trial(
    frames: Frames,
    starts: Starts,
    meshes: Meshes,
    advance: Callable[[int], None] = lambda units: None,
    *,
    searched: Implants | None = None,
    method: ChosenMethod = "auto",
    device: str = "cpu",
    deviations: Deviations | None = None,
    at_once: int = 1,
) -> list[PoseFileRow]:
    """Register all frames of a trial; a row for each implant that has an initial pose in any frame, or was found.

    Parameters
    ----------
    frames : in their order.
    starts : initial poses by measurement id and component.
    meshes : by anatomy id, mm.
    advance : called with the number of frames done since the last call.
    searched : implants that are searched for in the images where all initial poses fail; none if not given.
    method, device, deviations : see `veriserum_hf.registration.refine.register`.
    at_once : frames that are registered together; except for rounding, the result does not depend on it.

    Returns
    -------
    Rows of `veriserum_hf.poses.REGISTERED_SCHEMA`, frame by frame.

    """
    trial = _Trial(frames, starts, meshes, searched or {}, method, device, deviations or Deviations())
    if any(trial.given):
        trial.from_given_starts(at_once, advance)
        trial.from_neighbours()
    trial.from_search()
    trial.from_marked_starts()
    if not any(trial.given):
        advance(len(frames))
    found = list(trial.found.values())
    check_consistency([ids["frame_index"] for ids in trial.ids], found, meshes)
    initial = [marked | given for marked, given in zip(trial.marked, trial.given, strict=True)]
    return rows_of_trial(trial.ids, initial, found, trial.why_without, meshes)


class _Trial:
    """The frames of a trial, and the results so far."""

    def __init__(
        self,
        frames: Frames,
        starts: Starts,
        meshes: Meshes,
        searched: Implants,
        method: ChosenMethod,
        device: str,
        deviations: Deviations,
    ) -> None:
        self.deviations = deviations
        self.frames, self.meshes, self.method, self.device = frames, meshes, method, device
        self.ids = frames.table("measurement_id", "trial_id", "frame_index").to_pylist()
        self.given: list[dict[Component, InitialPose]] = []
        self.marked: list[dict[Component, InitialPose]] = []  # that are not to be trusted
        for id in self.ids:
            poses = starts.get(id["measurement_id"], {})
            for kept, marked in ((self.given, False), (self.marked, True)):
                kept.append(
                    {
                        component: InitialPose.of_row(pose, "given")
                        for component, pose in poses.items()
                        if (pose.get("trusted") is False) == marked
                    }
                )
        self.found: dict[int, dict[Component, Found]] = {index: {} for index in range(len(self.ids))}
        self.searched = [searched.get(ids["measurement_id"], {}) for ids in self.ids]
        self.tried: set[tuple[int, RefinedPose]] = set()  # frames, and poses of neighbours that they began from
        self.unreadable: set[int] = set()
        self.why_without: dict[int, str] = {}  # by frame, why it has no result

    def from_given_starts(self, at_once: int, advance: Callable[[int], None]) -> None:
        """Register every frame from its own initial pose."""
        reading, last_poses = enumerate(self.frames.read()), LastPoses()
        while part := list(islice(reading, at_once)):
            readable: list[tuple[int, FrameRow]] = []
            for index, row in part:
                if isinstance(row, FrameError):
                    self._is_unreadable(index, row)
                elif self.given[index]:
                    readable.append((index, row))
            for _, batch in groupby(readable, lambda each: self._what_is_seen(*each)):
                indices, rows = zip(*batch, strict=True)
                starts = [self.given[index] for index in indices]
                self.found.update(zip(indices, self._registered(rows, starts, last_poses), strict=True))
            advance(len(part))

    def _what_is_seen(self, index: int, row: FrameRow) -> tuple[object, ...]:
        """Sizes of images, and implants: frames in which they are the same can be registered together."""
        images = ((plane, row[IMAGE_OF[plane]]) for plane in PLANES)
        shapes = ((plane, np.asarray(image).shape) for plane, image in images if image is not None)
        return (*shapes, *sorted(self.given[index]))

    def from_neighbours(self, forwards_from: int = 0, backwards_from: int | None = None) -> None:
        """Register what has not converged again, from the frame before it, and then from the frame after it."""
        last = len(self.ids) - 1 if backwards_from is None else backwards_from
        self._in_sequence(range(forwards_from, len(self.ids)), "previous frame")
        self._in_sequence(range(last, -1, -1), "next frame")

    def from_search(self) -> None:
        """Search for implants without a result, with a failed one or with a rival, and track the trial from there."""
        tried: list[int] = []
        while len(tried) < MOST_SEARCHES and (index := self._next_search(tried)) is not None:
            if (row := self._read(index)) is None:
                continue
            tried.append(index)
            wanted = {name: self.searched[index][name] for name in self._to_search(index)}
            try:
                poses = find_poses(row, wanted, self.meshes)
            except RegistrationError as error:
                self.why_without.setdefault(index, f"searched for in the images, and not found: {error}")
                continue
            self._keep_better(index, row, {name: InitialPose.of_search(pose) for name, pose in poses.items()})
            if not set(wanted) & set(self._lost(index)):
                self.from_neighbours(index, index)

    def from_marked_starts(self) -> None:
        """Register implants without a result from poses that are not to be trusted."""
        for index, marked in enumerate(self.marked):
            left = {name: initial for name, initial in marked.items() if name not in self.found[index]}
            if left and index not in self.unreadable and (row := self._read(index)) is not None:
                self._keep_better(index, row, left)
        if any(self.marked):
            self.from_neighbours()

    def _next_search(self, tried: Sequence[int]) -> int | None:
        """The first readable frame, then the central one of the longest sequence that is left to search."""
        lost = [index for index in range(len(self.ids)) if index not in self.unreadable and self._to_search(index)]
        left = [index for index in lost if index not in tried]
        if not left or not tried:
            return left[0] if left else None
        runs: list[list[int]] = []
        for index in left:
            if runs and runs[-1][-1] == index - 1:
                runs[-1].append(index)
            else:
                runs.append([index])
        longest = max(runs, key=len)
        return longest[len(longest) // 2]

    def _lost(self, index: int) -> list[Component]:
        """Implants of a frame without a result, or with a failed one."""
        found = self.found[index]
        return [name for name in self.searched[index] if name not in found or found[name].failed]

    def _to_search(self, index: int) -> list[Component]:
        """Implants to search for in a frame: lost ones, and those with a rival, which it may exclude."""
        lost = self._lost(index)
        return [name for name in self.searched[index] if name in lost or self.found[index][name].rival]

    def _read(self, index: int) -> FrameRow | None:
        row = next(self.frames.taken([index]).read())
        if isinstance(row, FrameError):
            self._is_unreadable(index, row)
            return None
        return row

    def _is_unreadable(self, index: int, error: FrameError) -> None:
        self.unreadable.add(index)
        self.why_without[index] = str(error)

    def _in_sequence(self, order: Sequence[int], origin: Origin) -> None:
        """Register what has not converged again, initialised from the frame before it in this order."""
        neighbours: dict[Component, Neighbour] = {}
        for index in order:
            again = index not in self.unreadable and self._unconverged(index, neighbours)
            if again and (row := self._read(index)) is not None:
                self._register_again(index, row, neighbours, origin)
                self.tried.update((index, neighbours[name].pose) for name in again)
            for name, found in self.found[index].items():
                # Where none has converged, as of mirrored trays, an ambiguous pose is better than another search.
                last_resort = name in self.searched[index] and not found.failed
                if found.converged or (last_resort and not (name in neighbours and neighbours[name].converged)):
                    neighbours[name] = Neighbour(index, self.given[index].get(name), found.pose, found.rival)

    def _unconverged(self, index: int, neighbours: Mapping[Component, Neighbour]) -> list[Component]:
        """Implants of a frame whose neighbouring frame has a better result, from which none was tried yet."""
        found = self.found[index]
        return [
            name
            for name, neighbour in neighbours.items()
            if (index, neighbour.pose) not in self.tried
            and (name not in found or found[name].failed or (neighbour.converged and not found[name].converged))
        ]

    def _register_again(
        self, index: int, row: FrameRow, neighbours: Mapping[Component, Neighbour], origin: Origin
    ) -> None:
        """Register implants that have not converged from a neighbour's pose; keep the better result."""
        given = self.given[index]
        for with_motion in (True, False):
            again: dict[Component, InitialPose] = {}
            for name in self._unconverged(index, neighbours):
                neighbour, own = neighbours[name], given.get(name)
                if own is not None and own.anatomy_id != neighbour.pose.anatomy_id:
                    continue
                if with_motion:
                    initial = neighbour.moved(own, origin) if own is not None else None
                else:
                    near = abs(index - neighbour.index) <= _HELD_FRAMES
                    initial = neighbour.held(origin) if near else None
                if initial is not None:
                    again[name] = initial
            if not again:
                continue
            self._keep_better(index, row, again)

    def _keep_better(self, index: int, row: FrameRow, again: Mapping[Component, InitialPose]) -> None:
        """Register a frame from other initial poses of some implants, and keep the better result of each of these."""
        found = self.found[index]
        others = {name: each.as_initial() for name, each in found.items()}
        (better_found,) = self._registered([row], [others | dict(again)])
        for name, better in better_found.items():
            if name in again and (name not in found or better.rank > found[name].rank):
                found[name] = better

    def _registered(
        self,
        rows: Sequence[FrameRow],
        starts: Sequence[Mapping[Component, InitialPose]],
        last_poses: LastPoses | None = None,
    ) -> list[dict[Component, Found]]:
        """Register frames together, each from its initial poses; one by one where this fails."""
        given = [{name: initial.as_row() for name, initial in start.items()} for start in starts]
        try:
            poses = register_batch(
                rows,
                self.meshes,
                given,
                method=self.method,
                deviations=self.deviations,
                device=self.device,
                last_poses=last_poses,
            )
        except RegistrationError as error:
            if len(rows) > 1:  # the error of one frame must not affect the others
                return [
                    self._registered([row], [start], last_poses)[0] for row, start in zip(rows, starts, strict=True)
                ]
            (start,) = starts
            if len(start) > 1:  # nor that of one implant the other
                apart = (self._registered(rows, [{name: initial}])[0] for name, initial in start.items())
                return [{name: each for found in apart for name, each in found.items()}]
            return [{name: Found.of(initial.failed(name, str(error)), initial) for name, initial in start.items()}]
        return [
            {name: Found.of(pose, start[name]) for name, pose in found.items()}
            for found, start in zip(poses, starts, strict=True)
        ]
