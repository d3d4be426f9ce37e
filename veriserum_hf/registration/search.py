"""Coarse to fine, and a second chance for what went wrong."""

import math
from collections.abc import Sequence

from veriserum_hf.registration.pictures import Scale
from veriserum_hf.registration.scene import DOF, Scene
from veriserum_hf.registration.solver import Solver, State, start_state
from veriserum_hf.registration.uncertainty import agreement

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

# The last is looked at through the widest blur: a hundredth of a pixel is told by the slopes of outlines, not by the
# few pixels at their middle, which sampling, holders and JPEG spoil most.
SCALES = (
    Scale(shrink=8, blur_px=1.2, stride=1, rays=2, margin_mm=40.0, iterations=12, cutoff=3.0),
    Scale(shrink=4, blur_px=1.5, stride=1, rays=1, margin_mm=20.0, iterations=12, cutoff=3.0),
    Scale(shrink=2, blur_px=1.5, stride=1, rays=1, margin_mm=8.0, iterations=8, cutoff=3.0),
    Scale(shrink=1, blur_px=1.8, stride=2, rays=2, margin_mm=6.0, iterations=8, cutoff=5.0),
)
DOUBTFUL_SCORE = 0.55  # right poses of simulated frames, cluttered by holders, have 0.6 at least
_TURNED_DEG = 10.0
_WINDOWS = 3  # of a scale, one after the other, at most: an implant may leave that of its start


def optimised(scene: Scene, T_world_implant: Tensor) -> tuple[Solver, Tensor]:
    """Optimise from starts (F, K, 4, 4); the finest scale's solver, and whether each implant came to rest, (F, K).

    A frame with an implant whose outlines do not agree with the images is tried again, from its start turned by 10
    degrees to either side about each axis of the world; the best of these at the coarsest scale is followed.
    """
    solver, resting = _coarse_to_fine(scene, start_state(scene, T_world_implant), SCALES)
    scores = agreement(solver)
    for frame in (scores.amin(1) < DOUBTFUL_SCORE).nonzero()[:, 0].tolist():
        alone = scene.only([frame])
        start = _best_of_turned(scene, frame, T_world_implant[frame], scores[frame] < DOUBTFUL_SCORE)
        tried, came_to_rest = _coarse_to_fine(alone, start, SCALES[1:])
        if agreement(tried).min() > scores[frame].min():
            solver = solver.at(_with_frame(solver.state, frame, tried.state))
            resting[frame] = came_to_rest[0]
    return solver, resting


def _coarse_to_fine(scene: Scene, state: State, scales: Sequence[Scale]) -> tuple[Solver, Tensor]:
    for scale in scales:
        for _ in range(_WINDOWS):
            solver = Solver(scene, scale, state)
            before, (state, resting) = state, solver.run()
            moved_mm = scene.distance_mm(before.T_world_implant, state.T_world_implant)
            if moved_mm.max() < scale.margin_mm / 2:
                break
    return solver, resting


def _best_of_turned(scene: Scene, frame: int, T_world_implant: Tensor, doubtful: Tensor) -> State:
    """State of one frame, (1, K): of six starts, the one that agrees best after the coarsest scale."""
    axes = torch.eye(3).repeat(2, 1) * torch.tensor([1.0, -1.0]).repeat_interleave(3)[:, None]
    steps_mm = torch.zeros(len(axes), len(doubtful), DOF).to(T_world_implant)
    steps_mm[:, :, 3:] = math.radians(_TURNED_DEG) * axes[:, None].to(steps_mm) * scene.radii_mm[frame, :, None]
    steps_mm *= doubtful[:, None]
    several = scene.only([frame] * len(axes))
    starts = several.moved(T_world_implant.expand(len(axes), -1, -1, -1), steps_mm)
    solver, _ = _coarse_to_fine(several, start_state(several, starts), SCALES[:1])
    best = int(agreement(solver).amin(1).argmax())
    T, log_per_mm = solver.state.T_world_implant, solver.state.log_per_mm
    return State(T[best, None], {plane: each[best, None] for plane, each in log_per_mm.items()})


def _with_frame(state: State, frame: int, other: State) -> State:
    """State with that of a single frame in the place of one of its own."""
    T, log_per_mm = state.T_world_implant.clone(), {plane: each.clone() for plane, each in state.log_per_mm.items()}
    T[frame] = other.T_world_implant[0]
    for plane, each in log_per_mm.items():
        each[frame] = other.log_per_mm[plane][0]
    return State(T, log_per_mm)
