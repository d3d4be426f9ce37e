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
from scipy.spatial.transform import Rotation

from veriserum_hf.core import BoolArray, FloatArray, PlaneName
from veriserum_hf.geometry import make_transform, transform_points
from veriserum_hf.registration.outline.levels import Body, Level, Shadow
from veriserum_hf.registration.scene import CLEAR_MM, DOF, Implant
from veriserum_hf.rendering import ContourPieces

_LEAST_MAD_PX = 0.15
_MAX_SLOPE = 1.5  # times the median: a cable is no better evidence than an implant
_LEAST_PIECES = 12  # of an outline, for a step
_INDEPENDENT_PX = 8.0  # along an outline: nearer residuals are correlated
EDGE_PX = 0.2  # standard deviation, a priori, of the error that all edges of an outline share
_LOG_STIFFNESS = 1.0  # prior on the logarithm of an attenuation, at the first one
_LOG_RANGE = (np.log(0.03), np.log(5.0))
_MAX_LOG_STEP = 0.5
_LOADING = 1e-7  # of the largest diagonal element
_SOFT_LOADING = 3e-3  # the same where edges are means of rises: their errors must not drive weak directions
_MAX_ITERATIONS = 24
_NEGLIGIBLE_PX = 0.01  # root mean square displacement of an outline in all steps that would follow
_MAX_RATE = 0.95  # of successive steps, that is extrapolated
_MAX_STEP = 0.5  # of a window, that any piece of an outline moves by


@dataclass(frozen=True, eq=False)
class OutlineState:
    """Poses (K, 4, 4) mm, and logarithms of attenuations by plane, (K,)."""

    T_world_implant: FloatArray
    log_per_mm: Mapping[PlaneName, FloatArray]


@dataclass(frozen=True)
class Pass:
    """One Gauss-Newton step.

    Attributes
    ----------
    window_px : how far along a normal edges are looked for.
    soft : the mean of all rises counts, not the steepest.
    expected : offsets of a rendering are subtracted.

    """

    window_px: float
    soft: bool = False
    expected: bool = False


@dataclass(frozen=True, eq=False)
class Residuals:
    """Residuals of the outline of one implant in one plane.

    Attributes
    ----------
    pieces : n pieces of outline that can be seen, and of edges inside it.
    ends : (n,) whether the shadow of the implant ends there; opaque metal shows no edges inside it.
    residual_px : (n,) distance to the edge less that of the rendering; NaN where there is no edge.
    by_step : (n, 6) derivative of the outline's place, px per mm of a step.
    by_log_attenuation : (n,) derivative of the rendering's edge.
    slope : (n,) of the edges.
    visible : (n,) False where the image is missing.
    clipped : (n,) whether pixels next to the edge are clipped, so that it may be elsewhere.

    """

    pieces: ContourPieces
    ends: BoolArray
    residual_px: FloatArray
    by_step: FloatArray
    by_log_attenuation: FloatArray
    slope: FloatArray
    visible: BoolArray
    clipped: BoolArray

    def weights(self) -> FloatArray:
        """Weight of every piece, (n,), that sum to one; 0 without an edge.

        Edges inside the shadow count by how many of them the image has: where opaque metal has none, those near by
        are others.
        """
        found = np.isfinite(self.residual_px)
        weight = np.zeros(len(found))
        if not found.any():
            return weight
        residual, slope = self.residual_px[found], self.slope[found]
        mad = max(float(np.median(np.abs(residual))), _LEAST_MAD_PX)
        robust = 1 / (1 + (residual / (2 * mad)) ** 2) ** 2
        clear = np.minimum(slope / max(float(np.median(slope)), 1e-12), _MAX_SLOPE)
        weight[found] = self.pieces.length_px[found] * robust * clear
        weight[~self.ends] *= self.support(~self.ends)
        weight /= max(weight.sum(), 1e-12)
        return weight

    def support(self, of: BoolArray | None = None) -> float:
        """Share of the visible pieces, or of some of them, that have an edge where it must be, 0 to 1.

        An edge counts in full at its place, half at 0.64 px from it.
        """
        length_px = self.pieces.length_px * (self.visible if of is None else self.visible & of)
        near = np.where(np.isnan(self.residual_px), 0.0, 1 / (1 + self.residual_px**2) ** 2)
        total_px = float(length_px.sum())
        return float(length_px @ near) / total_px if total_px else 0.0

    def shared(self, *, with_edge: bool) -> tuple[FloatArray, FloatArray]:
        """Derivatives of residuals with respect to what a whole outline shares, and their stiffness a priori.

        That is the logarithm of the attenuation, and the error of edges if wanted: (n, 1 or 2) and (1 or 2,), for
        weights that sum to one.
        """
        columns = np.column_stack([self.by_log_attenuation, np.ones(len(self.residual_px))])
        stiffness = np.array([_LOG_STIFFNESS, 1 / EDGE_PX**2]) / self.information()
        wanted = 2 if with_edge else 1
        return columns[:, :wanted], stiffness[:wanted]

    def information(self) -> float:
        """Of all residuals of an outline about their mean: independent ones, by their variance, per px^2."""
        used = self.weights() > 0
        spread_px = max(1.5 * float(np.median(np.abs(self.residual_px[used]))), _LEAST_MAD_PX)
        independent = max(float(self.pieces.length_px[used].sum()) / _INDEPENDENT_PX, 1.0)
        return independent / spread_px**2


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
        """Take the steps, of all implants or of one alone."""
        moving = range(len(self.bodies)) if only is None else (only,)
        fixed = self._shadows(state, [k for k in range(len(self.bodies)) if k not in moving])
        for each in passes:
            residuals = self._residuals(state, each, moving, fixed)
            for n, k in enumerate(moving):
                step = solve_step({plane: of_plane[n] for plane, of_plane in residuals.items()}, each)
                state = self._stepped(state, k, step)
        return state

    def converge(self, state: OutlineState, each: Pass) -> tuple[OutlineState, BoolArray]:
        """Take steps until they are negligible; the state, and of which implants they are, (K,) bool.

        The edges of a rendering change with the pose, which the derivatives do not contain: steps along weak
        directions are too short by a nearly constant factor. Two successive ones give it, and are extrapolated
        (Aitken).
        """
        moving = list(range(len(self.bodies)))
        before: dict[int, _Step] = {}
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
                state = self._stepped(state, k, step)
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

    def _stepped(self, state: OutlineState, k: int, step: "_Step") -> OutlineState:
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


