"""Bundle adjustment: positions of sources and intensifiers, from markers of a phantom in unknown poses.

The parameters are a few numbers (per plane the principal point and the source-to-intensifier distance, and the pose
of the second intensifier); every frame adds a pose of the phantom, a nuisance parameter. The poses are eliminated:
for given numbers each frame's best pose is found by a few Gauss-Newton steps, and `scipy.optimize.least_squares` sees
only what is left of the residuals and of their derivatives (variable projection: Golub and Pereyra, SIAM J. Numer.
Anal. 10, 1973, with the Jacobian of Kaufman, BIT 15, 1975). Information on the numbers after elimination is the Schur
complement, and its inverse is their block of the full covariance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from veriserum_hf.calibration.poses import PlaneMarkers, by_rotation, fit_poses, huber_weight
from veriserum_hf.core import FloatArray
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import Plane, make_transform

_HUBER_SIGMAS = 3.0  # beyond which a residual's influence stops growing: 0.3 % of Gaussian noise lies beyond
_MAD_TO_SIGMA = 1.4826
_MOST_ITERATIONS = 40  # five to ten are usual


@dataclass(frozen=True)
class Adjusted:
    """Result of a bundle adjustment.

    Attributes
    ----------
    planes : the planes, adjusted.
    covariance : (3, 3), or (12, 12) of two planes: principal point and distance of each (mm), then the second
        intensifier's translation (mm) and rotation (degrees) along and about the world's axes.
    T_world_phantom : (f, 4, 4) poses of the phantom.
    residual_mm_rms : per coordinate, of the markers used.
    markers_used : number of markers that are not outliers.

    """

    planes: tuple[Plane, ...]
    covariance: FloatArray
    T_world_phantom: FloatArray
    residual_mm_rms: float
    markers_used: int


class _Adjustment:
    """The residuals and their derivatives, as `least_squares` needs them."""

    def __init__(
        self, measured: Sequence[PlaneMarkers], planes: Sequence[Plane], T_world_phantom: FloatArray
    ) -> None:
        self.measured, self.initial_planes = measured, planes
        self.size = 3 if len(planes) == 1 else 12
        self.huber_mm = np.inf
        self.T_world_phantom = T_world_phantom
        # Absolute, so that the initial trust region is as large as the distances, not zero.
        self.move_to(np.concatenate([*map(_parameters_of, planes), np.zeros(self.size - 3 * len(planes))]))

    def move_to(self, parameters: FloatArray) -> None:
        self.at = parameters.copy()
        self.planes = _adjusted_planes(self.initial_planes, parameters)
        self.T_world_phantom, self.projections = fit_poses(
            self.measured, self.planes, self.T_world_phantom, self.huber_mm
        )

    def residuals(self, parameters: FloatArray) -> FloatArray:
        if not np.array_equal(parameters, self.at):
            self.move_to(parameters)
        seen = [
            (projection.detector_mm - markers.detector_mm)[markers.seen].ravel()
            for markers, projection in zip(self.measured, self.projections, strict=True)
        ]
        return np.concatenate(seen)

    def jacobian(self, parameters: FloatArray) -> FloatArray:
        """Derivative of the residuals after elimination of the poses."""
        if not np.array_equal(parameters, self.at):
            self.move_to(parameters)
        frames = len(self.T_world_phantom)
        normal, mixed, pairs = np.zeros((frames, 6, 6)), np.zeros((frames, 6, self.size)), []
        for number, (markers, projection) in enumerate(zip(self.measured, self.projections, strict=True)):
            by_parameter = np.zeros((*projection.by_plane.shape[:-1], self.size))
            by_parameter[..., 3 * number : 3 * number + 3] = projection.by_plane
            if number == 1:
                by_parameter[..., 6:9] = -projection.by_point
                by_parameter[..., 9:] = -np.radians(by_rotation(projection.from_center_mm, projection.by_point))
            weight = huber_weight(projection.detector_mm - markers.detector_mm, markers.seen, self.huber_mm)
            by_pose, by_parameter = (
                part.reshape(frames, -1, part.shape[-1]) for part in (projection.by_pose, by_parameter)
            )
            weighted = (by_pose * weight.reshape(frames, -1, 1)).swapaxes(1, 2)
            normal += weighted @ by_pose
            mixed += weighted @ by_parameter
            pairs.append((markers, by_pose, by_parameter))
        pose_by_parameter = np.linalg.solve(normal, mixed)
        reduced = [
            (by_parameter - by_pose @ pose_by_parameter)
            .reshape(*markers.seen.shape, 2, self.size)[markers.seen]
            .reshape(-1, self.size)
            for markers, by_pose, by_parameter in pairs
        ]
        return np.concatenate(reduced)


def _parameters_of(plane: Plane) -> FloatArray:
    return np.array([*plane.principal_point_mm, plane.sid_mm])


def _adjusted_planes(planes: Sequence[Plane], parameters: FloatArray) -> tuple[Plane, ...]:
    moved = [
        replace(plane, principal_point_mm=own[:2], sid_mm=float(own[2]))
        for plane, own in zip(planes, parameters[: 3 * len(planes)].reshape(-1, 3), strict=True)
    ]
    if len(planes) == 2:
        T = planes[1].T_world_intensifier
        rotation = Rotation.from_rotvec(parameters[9:], degrees=True).as_matrix()
        moved[1] = replace(
            moved[1], T_world_intensifier=make_transform(rotation @ T[:3, :3], T[:3, 3] + parameters[6:9])
        )
    return tuple(moved)


def adjust(measured: Sequence[PlaneMarkers], planes: Sequence[Plane], T_world_phantom: FloatArray) -> Adjusted:
    """Adjust one plane, or two planes and the pose of the second intensifier, and all poses.

    Huber's loss limits the influence of wrong markers; its threshold is three robust standard deviations of the
    residuals (median absolute deviation), updated during the adjustment. The covariance is Huber's and White's
    sandwich (Econometrica 48, 1980): it holds where some markers, such as those at the field's dark rim, are measured
    less precisely than others.

    Raises
    ------
    CalibrationError
        If the adjustment does not converge, or reaches an invalid source.
    numpy.linalg.LinAlgError
        If the frames do not determine a pose or one of the parameters.

    """
    problem = _Adjustment(measured, planes, T_world_phantom)
    parameters, sigma_mm = problem.at, np.inf
    for _ in range(3):
        before_mm, sigma_mm = sigma_mm, _robust_sigma_mm(problem.residuals(parameters))
        if sigma_mm > 0.9 * before_mm:
            break
        problem.huber_mm = _HUBER_SIGMAS * sigma_mm
        problem.move_to(parameters)
        solution = least_squares(
            problem.residuals,
            parameters,
            problem.jacobian,
            loss="huber",
            f_scale=problem.huber_mm,
            x_scale="jac",
            max_nfev=_MOST_ITERATIONS,
        )
        if not solution.success:
            raise CalibrationError(f"the adjustment has not converged after {_MOST_ITERATIONS} iterations")
        parameters = solution.x
    residual_mm, jacobian = problem.residuals(parameters), problem.jacobian(parameters)
    weight = np.minimum(1, problem.huber_mm / np.maximum(np.abs(residual_mm), 1e-12))
    inverse = np.linalg.inv((jacobian * weight[:, None]).T @ jacobian)
    scores = (jacobian * (weight * residual_mm)[:, None]).reshape(-1, 2, problem.size).sum(axis=1)
    freedom = len(residual_mm) - 6 * len(T_world_phantom) - problem.size
    covariance = inverse @ (scores.T @ scores) @ inverse * (len(residual_mm) / freedom)
    used = (weight == 1).reshape(-1, 2).all(axis=1)
    rms_mm = float(np.sqrt(np.mean(residual_mm.reshape(-1, 2)[used] ** 2)))
    return Adjusted(problem.planes, covariance, problem.T_world_phantom, rms_mm, int(used.sum()))


def _robust_sigma_mm(residual_mm: FloatArray) -> float:
    return max(_MAD_TO_SIGMA * float(np.median(np.abs(residual_mm))), 1e-9)
