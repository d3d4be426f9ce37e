"""One adjustment of many frames: poses of all implants, attenuations, and the unknowns of the rig together.

Gauss-Newton steps with the residuals of outlines (`veriserum_hf.registration.outline.solver`). Attenuations and
errors of edges are eliminated plane by plane, poses implant by implant (Schur complement), so that only the unknowns
of the rig are left, however many frames there are. What is not free is held, and its tolerance enters the covariance:
consider covariance (Schmidt 1966). Residuals of one trial are correlated: their sums over trials give the covariance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from veriserum_hf.core import BoolArray, FloatArray, IndexArray, PlaneName
from veriserum_hf.registration.cameras.observed import Observed
from veriserum_hf.registration.cameras.unknowns import Unknowns
from veriserum_hf.registration.outline.residuals import Residuals
from veriserum_hf.registration.outline.solver import OutlineState
from veriserum_hf.registration.outline.steps import moved
from veriserum_hf.registration.scene import DOF

_LOADING = 1e-7  # of the largest diagonal element of a pose's matrix
_MAX_ITERATIONS = 32
_NEGLIGIBLE = 0.05  # steps of the rig, in standard deviations
_MAX_LOG_STEP = 0.5
_LEAST_CLUSTERS = 10  # of frames, whose sums give the covariance


@dataclass(frozen=True, eq=False)
class Reduced:
    """Normal equations of the rig from one implant in one frame, its pose eliminated.

    Attributes
    ----------
    matrix, right : (N, N) and (N,), in units of the variance of independent residuals.
    pose_step : (6,) step of the pose if the rig stays.
    pose_by_unknown : (6, N) what a change of the rig adds to it.
    planes : what was eliminated there.

    """

    matrix: FloatArray
    right: FloatArray
    pose_step: FloatArray
    pose_by_unknown: FloatArray
    planes: Mapping[PlaneName, "_Plane"]


class _Plane:
    """Normal equations of the pose (6) and the rig (N) from one outline, what it shares eliminated."""

    def __init__(self, own: Residuals, by_unknown: FloatArray, *, with_edge: bool) -> None:
        weight = own.weights()
        used = weight > 0
        weight, residual_px = weight[used], own.residual_px[used]
        columns = np.concatenate([own.by_step[used], by_unknown[used]], axis=1)
        shared, stiffness = own.shared(with_edge=with_edge)
        shared = shared[used]
        self._inverse = np.linalg.inv(shared.T @ (weight[:, None] * shared) + np.diag(stiffness))
        self._shared_columns = shared.T @ (weight[:, None] * columns)
        self._shared_right = shared.T @ (weight * residual_px)
        influence = weight[:, None] * (columns - shared @ (self._inverse @ self._shared_columns))
        self.matrix: FloatArray = columns.T @ influence
        self.right: FloatArray = influence.T @ residual_px
        self.information = own.information()

    def log_step(self, step: FloatArray, factor: float) -> float:
        """Step of the logarithm of the attenuation, so much of its own and with a step of pose and rig, (6 + N,)."""
        return float(self._inverse[0] @ (factor * self._shared_right - self._shared_columns @ step))


def reduced(observed: Observed, unknowns: Unknowns) -> list[Reduced | None]:
    """Normal equations of each implant of a frame; None where an outline has too few edges."""
    by_plane = observed.residuals()
    found: list[Reduced | None] = []
    for k, body in enumerate(observed.bodies):
        own = {plane: of_plane[k] for plane, of_plane in by_plane.items()}
        if any(np.isfinite(each.residual_px).sum() <= 2 * DOF for each in own.values()):
            found.append(None)
            continue
        planes = {}
        for plane, each in own.items():
            T, velocity = observed.solver.seen(plane, observed.state.T_world_implant)[k], observed.velocity[k]
            level = observed.levels[plane]
            by_unknown = unknowns.derivatives(plane, each, level, body.implant, T, velocity)
            planes[plane] = _Plane(each, by_unknown, with_edge=len(own) > 1)
        scale = float(np.mean([each.information for each in planes.values()]))
        matrix = scale * np.sum([each.matrix for each in planes.values()], axis=0)
        right = scale * np.sum([each.right for each in planes.values()], axis=0)
        of_pose = matrix[:DOF, :DOF] + _LOADING * np.diag(matrix)[:DOF].max() * np.eye(DOF)
        solved = np.linalg.solve(of_pose, np.column_stack([right[:DOF], matrix[:DOF, DOF:]]))
        cross = matrix[DOF:, :DOF]
        found.append(
            Reduced(
                matrix[DOF:, DOF:] - cross @ solved[:, 1:],
                right[DOF:] - cross @ solved[:, 0],
                solved[:, 0],
                -solved[:, 1:],
                planes,
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Result of an adjustment.

    Attributes
    ----------
    values : (N,) of the unknowns, 0 of those that are held.
    covariance : (N, N) of these, with what is held; 0 of those that are held.
    covariance_by_images : (N, N) the same with errors of edges and meshes alone, not with those of cameras that are
        held: what a change is tested by, whichever error of the cameras it makes up for.
    information : (N, N) of the images alone, poses eliminated, as if residuals were independent.
    normal, right : (N, N) and (N,) normal equations of the last step, with the tolerances.
    of_frames : parts of these by frame and implant.
    observed : the frames at the poses reached.
    converged : whether the last step was negligible.

    """

    values: FloatArray
    covariance: FloatArray
    covariance_by_images: FloatArray
    information: FloatArray
    normal: FloatArray
    right: FloatArray
    of_frames: Sequence[Sequence[Reduced | None]]
    observed: Sequence[Observed]
    converged: bool

    def values_without(self, left_out: Sequence[int]) -> FloatArray:
        """Values (N,) without some frames, by one step from those with all of them."""
        matrix, right = _sums([self.of_frames[n] for n in left_out], len(self.values))
        free = np.flatnonzero(self.covariance.any(axis=0))
        step = np.zeros(len(self.values))
        step[free] = np.linalg.solve((self.normal - matrix)[np.ix_(free, free)], (self.right - right)[free])
        return self.values + step


