"""Coarse to fine, and a second chance for what went wrong.

Frames of a batch never depend on each other: what is done again is done for that frame alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from veriserum_hf.registration.gradients import Scale
from veriserum_hf.registration.scene import DOF, Scene
from veriserum_hf.registration.solver import Solver, State, start_state, with_frame
from veriserum_hf.registration.uncertainty import agreement, covariances

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

# The last is looked at through the widest blur: a hundredth of a pixel is told by the slopes of outlines, not by the
# few pixels at their middle, which sampling, holders and JPEG spoil most.
SCALES = (
    Scale(size_px=64, blur_px=1.2, stride=1, rays=2, margin_mm=40.0, iterations=12, cutoff=3.0),
    Scale(size_px=128, blur_px=1.5, stride=1, rays=1, margin_mm=20.0, iterations=12, cutoff=3.0),
    Scale(size_px=256, blur_px=1.5, stride=1, rays=1, margin_mm=8.0, iterations=8, cutoff=3.0),
    Scale(size_px=512, blur_px=1.8, stride=2, rays=2, margin_mm=6.0, iterations=8, cutoff=5.0),
)
DOUBTFUL_SCORE = 0.55  # right poses of simulated frames, cluttered by holders, have 0.6 at least
_TURNED_DEG = 10.0
_WINDOWS = 3  # of a scale, one after the other, at most: an implant may leave that of its start


@dataclass(frozen=True)
class Outcome:
    """What came of F frames with K implants each.

    Attributes
    ----------
    state : reached.
    covariance : (F, K, 6, 6); see `covariances`.
    score : (F, K); see `agreement`.
    resting : (F, K) bool, whether an implant came to rest.

    """

    state: State
    covariance: Tensor
    score: Tensor
    resting: Tensor

    def replaced(self, frame: int, other: "Outcome") -> "Outcome":
        """Outcome with that of a single frame in the place of one of its own."""
        return Outcome(
            self.state.replaced(frame, other.state),
            with_frame(self.covariance, frame, other.covariance),
            with_frame(self.score, frame, other.score),
            with_frame(self.resting, frame, other.resting),
        )


def optimised(scene: Scene, T_world_implant: Tensor) -> Outcome:
    """Optimise from starts (F, K, 4, 4).

    A frame with an implant whose outlines do not agree with the images is tried again, from its start turned by 10
    degrees to either side about each axis of the world; the best of these at the coarsest scale is followed.
    """
    outcome = _coarse_to_fine(scene, start_state(scene, T_world_implant), _scales(scene))
    for frame in (outcome.score.amin(1) < DOUBTFUL_SCORE).nonzero()[:, 0].tolist():
        start = _best_of_turned(scene, frame, T_world_implant[frame], outcome.score[frame] < DOUBTFUL_SCORE)
        tried = _coarse_to_fine(scene.only([frame]), start, _scales(scene)[1:] or _scales(scene))
        if tried.score.min() > outcome.score[frame].min():
            outcome = outcome.replaced(frame, tried)
    return outcome


def _scales(scene: Scene) -> list[Scale]:
    """Scales for images of this size: none is finer than they are, and the last is as fine as it may be."""
    *coarse, fine = SCALES
    size_px = min(fine.size_px, scene.size)
    return [*(scale for scale in coarse if scale.size_px < size_px), replace(fine, size_px=size_px)]


def _coarse_to_fine(scene: Scene, state: State, scales: Sequence[Scale]) -> Outcome:
    for scale in scales[:-1]:
        state = _settled(scene, scale, state, _WINDOWS)
    return _finished(scene, scales[-1], state, _WINDOWS)


def _settled(scene: Scene, scale: Scale, state: State, windows: int) -> State:
    """Optimise at one scale, and go on with the frames whose implants leave their window in a new one."""
    reached, _ = Solver(scene, scale, state).run()
    for frame in _left(scene, scale, state, reached) if windows > 1 else ():
        again = _settled(scene.only([frame]), scale, reached.only(frame), windows - 1)
        reached = reached.replaced(frame, again)
    return reached


def _finished(scene: Scene, scale: Scale, state: State, windows: int) -> Outcome:
    """`_settled`, and how good that is."""
    solver = Solver(scene, scale, state)
    reached, resting = solver.run()
    outcome = Outcome(reached, covariances(solver), agreement(solver), resting)
    for frame in _left(scene, scale, state, reached) if windows > 1 else ():
        again = _finished(scene.only([frame]), scale, reached.only(frame), windows - 1)
        outcome = outcome.replaced(frame, again)
    return outcome


def _left(scene: Scene, scale: Scale, before: State, after: State) -> list[int]:
    """Frames with an implant that moved too far for its window."""
    moved_mm = scene.distance_mm(before.T_world_implant, after.T_world_implant).amax(1)
    frames: list[int] = (moved_mm > scale.margin_mm / 2).nonzero()[:, 0].tolist()
    return frames


def _best_of_turned(scene: Scene, frame: int, T_world_implant: Tensor, doubtful: Tensor) -> State:
    """State of one frame, (1, K): of six starts, the one that agrees best after the coarsest scale."""
    axes = torch.eye(3).repeat(2, 1) * torch.tensor([1.0, -1.0]).repeat_interleave(3)[:, None]
    steps_mm = torch.zeros(len(axes), len(doubtful), DOF).to(T_world_implant)
    steps_mm[:, :, 3:] = math.radians(_TURNED_DEG) * axes[:, None].to(steps_mm) * scene.radii_mm[frame, :, None]
    steps_mm *= doubtful[:, None]
    several = scene.only([frame] * len(axes))
    starts = several.moved(T_world_implant.expand(len(axes), -1, -1, -1), steps_mm)
    outcome = _coarse_to_fine(several, start_state(several, starts), _scales(scene)[:1])
    return outcome.state.only(int(outcome.score.amin(1).argmax()))
