"""Steps of a pose: from residuals of outlines, and what they do to it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from veriserum_hf.core import FloatArray, PlaneName
from veriserum_hf.geometry import make_transform, transform_points
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.outline.residuals import Residuals
from veriserum_hf.registration.scene import DOF

_LEAST_PIECES = 12  # of an outline, for a step
_MAX_LOG_STEP = 0.5
_LOADING = 1e-7  # of the largest diagonal element
_SOFT_LOADING = 3e-3  # the same where edges are means of rises: their errors must not drive weak directions
_MAX_RATE = 0.95  # of successive steps, that is extrapolated
_SMALL_PX = 0.15  # root mean square displacement
_MAX_STEP = 0.5  # of a window, that any piece of an outline moves by


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

    def follows(self, small: "Pass") -> bool:
        """Whether it is worth taking after one whose steps were small: more exact, or far more narrow."""
        return self.expected or self.soft != small.soft or self.window_px <= small.window_px / 2


@dataclass(frozen=True, eq=False)
class Step:
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

    @property
    def is_small(self) -> bool:
        """Whether another of its kind would hardly change anything."""
        return self.length_px < _SMALL_PX

    def extrapolated(self, last: "Step") -> "Step":
        """Sum of the steps that would follow at the rate since the last one."""
        rate = float(self.step_mm @ self.matrix @ last.step_mm) / max(last.length_px**2, 1e-18)
        factor = 1 / (1 - min(max(rate, 0.0), _MAX_RATE))
        log_steps = {plane: factor * step for plane, step in self.log_steps.items()}
        return Step(factor * self.step_mm, log_steps, factor * self.length_px, self.matrix)


def solve_step(residuals: Mapping[PlaneName, Residuals], each: Pass) -> Step:
    """Gauss-Newton step of one implant; none where no outline has edges."""
    planes = [plane for plane, own in residuals.items() if np.isfinite(own.residual_px).sum() >= _LEAST_PIECES]
    if not planes:
        return Step(np.zeros(DOF), {}, 0.0, np.zeros((DOF, DOF)))
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
    return Step(step[:DOF], log_steps, length_px, of_pose)


def normal_matrix(residuals: Mapping[PlaneName, Residuals]) -> FloatArray:
    """Mean squared displacement of the outlines for a step of the pose, (6, 6) px^2 per mm^2."""
    matrices = [
        own.by_step.T @ (own.weights()[:, None] * own.by_step) for own in residuals.values() if len(own.residual_px)
    ]
    return np.mean(matrices, axis=0) if matrices else np.zeros((DOF, DOF))


def moved(implant: Implant, T_world_implant: FloatArray, step_mm: FloatArray) -> FloatArray:
    """Pose after a step, (6,) mm: `scene.Scene.moved` of one implant."""
    rotation = Rotation.from_rotvec(step_mm[3:] / implant.radius_mm).as_matrix() @ T_world_implant[:3, :3]
    center_mm = transform_points(T_world_implant, implant.center_mm[None])[0] + step_mm[:3]
    return make_transform(rotation, center_mm - rotation @ implant.center_mm)