def adjust(observed: Sequence[Observed], unknowns: Unknowns, values: FloatArray) -> Adjusted:
    """Adjust frames and the rig from values (N,) of the unknowns."""
    free = unknowns.is_free
    prior = np.diag(1 / unknowns.tolerance[free] ** 2)
    values, converged = values.copy(), False
    last: FloatArray | None = None
    for _ in range(_MAX_ITERATIONS):
        observed = [each.with_cameras(unknowns.cameras(values), unknowns.late_ms(values)) for each in observed]
        equations = [reduced(each, unknowns) for each in observed]
        matrix, right = _sums(equations, len(values))
        normal = matrix[np.ix_(free, free)] + prior
        step = np.zeros(len(values))
        step[free] = np.linalg.solve(normal, right[free] - prior @ values[free])
        length = np.sqrt(step[free] @ normal @ step[free])
        factor = 1.0
        if last is not None:
            rate = float(step[free] @ normal @ last[free]) / max(float(last[free] @ normal @ last[free]), 1e-18)
            factor, last = 1 / (1 - min(max(rate, 0.0), 0.9)), None
        else:
            last = step
        step = factor * step
        observed = [_stepped(each, of, step, factor) for each, of in zip(observed, equations, strict=True)]
        values = values + step
        if factor * length < _NEGLIGIBLE * np.sqrt(free.sum()):
            converged = True
            break
    observed = [each.with_cameras(unknowns.cameras(values), unknowns.late_ms(values)) for each in observed]
    equations = [reduced(each, unknowns) for each in observed]
    information, right = _sums(equations, len(values))
    by_images = _covariance(observed, equations, unknowns, ~unknowns.is_of_rig)
    # Edges that come and go keep steps at the size that independent residuals explain, far below what is stated.
    squared = step[free] @ np.linalg.solve(by_images[np.ix_(free, free)], step[free])
    converged |= bool(np.sqrt(squared) < _NEGLIGIBLE * np.sqrt(free.sum()))
    stiffness = 1 / unknowns.tolerance**2
    return Adjusted(
        values=values,
        covariance=_covariance(observed, equations, unknowns, ~free),
        covariance_by_images=by_images,
        information=information,
        normal=information + np.diag(stiffness),
        right=right - stiffness * values,
        of_frames=equations,
        observed=observed,
        converged=converged,
    )


