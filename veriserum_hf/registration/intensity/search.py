"""Coarse-to-fine optimisation over an image pyramid, with restarts from rotated initial poses where it fails.

Frames of a batch never depend on each other: a restart is of one frame alone. Each scale of the pyramid is solved by
`veriserum_hf.registration.intensity.solver.Solver`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from veriserum_hf.registration.intensity.scales import SCALES, Scale
from veriserum_hf.registration.intensity.solver import Solver
from veriserum_hf.registration.intensity.state import State, initial_state, with_frame
from veriserum_hf.registration.intensity.uncertainty import agreement, covariances
from veriserum_hf.registration.scene import DOF, Scene

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

MIN_SCORE = 0.55  # correct poses in simulated frames, cluttered by holders, have at least 0.6
_RESTART_ROTATION_DEG = 10.0
_MAX_WINDOWS = 3  # of a scale, one after the other: an implant may leave that of its initial pose


@dataclass(frozen=True)
class Outcome:
    """Result for F frames with K implants each.

    Attributes
    ----------
    state : final poses and attenuations.
    covariance : (F, K, 6, 6); see `covariances`.
    score : (F, K); see `agreement`.
    converged : (F, K) bool, whether the steps of an implant have become negligible.

    """

    state: State
    covariance: Tensor
    score: Tensor
    converged: Tensor

    def replaced(self, frame: int, other: "Outcome") -> "Outcome":
        """Outcome with that of one frame replaced."""
        return Outcome(
            self.state.replaced(frame, other.state),
            with_frame(self.covariance, frame, other.covariance),
            with_frame(self.score, frame, other.score),
            with_frame(self.converged, frame, other.converged),
        )


def optimise(scene: Scene, T_world_implant: Tensor) -> Outcome:
    """Optimise from initial poses (F, K, 4, 4).

    A frame with an implant whose outlines do not agree with the images is restarted, from its initial pose rotated by
    10 degrees in either direction about each world axis; the best of these at the coarsest scale is continued.
    """
    outcome = _coarse_to_fine(scene, initial_state(scene, T_world_implant), _scales(scene))
    for frame in (outcome.score.amin(1) < MIN_SCORE).nonzero()[:, 0].tolist():
        start = _best_restart(scene, frame, T_world_implant[frame], outcome.score[frame] < MIN_SCORE)
        tried = _coarse_to_fine(scene.only([frame]), start, _scales(scene)[1:] or _scales(scene))
        if tried.score.min() > outcome.score[frame].min():
            outcome = outcome.replaced(frame, tried)
    return outcome


def polish(scene: Scene, state: State) -> Outcome:
    """Optimise at the finest scale alone, from poses that are right to a fraction of a millimetre."""
    return _coarse_to_fine(scene, state, _scales(scene)[-1:])


def _scales(scene: Scene) -> list[Scale]:
    """Scales at which the images differ from those at the last, which is as fine as they allow."""
    *coarse, fine = SCALES
    views = [of_plane[0] for of_plane in scene.views.values()]
    finest = [view.size_at(fine.pixel_mm) for view in views]
    return [*(scale for scale in coarse if [view.size_at(scale.pixel_mm) for view in views] != finest), fine]


def _coarse_to_fine(scene: Scene, state: State, scales: Sequence[Scale]) -> Outcome:
    for scale in scales[:-1]:
        state = _solve(scene, scale, state, _MAX_WINDOWS)
    return _solve_and_assess(scene, scales[-1], state, _MAX_WINDOWS)


def _solve(scene: Scene, scale: Scale, state: State, windows: int) -> State:
    """Optimise at one scale; frames whose implants leave their window continue in a new one."""
    solver = Solver(scene, scale, state)
    solver.adjust_attenuations()
    reached, _ = solver.run()
    for frame in _outside_window(scene, scale, state, reached) if windows > 1 else ():
        again = _solve(scene.only([frame]), scale, reached.only(frame), windows - 1)
        reached = reached.replaced(frame, again)
    return reached


def _solve_and_assess(scene: Scene, scale: Scale, state: State, windows: int) -> Outcome:
    """Optimise as `_solve` does, and assess the result."""
    solver = Solver(scene, scale, state)
    reached, converged = solver.run()
    outcome = Outcome(reached, covariances(solver), agreement(solver), converged)
    for frame in _outside_window(scene, scale, state, reached) if windows > 1 else ():
        again = _solve_and_assess(scene.only([frame]), scale, reached.only(frame), windows - 1)
        outcome = outcome.replaced(frame, again)
    return outcome


def _outside_window(scene: Scene, scale: Scale, before: State, after: State) -> list[int]:
    """Frames with an implant that moved too far for its window."""
    moved_mm = scene.distance_mm(before.T_world_implant, after.T_world_implant).amax(1)
    frames: list[int] = (moved_mm > scale.margin_mm / 2).nonzero()[:, 0].tolist()
    return frames


def _best_restart(scene: Scene, frame: int, T_world_implant: Tensor, low_score: Tensor) -> State:
    """State of one frame, (1, K): of six rotated initial poses, the one with the best score at the coarsest scale."""
    axes = torch.eye(3).repeat(2, 1) * torch.tensor([1.0, -1.0]).repeat_interleave(3)[:, None]
    steps_mm = torch.zeros(len(axes), len(low_score), DOF).to(T_world_implant)
    steps_mm[:, :, 3:] = (
        math.radians(_RESTART_ROTATION_DEG) * axes[:, None].to(steps_mm) * scene.radii_mm[frame, :, None]
    )
    steps_mm *= low_score[:, None]
    several = scene.only([frame] * len(axes))
    starts = several.moved(T_world_implant.expand(len(axes), -1, -1, -1), steps_mm)
    outcome = _coarse_to_fine(several, initial_state(several, starts), _scales(scene)[:1])
    return outcome.state.only(int(outcome.score.amin(1).argmax()))
