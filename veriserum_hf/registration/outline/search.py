"""Coarse-to-fine registration of the outlines of one frame, with second initial poses where one may not be enough.

Outlines of small or nearly symmetric implants leave directions in which a pose is weakly determined, and several
poses may fit nearly as well. So an implant is registered again from poses moved along its weakest directions, and
where its outline finds too few edges also from rotated initial poses. The pose that finds most edges is kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from veriserum_hf.core import BoolArray, FloatArray, PlaneName
from veriserum_hf.geometry import FIELD_MM, angle_between_deg, mirror_pose
from veriserum_hf.registration.implant import Implant, central_ray
from veriserum_hf.registration.outline.evidence import seen_in
from veriserum_hf.registration.outline.levels import Body, Level
from veriserum_hf.registration.outline.residuals import Residuals
from veriserum_hf.registration.outline.solver import OutlineSolver, OutlineState
from veriserum_hf.registration.outline.steps import Pass, moved, normal_matrix, solve_step
from veriserum_hf.registration.scene import View
from veriserum_hf.registration.verdicts import MIN_SCORE


@dataclass(frozen=True)
class Scale:
    """Pixels on the detector, mm; blur in these pixels; accuracy of the meshes, mm; steps.

    Meshes err by less than a fiftieth of a pixel: where the initial pose is bad, coarser ones lose some implants.
    """

    pixel_mm: float
    blur_px: float
    within_mm: float
    passes: tuple[Pass, ...]


_BLUR_PX = 1.4
COARSE = Scale(
    FIELD_MM / 256, _BLUR_PX, 0.02, tuple(Pass(w, soft=True) for w in (12, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 3))
)
MIDDLE = Scale(
    FIELD_MM / 512, _BLUR_PX, 0.01, (*(Pass(w) for w in (6, 5, 4)), *(Pass(w, expected=True) for w in (4, 3, 3)))
)
FINE = Scale(FIELD_MM / 1024, _BLUR_PX, 0.005, tuple(Pass(w, expected=True) for w in (4, 4, 3)))
ASSESSED = Pass(3, expected=True)
_INITIAL_PER_MM = 0.4
_WEAK_PX = 3.0  # by which a second initial pose moves the outline, root mean square, in pixels of the scale
_WEAK_MM, _WEAK_DEG = 8.0, 10.0  # but no farther than this
_NEAR = 0.35  # support of an initial pose within some 1 mm and 1 degree; 5 mm off it is at most 0.2
_LOST = MIN_SCORE  # support below which a pose will fail: farther initial poses are tried
_FAR_MM = 8.0
_BOTH_WAYS = np.concatenate([np.eye(3), -np.eye(3)])  # along or about each axis of the world
_NONE = np.zeros((0, 3))
_NEAR_STEPS = 3  # at the middle scale, of poses on edges
_CLOSE_PX = 0.05  # root mean square displacement in the last of these
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
    converged : (K,) whether the last steps were negligible; not before the finest scale.
    runners_up : (K,) angle in degrees between the initial pose of an implant and a mirrored one, farther from it than
        the pose found, whose outline agrees with the image nearly as well; NaN where there is none.

    """

    state: OutlineState
    converged: BoolArray
    runners_up: FloatArray