def registered_by(observed: Observed, unknowns: Unknowns, before: FloatArray, values: FloatArray) -> Observed:
    """A frame by other values (N,) than those before, registered from poses that are moved along with the cameras."""
    along = _stepped(observed, reduced(observed, unknowns), values - before, 0.0)
    return along.with_cameras(unknowns.cameras(values), unknowns.late_ms(values)).converged()


def _sums(equations: Sequence[Sequence[Reduced | None]], count: int) -> tuple[FloatArray, FloatArray]:
    matrix, right = np.zeros((count, count)), np.zeros(count)
    for of_frame in equations:
        for each in of_frame:
            if each is not None:
                matrix += each.matrix
                right += each.right
    return matrix, right


def _stepped(observed: Observed, equations: Sequence[Reduced | None], step: FloatArray, factor: float) -> Observed:
    """A frame after a step of the rig, (N,), the step of its poses that belongs to it, and so much of their own."""
    T = observed.state.T_world_implant.copy()
    log_per_mm = {plane: of_plane.copy() for plane, of_plane in observed.state.log_per_mm.items()}
    for k, of_implant in enumerate(equations):
        if of_implant is None:
            continue
        pose_step = factor * of_implant.pose_step + of_implant.pose_by_unknown @ step
        T[k] = moved(observed.bodies[k].implant, T[k], pose_step)
        for plane, each in of_implant.planes.items():
            log_step = each.log_step(np.concatenate([pose_step, step]), factor)
            log_per_mm[plane][k] += np.clip(log_step, -_MAX_LOG_STEP, _MAX_LOG_STEP)
    return replace(observed, state=OutlineState(T, log_per_mm))


def _covariance(
    observed: Sequence[Observed],
    equations: Sequence[Sequence[Reduced | None]],
    unknowns: Unknowns,
    considered: BoolArray,
) -> FloatArray:
    """Covariance (N, N) of the free unknowns: from residuals, tolerances, and those of what is considered."""
    free, tolerance = unknowns.is_free, unknowns.tolerance
    count = len(free)
    matrix, _ = _sums(equations, count)
    prior = np.diag(1 / tolerance[free] ** 2)
    inverse = np.linalg.inv(matrix[np.ix_(free, free)] + prior)
    clusters = _clusters([each.trial_id for each in observed])
    scores = np.zeros((clusters.max() + 1, count))
    for cluster, of_frame in zip(clusters, equations, strict=True):
        scores[cluster] += sum((each.right for each in of_frame if each is not None), np.zeros(count))
    scores = scores[:, free] - scores[:, free].mean(axis=0)
    meat = scores.T @ scores * len(scores) / max(len(scores) - 1, 1)
    held = matrix[np.ix_(free, considered)] * tolerance[considered]
    found = np.zeros((count, count))
    found[np.ix_(free, free)] = inverse @ (meat + prior + held @ held.T) @ inverse
    return found


def _clusters(trial_ids: Sequence[int]) -> IndexArray:
    """Number of the cluster of each frame: its trial, or one of ten parts where there are fewer trials."""
    numbers = np.unique(trial_ids, return_inverse=True)[1]
    if numbers.max() + 1 >= _LEAST_CLUSTERS:
        return numbers
    order = np.lexsort((np.arange(len(numbers)), numbers))
    parts = np.empty(len(numbers), int)
    parts[order] = np.arange(len(numbers)) * min(_LEAST_CLUSTERS, len(numbers)) // len(numbers)
    return parts