@dataclass(frozen=True, eq=False)
class _Step:
    """Gauss-Newton step of one implant.

    Attributes
    ----------
    step_mm : (6,) as in `scene`.
    log_steps : of the logarithms of its attenuations, by plane.
    length_px : root mean square displacement of the outline.
    matrix : (6, 6) whose quadratic form is the square of that.

    """

    step_mm: FloatArray
    log_steps: Mapping[PlaneName, float]
    length_px: float
    matrix: FloatArray

    def extrapolated(self, last: "_Step") -> "_Step":
        """Sum of the steps that would follow at the rate since the last one."""
        rate = float(self.step_mm @ self.matrix @ last.step_mm) / max(last.length_px**2, 1e-18)
        factor = 1 / (1 - min(max(rate, 0.0), _MAX_RATE))
        log_steps = {plane: factor * step for plane, step in self.log_steps.items()}
        return _Step(factor * self.step_mm, log_steps, factor * self.length_px, self.matrix)


def solve_step(residuals: Mapping[PlaneName, Residuals], each: Pass) -> _Step:
    """Gauss-Newton step of one implant; none where no outline has edges."""
    planes = [plane for plane, own in residuals.items() if np.isfinite(own.residual_px).sum() >= _LEAST_PIECES]
    if not planes:
        return _Step(np.zeros(DOF), {}, 0.0, np.zeros((DOF, DOF)))
    extra = (1 + (len(planes) > 1)) if each.expected else 0
    matrix, right = np.zeros((DOF + extra * len(planes),) * 2), np.zeros(DOF + extra * len(planes))
    for n, plane in enumerate(planes):
        own = residuals[plane]
        weight = own.weights()
        used = weight > 0
        columns = np.zeros((used.sum(), len(right)))
        columns[:, :DOF] = own.by_step[used]
        if extra:
            of_plane = DOF + n * extra + np.arange(extra)
            shared, stiffness = own.shared(with_edge=extra > 1)
            columns[:, of_plane] = shared[used]
            matrix[of_plane, of_plane] += stiffness
        matrix += columns.T @ (weight[used, None] * columns)
        right += columns.T @ (weight[used] * own.residual_px[used])
    of_pose = matrix[:DOF, :DOF] / len(planes)
    matrix[np.diag_indices(DOF)] += (_SOFT_LOADING if each.soft else _LOADING) * np.diag(matrix)[:DOF].max()
    step: FloatArray = np.linalg.solve(matrix, right).astype(np.float64)
    reach_px = float(np.max([np.abs(residuals[plane].by_step @ step[:DOF]).max() for plane in planes]))
    step *= min(1.0, _MAX_STEP * each.window_px / max(reach_px, 1e-12))
    log_steps = {
        plane: float(np.clip(step[DOF + n * extra], -_MAX_LOG_STEP, _MAX_LOG_STEP))
        for n, plane in enumerate(planes)
        if extra
    }
    length_px = float(np.sqrt(np.maximum(step[:DOF] @ of_pose @ step[:DOF], 0.0)))
    return _Step(step[:DOF], log_steps, length_px, of_pose)


def normal_matrix(residuals: Mapping[PlaneName, Residuals]) -> FloatArray:
    """Mean squared displacement of the outlines for a step of the pose, (6, 6) px^2 per mm^2."""
    matrices = [
        own.by_step.T @ (own.weights()[:, None] * own.by_step) for own in residuals.values() if len(own.residual_px)
    ]
    return np.mean(matrices, axis=0) if matrices else np.zeros((DOF, DOF))


def step_between(implant: Implant, T_from: FloatArray, T_to: FloatArray) -> FloatArray:
    """Step, (6,) mm, that `moved` takes from one pose (4, 4) to another."""
    shift_mm = np.subtract(*(transform_points(T, implant.center_mm[None])[0] for T in (T_to, T_from)))
    rotvec = Rotation.from_matrix(T_to[:3, :3] @ T_from[:3, :3].T).as_rotvec()
    return np.concatenate([shift_mm, rotvec * implant.radius_mm])


def moved(implant: Implant, T_world_implant: FloatArray, step_mm: FloatArray) -> FloatArray:
    """Pose after a step, (6,) mm: `scene.Scene.moved` of one implant."""
    rotation = Rotation.from_rotvec(step_mm[3:] / implant.radius_mm).as_matrix() @ T_world_implant[:3, :3]
    center_mm = transform_points(T_world_implant, implant.center_mm[None])[0] + step_mm[:3]
    return make_transform(rotation, center_mm - rotation @ implant.center_mm)
