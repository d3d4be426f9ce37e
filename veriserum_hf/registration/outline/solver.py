"""Gauss-Newton steps that bring the outlines of rendered implants to the edges of the images.

Unknowns of an implant: six of its pose, and its attenuation in each plane. The edge of a blurred image of a
semi-transparent body lies inside its outline: a rendering with the attenuation shows where it must be. An attenuation
also takes up, to first order, what an unknown grey-value curve does to that place. What is left, edges of a whole
outline that are a fraction of a pixel too far outside, is one more unknown in each of two planes, near zero a priori;
one plane alone cannot distinguish it from depth.

The residual of a piece of outline is the distance to the edge of the image less that of the rendering. It is weighted
by the length of the piece, by the slope of the edge, and robustly (Geman-McClure), and the planes count the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from veriserum_hf.core import BoolArray, FloatArray, PlaneName
from veriserum_hf.geometry import transform_points
from veriserum_hf.registration.outline.levels import Body, Level, Shadow
from veriserum_hf.registration.outline.residuals import Residuals
from veriserum_hf.registration.outline.steps import Pass, Step, moved, solve_step
from veriserum_hf.registration.scene import CLEAR_MM

_LOG_RANGE = (np.log(0.03), np.log(5.0))
_MAX_ITERATIONS = 24
_NEGLIGIBLE_PX = 0.01  # root mean square displacement of an outline in all steps that would follow


@dataclass(frozen=True, eq=False)
class OutlineState:
    """Poses (K, 4, 4) mm, and logarithms of attenuations by plane, (K,)."""

    T_world_implant: FloatArray
    log_per_mm: Mapping[PlaneName, FloatArray]


class OutlineSolver:
    """The levels of the planes of one frame at one scale, and its implants.

    Poses are those when the first plane is exposed. Where another is exposed at another time, the implants have moved
    until then by ``motions_mm``: a step of each, (K, 6) as in `scene`, by plane.
    """

    def __init__(
        self,
        levels: Mapping[PlaneName, Level],
        bodies: Sequence[Body],
        motions_mm: Mapping[PlaneName, FloatArray] | None = None,
    ) -> None:
        self.levels, self.bodies, self._motions_mm = levels, bodies, motions_mm or {}
        self._rendered: dict[tuple[PlaneName, int], tuple[FloatArray, Shadow]] = {}

    def seen(self, plane: PlaneName, T_world_implant: FloatArray) -> FloatArray:
        """Poses (K, 4, 4) when a plane is exposed."""
        if (motions_mm := self._motions_mm.get(plane)) is None:
            return T_world_implant
        steps = zip(self.bodies, T_world_implant, motions_mm, strict=True)
        return np.array([moved(body.implant, T, step_mm) for body, T, step_mm in steps])

    def run(self, state: OutlineState, passes: Sequence[Pass], only: int | None = None) -> OutlineState:
        """Take the steps, of all implants or of one alone; where they are small, only those worth it follow."""
        moving = range(len(self.bodies)) if only is None else (only,)
        fixed = self._shadows(state, [k for k in range(len(self.bodies)) if k not in moving])
        small: Pass | None = None
        for each in passes:
            if small is not None and not each.follows(small):
                continue
            residuals = self._residuals(state, each, moving, fixed)
            small = each
            for n, k in enumerate(moving):
                step = solve_step({plane: of_plane[n] for plane, of_plane in residuals.items()}, each)
                state = self.stepped(state, k, step)
                small = small if step.is_small else None
        return state

    def converge(self, state: OutlineState, each: Pass) -> tuple[OutlineState, BoolArray]:
        """Take steps until they are negligible; the state, and of which implants they are, (K,) bool.

        The edges of a rendering change with the pose, which the derivatives do not contain: steps along weak
        directions are too short by a nearly constant factor. Two successive ones give it, and are extrapolated
        (Aitken).
        """
        moving = list(range(len(self.bodies)))
        before: dict[int, Step] = {}
        converged = np.zeros(len(self.bodies), dtype=np.bool_)
        for _ in range(_MAX_ITERATIONS):
            residuals = self._residuals(state, each, moving, self._shadows(state, np.flatnonzero(converged).tolist()))
            for n, k in enumerate(moving):
                step = solve_step({plane: of_plane[n] for plane, of_plane in residuals.items()}, each)
                last = before.pop(k, None)
                if last is None:
                    before[k] = step
                else:
                    step = step.extrapolated(last)
                    converged[k] = step.length_px < _NEGLIGIBLE_PX
                state = self.stepped(state, k, step)
            moving = np.flatnonzero(~converged).tolist()
            if not moving:
                break
        return state, converged

    def in_front(self, T_world_implant: FloatArray, k: int) -> bool:
        """Whether an implant is well in front of every source at a pose (4, 4)."""
        implant = self.bodies[k].implant
        center_mm = transform_points(T_world_implant, implant.center_mm[None])
        least_mm = implant.reach_mm + CLEAR_MM
        return all(level.camera.depths_mm(center_mm)[0] > least_mm for level in self.levels.values())

    def stepped(self, state: OutlineState, k: int, step: Step) -> OutlineState:
        """State after a step of one implant, as far as this stays in front of the sources."""
        T = state.T_world_implant.copy()
        log_per_mm = {plane: of_plane.copy() for plane, of_plane in state.log_per_mm.items()}
        reached = moved(self.bodies[k].implant, T[k], step.step_mm)
        if self.in_front(reached, k):
            T[k] = reached
        for plane, log_step in step.log_steps.items():
            log_per_mm[plane][k] = np.clip(log_per_mm[plane][k] + log_step, *_LOG_RANGE)
        return OutlineState(T, log_per_mm)

    def residuals(self, state: OutlineState, each: Pass, only: int | None = None) -> dict[PlaneName, list[Residuals]]:
        """Residuals at a state, by plane, of all implants or of one alone."""
        return self._residuals(state, each, range(len(self.bodies)) if only is None else (only,), {})

    def _residuals(
        self, state: OutlineState, each: Pass, wanted: Sequence[int], fixed: Mapping[PlaneName, Mapping[int, Shadow]]
    ) -> dict[PlaneName, list[Residuals]]:
        shadows = self._shadows(
            state, [k for k in range(len(self.bodies)) if k not in next(iter(fixed.values()), {})]
        )
        found = {}
        for plane, level in self.levels.items():
            of_plane = [*({**fixed.get(plane, {}), **shadows[plane]}[k] for k in range(len(self.bodies)))]
            T, log_per_mm = self.seen(plane, state.T_world_implant), state.log_per_mm[plane]
            found[plane] = [self._of_implant(level, T, log_per_mm, each, of_plane, k) for k in wanted]
        return found

    def _shadows(self, state: OutlineState, wanted: Sequence[int]) -> dict[PlaneName, dict[int, Shadow]]:
        found = {}
        for plane in self.levels:
            T = self.seen(plane, state.T_world_implant)
            found[plane] = {k: self._shadow(plane, k, T[k]) for k in wanted}
        return found

    def shadows(self, plane: PlaneName, T_world_implant: FloatArray) -> list[Shadow]:
        """Shadows of all implants in a plane at poses (K, 4, 4)."""
        return [self._shadow(plane, k, T) for k, T in enumerate(self.seen(plane, T_world_implant))]

    def _shadow(self, plane: PlaneName, k: int, T: FloatArray) -> Shadow:
        """Shadow of an implant at a pose (4, 4), rendered again only if the pose is another."""
        kept = self._rendered.get((plane, k))
        if kept is None or not np.array_equal(kept[0], T):
            kept = self._rendered[plane, k] = (T.copy(), self.levels[plane].render(self.bodies[k], T))
        return kept[1]

    def _of_implant(
        self, level: Level, T: FloatArray, log_per_mm: FloatArray, each: Pass, shadows: Sequence[Shadow], k: int
    ) -> Residuals:
        """Residuals of one implant in one plane."""
        body = self.bodies[k]
        if each.expected:
            pieces, expected_px, by_log = level.expected(body, T[k], shadows, log_per_mm, k, each.window_px)
        else:
            others = [shadow for other, shadow in enumerate(shadows) if other != k]
            pieces = level.outline(body, T[k], shadows[k], others)
            expected_px = by_log = np.zeros(len(pieces.px))
        offset_px, slope, visible = level.edges(pieces, each.window_px, soft=each.soft)
        by_step = level.by_step(pieces, body.implant, T[k])
        clipped, ends = level.clipped(pieces, offset_px), shadows[k].ends_at(pieces)
        residual_px = offset_px - expected_px
        return Residuals(
            pieces, ends, residual_px, by_step, np.where(np.isnan(by_log), 0.0, by_log), slope, visible, clipped
        )
