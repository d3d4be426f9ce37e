"""Coarse-to-fine registration of the outlines of one frame, with second initial poses where one may not be enough.

Outlines of small or nearly symmetric implants leave directions in which a pose is weakly determined, and several
poses may fit nearly as well. So an implant is registered again from poses moved along its weakest directions, and
where its outline finds too few edges also from rotated initial poses. The pose that finds most edges is kept.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from veriserum_hf.core import BoolArray, FloatArray, PlaneName
from veriserum_hf.geometry import FIELD_MM, angle_between_deg, make_transform, transform_points
from veriserum_hf.registration.outline.levels import Body, Level
from veriserum_hf.registration.outline.solver import (
    OutlineSolver,
    OutlineState,
    Pass,
    Residuals,
    moved,
    normal_matrix,
)
from veriserum_hf.registration.scene import View


@dataclass(frozen=True)
class _Scale:
    """Pixels on the detector, mm; blur in these pixels; steps."""

    pixel_mm: float
    blur_px: float
    passes: tuple[Pass, ...]


_BLUR_PX = 1.4
COARSE = _Scale(FIELD_MM / 256, _BLUR_PX, tuple(Pass(w, soft=True) for w in (12, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 3)))
MIDDLE = _Scale(
    FIELD_MM / 512, _BLUR_PX, (*(Pass(w) for w in (6, 5, 4)), *(Pass(w, expected=True) for w in (4, 3, 3)))
)
FINE = _Scale(FIELD_MM / 1024, _BLUR_PX, tuple(Pass(w, expected=True) for w in (4, 4, 3)))
ASSESSED = Pass(3, expected=True)
_INITIAL_PER_MM = 0.4
_WEAK_PX = 3.0  # by which a second initial pose moves the outline, root mean square, in pixels of the scale
_WEAK_MM, _WEAK_DEG = 8.0, 10.0  # but no farther than this
_LOST = 0.5  # support below which a pose is wrong, and farther initial poses are tried
_FAR_MM = 8.0
_ATTENUATION_STEPS = 4
_ROTATED_DEG = 8.0
_DISTINCT_DEG = 4.0  # poses nearer to each other are one
_SIMILAR = 0.1  # difference in support below which one plane cannot decide between two poses
_ENOUGH = 0.95  # support above which no other pose can have much more
_FEW = 0.8  # share of an outline with edges, below which rotated initial poses are tried


@dataclass(frozen=True, eq=False)
class OutlineFit:
    """Result for one frame.

    Attributes
    ----------
    state : of all implants.
    converged : (K,) whether the last steps were negligible.
    runners_up : (K,) angle in degrees between the pose of an implant and a mirrored one whose outline agrees with the
        image nearly as well; NaN where there is none.

    """

    state: OutlineState
    converged: BoolArray
    runners_up: FloatArray


class OutlineFrame:
    """One frame: its views and implants, at every scale that is needed."""

    def __init__(
        self, views: Mapping[PlaneName, View], bodies: Sequence[Body], brighter_inside: Mapping[PlaneName, bool]
    ) -> None:
        self._views, self._bodies, self._brighter = views, bodies, brighter_inside
        self._solvers: dict[_Scale, OutlineSolver] = {}

    def solver(self, scale: _Scale) -> OutlineSolver:
        """Solver at a scale."""
        if scale not in self._solvers:
            levels = {
                plane: Level(view, scale.pixel_mm, scale.blur_px, brighter_inside=self._brighter[plane])
                for plane, view in self._views.items()
            }
            self._solvers[scale] = OutlineSolver(levels, self._bodies)
        return self._solvers[scale]

    def initial_state(self, T_world_implant: FloatArray) -> OutlineState:
        """State at initial poses (K, 4, 4)."""
        log_per_mm = np.full(len(self._bodies), np.log(_INITIAL_PER_MM))
        return OutlineState(T_world_implant, dict.fromkeys(self._views, log_per_mm))

    def register(self, T_world_implant: FloatArray) -> OutlineFit:
        """Register from initial poses (K, 4, 4)."""
        given = self.initial_state(T_world_implant)
        state = self.solver(MIDDLE).run(self.solver(COARSE).run(given, COARSE.passes), MIDDLE.passes)
        runners_up = np.full(len(self._bodies), np.nan)
        for k in range(len(self._bodies)):
            state, found = self._improved(state, self._weak(state, k), k)
            if found < _FEW:
                state, found = self._improved(state, self._rotated(state, given.T_world_implant[k], k), k)
            if found < _FEW and len(self._views) > 1:
                state, found = self._improved(state, self._half_rotated(state, k), k)
            if found < _LOST:
                state, found = self._improved(state, self._far(state, given.T_world_implant[k], k), k)
            if len(self._views) == 1:
                state, runners_up[k] = self._mirrored(state, given, k)
        state = self.solver(MIDDLE).run(state, MIDDLE.passes[-2:])
        state = self.solver(FINE).run(state, FINE.passes)
        return OutlineFit(*self.solver(FINE).converge(state, ASSESSED), runners_up)

    def with_attenuations(self, T_world_implant: FloatArray, reached: OutlineState | None) -> OutlineState:
        """State at poses (K, 4, 4) with attenuations: those reached by outlines, or found from these poses."""
        if reached is None:
            reached = self.solver(FINE).run(self.initial_state(T_world_implant), (ASSESSED,) * _ATTENUATION_STEPS)
        return OutlineState(T_world_implant, reached.log_per_mm)

    def _improved(self, state: OutlineState, tried: Iterable[OutlineState], k: int) -> tuple[OutlineState, float]:
        """State with the best pose of one implant that other poses lead to, and its support."""
        best = support(self.of_implant(MIDDLE, state, k))
        if best > _ENOUGH:
            return state, best
        for other in tried:
            if not self.solver(MIDDLE).in_front(other.T_world_implant[k], k):
                continue
            reached = self.solver(MIDDLE).run(other, MIDDLE.passes, only=k)
            found = support(self.of_implant(MIDDLE, reached, k))
            if found > best:
                state, best = reached, found
        return state, best

    def of_implant(self, scale: _Scale, state: OutlineState, k: int) -> dict[PlaneName, Residuals]:
        """Residuals of one implant."""
        solver = self.solver(scale)
        return {plane: of_plane[0] for plane, of_plane in solver.residuals(state, ASSESSED, only=k).items()}

    def _weak(self, state: OutlineState, k: int) -> Iterator[OutlineState]:
        """Poses moved along the two weakest directions, both ways."""
        values, vectors = np.linalg.eigh(normal_matrix(self.of_implant(MIDDLE, state, k)))
        body = self._bodies[k]
        for n in range(2):
            step_mm = vectors[:, n] * _WEAK_PX / np.sqrt(max(values[n], 1e-12))
            longest = max(
                np.linalg.norm(step_mm[:3]) / _WEAK_MM,
                np.linalg.norm(step_mm[3:]) / body.implant.radius_mm / np.radians(_WEAK_DEG),
            )
            step_mm /= max(longest, 1.0)
            for sign in (1, -1):
                yield _with_pose(state, k, moved(body.implant, state.T_world_implant[k], sign * step_mm))

    def _rotated(self, state: OutlineState, T_given: FloatArray, k: int) -> Iterator[OutlineState]:
        """The initial pose unchanged, and rotated ones through the coarse scale."""
        yield _with_pose(state, k, T_given)
        yield from self._through_coarse(state, T_given, k, np.radians(_ROTATED_DEG), 0.0)

    def _half_rotated(self, state: OutlineState, k: int) -> Iterator[OutlineState]:
        """Poses rotated by 180 degrees about the principal axes, through the coarse scale.

        A tray that is the wrong way round has most of its edges where they must be, in both planes.
        """
        implant, T = self._bodies[k].implant, state.T_world_implant[k]
        for axis in implant.mesh.principal_inertia_vectors:
            step_mm = np.concatenate([np.zeros(3), T[:3, :3] @ axis * np.pi * implant.radius_mm])
            start = _with_pose(state, k, moved(implant, T, step_mm))
            yield self.solver(COARSE).run(start, COARSE.passes, only=k)

    def _far(self, state: OutlineState, T_given: FloatArray, k: int) -> Iterator[OutlineState]:
        """Initial poses that are rotated and shifted farther, through the coarse scale."""
        yield from self._through_coarse(state, T_given, k, np.radians(2 * _ROTATED_DEG), 0.0)
        yield from self._through_coarse(state, T_given, k, 0.0, _FAR_MM)

    def _through_coarse(
        self, state: OutlineState, T_given: FloatArray, k: int, angle: float, shift_mm: float
    ) -> Iterator[OutlineState]:
        implant = self._bodies[k].implant
        for axis in np.concatenate([np.eye(3), -np.eye(3)]):
            step_mm = np.concatenate([axis * shift_mm, axis * angle * implant.radius_mm])
            start = _with_pose(state, k, moved(implant, T_given, step_mm))
            if self.solver(COARSE).in_front(start.T_world_implant[k], k):
                yield self.solver(COARSE).run(start, COARSE.passes, only=k)

    def _mirrored(self, state: OutlineState, given: OutlineState, k: int) -> tuple[OutlineState, float]:
        """Of a pose and those mirrored along the ray, that nearest to the initial one of those that agree as well.

        The shadow of a symmetric body is nearly that of its mirror image behind a plane across the ray. One plane
        cannot distinguish them. The second value is the angle to the pose not taken, in degrees, or NaN.
        """
        implant, T = self._bodies[k].implant, state.T_world_implant[k]
        (level,) = self.solver(MIDDLE).levels.values()
        center_mm = transform_points(T, implant.center_mm[None])[0]
        ray = center_mm - level.camera.source_mm
        ray /= np.linalg.norm(ray)
        best, own, other = support(self.of_implant(MIDDLE, state, k)), state, None
        initial = given.T_world_implant[k, :3, :3]
        for axis in implant.mesh.principal_inertia_vectors:
            R = (np.eye(3) - 2 * np.outer(ray, ray)) @ T[:3, :3] @ (np.eye(3) - 2 * np.outer(axis, axis))
            start = _with_pose(state, k, make_transform(R, center_mm - R @ implant.center_mm))
            reached = self.solver(MIDDLE).run(start, MIDDLE.passes, only=k)
            apart = angle_between_deg(reached.T_world_implant[k, :3, :3], T[:3, :3])
            found = support(self.of_implant(MIDDLE, reached, k))
            if apart < _DISTINCT_DEG or found < best - _SIMILAR:
                continue
            nearer = angle_between_deg(reached.T_world_implant[k, :3, :3], initial) < angle_between_deg(
                own.T_world_implant[k, :3, :3], initial
            )
            if nearer or found > best + _SIMILAR:
                own, other = reached, own
            else:
                other = reached
            best = max(best, found)
        if other is None:
            return own, float("nan")
        return own, float(angle_between_deg(own.T_world_implant[k, :3, :3], other.T_world_implant[k, :3, :3]))


def support(residuals: Mapping[PlaneName, Residuals]) -> float:
    """Share of the visible outline that has an edge of the image where it must be, mean of the planes, 0 to 1.

    An edge counts in full at its place, half at 0.64 px from it.
    """
    found = []
    for own in residuals.values():
        total = float(own.pieces.length_px[own.visible].sum())
        near = 1 / (1 + np.nan_to_num(own.residual_px, nan=np.inf) ** 2) ** 2
        found.append(float((own.pieces.length_px * near)[own.visible].sum()) / total if total else 0.0)
    return float(np.mean(found)) if found else 0.0


def _with_pose(state: OutlineState, k: int, T_world_implant: FloatArray) -> OutlineState:
    T = state.T_world_implant.copy()
    T[k] = T_world_implant
    return OutlineState(T, state.log_per_mm)