class OutlineFrame:
    """One frame: its views and implants, at every scale that is needed."""

    def __init__(
        self, views: Mapping[PlaneName, View], implants: Sequence[Implant], brighter_inside: Mapping[PlaneName, bool]
    ) -> None:
        self._views, self._implants, self._brighter = views, implants, brighter_inside
        self._solvers: dict[Scale, OutlineSolver] = {}
        self._known: dict[tuple[Scale, int], tuple[OutlineState, dict[PlaneName, Residuals]]] = {}

    def solver(self, scale: Scale) -> OutlineSolver:
        """Solver at a scale."""
        if scale not in self._solvers:
            levels = {
                plane: Level(view, scale.pixel_mm, scale.blur_px, brighter_inside=self._brighter[plane])
                for plane, view in self._views.items()
            }
            bodies = [Body.of(implant, scale.within_mm) for implant in self._implants]
            self._solvers[scale] = OutlineSolver(levels, bodies)
        return self._solvers[scale]

    def initial_state(self, T_world_implant: FloatArray) -> OutlineState:
        """State at initial poses (K, 4, 4)."""
        log_per_mm = np.full(len(self._implants), np.log(_INITIAL_PER_MM))
        return OutlineState(T_world_implant, dict.fromkeys(self._views, log_per_mm))

    def approach(self, T_world_implant: FloatArray, predicted: Sequence[FloatArray] = ()) -> OutlineFit:
        """Register from initial poses (K, 4, 4), or from others, where those are on edges of the image.

        To a fraction of a pixel of the middle scale. A pose that is on edges needs neither the coarse scale nor
        second initial poses, if it stays on them, and its edges are near enough to compare them with those of a
        rendering from the first step.
        """
        given = self.initial_state(T_world_implant)
        state, before = self._nearest(given, predicted)
        is_near = before > _NEAR
        if is_near.all():
            state = self._closer(state)
        else:
            state = self.solver(COARSE).run(state, COARSE.passes)
            state = self.solver(MIDDLE).run(state, MIDDLE.passes)
        first = state
        runners_up = np.full(len(self._implants), np.nan)
        for k in range(len(self._implants)):
            stays = bool(is_near[k]) and self._support(state, k) > max(before[k], _LOST)
            state = self._best(state, given.T_world_implant[k], k, stays=stays)
            planes = seen_in(self.of_implant(MIDDLE, state, k))
            if len(planes) == 1:
                state, runners_up[k] = self._mirrored(state, given, k, planes[0])
        if state is not first:
            state = self.solver(MIDDLE).run(state, MIDDLE.passes[-2:])
        return OutlineFit(state, np.zeros(len(self._implants), np.bool_), runners_up)

    def finish(self, fit: OutlineFit) -> OutlineFit:
        """Register at the finest scale, from the result of the middle one."""
        state = self.solver(FINE).run(fit.state, FINE.passes)
        return OutlineFit(*self.solver(FINE).converge(state, ASSESSED), fit.runners_up)

    def with_attenuations(self, T_world_implant: FloatArray, reached: OutlineState | None) -> OutlineState:
        """State at poses (K, 4, 4) with attenuations found from these poses, or from those that outlines reached."""
        state = self.initial_state(T_world_implant)
        steps = _ATTENUATION_STEPS
        if reached is not None:
            state, steps = OutlineState(T_world_implant, reached.log_per_mm), 1
        return OutlineState(T_world_implant, self.solver(FINE).run(state, (ASSESSED,) * steps).log_per_mm)

    def _nearest(self, given: OutlineState, predicted: Sequence[FloatArray]) -> tuple[OutlineState, FloatArray]:
        """Of the initial poses of each implant the one with most edges, if it has enough; and its support.

        The others are not tried where one has nearly all.
        """
        before = np.array([self._support(given, k) for k in range(len(self._implants))])
        state = given
        for other in map(self.initial_state, predicted):
            chosen = [self._is_nearer(other, k, before) for k in range(len(before))]
            if all(chosen):
                state = other
            elif any(chosen):
                T = np.where(np.array(chosen)[:, None, None], other.T_world_implant, state.T_world_implant)
                state = OutlineState(T, given.log_per_mm)
        return state, before

    def _is_nearer(self, other: OutlineState, k: int, before: FloatArray) -> bool:
        """Whether an implant has more edges at another pose, and enough; the most, (K,), is updated."""
        if before[k] > _FEW or not self.solver(MIDDLE).in_front(other.T_world_implant[k], k):
            return False
        there = self._support(other, k)
        if there <= max(before[k], _NEAR):
            return False
        before[k] = there
        return True

    def _closer(self, state: OutlineState) -> OutlineState:
        """State after steps at the middle scale from poses on edges, until these are negligible."""
        for _ in range(_NEAR_STEPS):
            steps = [solve_step(self.of_implant(MIDDLE, state, k), ASSESSED) for k in range(len(self._implants))]
            for k, step in enumerate(steps):
                state = self.solver(MIDDLE).stepped(state, k, step)
            if all(step.length_px < _CLOSE_PX for step in steps):
                break
        return state

    def _support(self, state: OutlineState, k: int) -> float:
        return support(self.of_implant(MIDDLE, state, k))

    def _best(self, state: OutlineState, T_given: FloatArray, k: int, *, stays: bool) -> OutlineState:
        """State with the best pose of one implant that second initial poses lead to, more where its edges are few.

        Where its initial pose was on edges, and stays on them, only the wrong way round is left to exclude.
        """
        found = self._support(state, k)
        alternatives = [
            (_ENOUGH, self._weak),
            (_FEW, self._rotated),
            (_FEW, self._half_rotated),
            (_LOST, self._far),
        ]
        for enough, others in [(_FEW, self._reversed)] if stays else alternatives:
            for other in others(state, T_given, k) if found < enough else ():
                if not self.solver(MIDDLE).in_front(other.T_world_implant[k], k):
                    continue
                reached = self.solver(MIDDLE).run(other, MIDDLE.passes, only=k)
                if (support_there := self._support(reached, k)) > found:
                    state, found = reached, support_there
        return state

    def of_implant(self, scale: Scale, state: OutlineState, k: int) -> dict[PlaneName, Residuals]:
        """Residuals of one implant; those of the last state are kept."""
        kept = self._known.get((scale, k))
        if kept is None or kept[0] is not state:
            found = self.solver(scale).residuals(state, ASSESSED, only=k)
            kept = self._known[scale, k] = (state, {plane: of_plane[0] for plane, of_plane in found.items()})
        return kept[1]

    def _weak(self, state: OutlineState, _: FloatArray, k: int) -> Iterator[OutlineState]:
        """Poses moved along the two weakest directions, both ways."""
        values, vectors = np.linalg.eigh(normal_matrix(self.of_implant(MIDDLE, state, k)))
        radius_mm = self._implants[k].radius_mm
        for n in range(2):
            step_mm = vectors[:, n] * _WEAK_PX / np.sqrt(max(values[n], 1e-12))
            longest = max(
                np.linalg.norm(step_mm[:3]) / _WEAK_MM,
                np.linalg.norm(step_mm[3:]) / radius_mm / np.radians(_WEAK_DEG),
            )
            step_mm /= max(longest, 1.0)
            for sign in (1, -1):
                yield self._moved(state, state.T_world_implant[k], k, sign * step_mm)

    def _rotated(self, state: OutlineState, T_given: FloatArray, k: int) -> Iterator[OutlineState]:
        """The initial pose unchanged, and rotated ones through the coarse scale."""
        yield _with_pose(state, k, T_given)
        yield from self._through_coarse(state, T_given, k, rotations_deg=_ROTATED_DEG * _BOTH_WAYS)

    def _reversed(self, state: OutlineState, _: FloatArray, k: int) -> Iterator[OutlineState]:
        """Poses rotated by 180 degrees about the principal axes."""
        implant, T = self._implants[k], state.T_world_implant[k]
        for axis in implant.mesh.principal_inertia_vectors @ T[:3, :3].T:
            yield self._moved(state, T, k, np.concatenate([np.zeros(3), np.pi * implant.radius_mm * axis]))

    def _half_rotated(self, state: OutlineState, _: FloatArray, k: int) -> Iterator[OutlineState]:
        """Poses rotated by 180 degrees about the principal axes, through the coarse scale.

        A tray that is the wrong way round has most of its edges where they must be, in both planes.
        """
        T = state.T_world_implant[k]
        axes = self._implants[k].mesh.principal_inertia_vectors @ T[:3, :3].T
        yield from self._through_coarse(state, T, k, rotations_deg=180 * axes)

    def _far(self, state: OutlineState, T_given: FloatArray, k: int) -> Iterator[OutlineState]:
        """Initial poses that are rotated and shifted farther, through the coarse scale."""
        yield from self._through_coarse(state, T_given, k, rotations_deg=2 * _ROTATED_DEG * _BOTH_WAYS)
        yield from self._through_coarse(state, T_given, k, shifts_mm=_FAR_MM * _BOTH_WAYS)

    def _through_coarse(
        self,
        state: OutlineState,
        T: FloatArray,
        k: int,
        *,
        rotations_deg: FloatArray = _NONE,
        shifts_mm: FloatArray = _NONE,
    ) -> Iterator[OutlineState]:
        """Poses rotated, (n, 3) deg, or shifted, (n, 3) mm, from one, and moved by the coarse scale."""
        angles_mm = np.radians(rotations_deg) * self._implants[k].radius_mm
        steps_mm = np.concatenate([np.pad(shifts_mm, ((0, 0), (0, 3))), np.pad(angles_mm, ((0, 0), (3, 0)))])
        for step_mm in steps_mm:
            start = self._moved(state, T, k, step_mm)
            if self.solver(COARSE).in_front(start.T_world_implant[k], k):
                yield self.solver(COARSE).run(start, COARSE.passes, only=k)

    def _moved(self, state: OutlineState, T: FloatArray, k: int, step_mm: FloatArray) -> OutlineState:
        return _with_pose(state, k, moved(self._implants[k], T, step_mm))

    def _mirrored(
        self, state: OutlineState, given: OutlineState, k: int, plane: PlaneName
    ) -> tuple[OutlineState, float]:
        """Of a pose and those mirrored along the ray, that nearest to the initial one of those that agree as well.

        The shadow of a symmetric body is nearly that of its mirror image behind a plane across the ray. One plane
        cannot distinguish them. The second value is the angle of the pose not taken from the initial one, in degrees,
        or NaN.
        """
        implant, T = self._implants[k], state.T_world_implant[k]
        ray = central_ray(self._views[plane].camera, implant, T)
        best, own, other = support(self.of_implant(MIDDLE, state, k)), state, None
        initial = given.T_world_implant[k, :3, :3]
        for axis in implant.mesh.principal_inertia_vectors:
            start = _with_pose(state, k, mirror_pose(T, axis, implant.center_mm, ray))
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
        return own, float(angle_between_deg(other.T_world_implant[k, :3, :3], initial))


def support(residuals: Mapping[PlaneName, Residuals]) -> float:
    """Share of the visible outline that has an edge of the image where it must be, mean of the planes, 0 to 1."""
    return float(np.mean([own.support(own.ends) for own in residuals.values()])) if residuals else 0.0


def _with_pose(state: OutlineState, k: int, T_world_implant: FloatArray) -> OutlineState:
    T = state.T_world_implant.copy()
    T[k] = T_world_implant
    return OutlineState(T, state.log_per_mm)
