"""Smoothing of the joint's pose over time, on SE(3), with the covariances of the poses.

The state of a frame is the pose of the femur in the tibia's axes with its velocity. Between frames the velocity is
constant but for white accelerations (Barfoot, State Estimation for Robotics (2017), 11.1); each of the six has its
own power. All frames of all trials are one least-squares problem, solved by Gauss-Newton steps with a banded
Cholesky factor: the result is that of a Rauch-Tung-Striebel smoother at its final linearisation.

The powers, and how large the noise from frame to frame is in comparison to the stated deviations, are those with
which each pose is best predicted from all others (leave-one-out); the noise is as stated, unless another one is
significantly better. A knee swings about a mean, which this model does not expect. The likelihood of all poses
together would take the missing drift for small accelerations, and smooth away what there is; prediction of left-out
frames is robust to that (Wahba, Ann Stat 13 (1985) 1378).

What errors of neighbouring frames have in common, such as those of cameras, smoothing does not lower: it is added to
the smoothed covariances again. It is what the poses state beyond their `image_covariance`, and the part of the latter
by which frames do not scatter: neighbouring frames are alike, and so are the errors of their images.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import interp1d
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation, Slerp
from scipy.stats import chi2

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.errors import KinematicsError
from veriserum_hf.knee.banded import Banded

_FLOOR = 1e-4  # mm and deg: smallest deviation of a measured pose
_UNKNOWN_VELOCITY = 1e4  # mm and deg a second
_MOST_FRAMES, _MOST_OF_TRIAL = 400, 100  # of which the noise is estimated
_STEPS = 6
_CURVED = 0.3  # step of a logarithm, for the curvature of the density
_PRECISION = {"eps": 1e-4, "ftol": 1e-7}
# Weak priors of logarithms: the noise is as stated, and accelerations are those of a knee, which keeps a coordinate
# that hardly moves in a few frames from counting as fixed.
_RATIO_LOG, _ACCELERATION_LOG = (0.0, 1.0), (np.log(30.0), 1.5)
# Gain in the logarithm of the density from which one of the six noises is another one than stated: likelihood-ratio
# test at 5 % for all. Otherwise frames that scatter 4 % less by chance would be alike by a quarter of the deviation.
_SIGNIFICANT = chi2.isf(0.05 / 6, 1) / 2


@dataclass(frozen=True, eq=False)
class Noise:
    """What each pose is best predicted with from the others.

    Attributes
    ----------
    acceleration : (6,) square roots of the powers of accelerations, mm and deg, by s^1.5.
    ratio : (6,) of the noise from frame to frame to the stated deviations.
    larger_acceleration : (6,) one standard deviation larger than what was found; bands are those of these.

    """

    acceleration: FloatArray
    ratio: FloatArray
    larger_acceleration: FloatArray


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Poses and velocities; NaN before the first and after the last measured frame of a trial.

    Attributes
    ----------
    T_tibia_femur : (n, 4, 4), mm.
    covariance : (n, 6, 6) of the position, mm, and of the rotation vector, deg, in the tibia's axes.
    own : (n, 6, 6) the part of it that may differ from frame to frame.
    velocity : (n, 6) of the same, by s.
    velocity_covariance : (n, 6, 6).
    noise : that it was smoothed with.

    """

    T_tibia_femur: FloatArray
    covariance: FloatArray
    own: FloatArray
    velocity: FloatArray
    velocity_covariance: FloatArray
    noise: Noise


def smooth(
    T_tibia_femur: FloatArray,
    covariance: FloatArray,
    own: FloatArray,
    measured: BoolArray,
    time_s: FloatArray,
    trials: list[slice],
) -> Smoothed:
    """Smooth the pose of a joint, and interpolate it where it was not measured.

    Parameters
    ----------
    T_tibia_femur : (n, 4, 4), mm.
    covariance : (n, 6, 6) of position, mm, and rotation vector, deg, in the tibia's axes.
    own : (n, 6, 6) the part of it that may differ from frame to frame.
    measured : (n,) which frames are used; the others may be NaN.
    time_s : (n,) rising in each trial.
    trials : frames of each.

    Raises
    ------
    KinematicsError
        If no measured frame has a covariance.

    """
    measured = measured & np.isfinite(covariance).all(axis=(1, 2))
    if not measured.any():
        raise KinematicsError(
            "no frame that counts has a covariance, which smoothing needs; expected poses of `veriserum register`"
        )
    spans = [span for trial in trials if (span := _between_measured(trial, measured)) is not None]
    noise = _fitted(T_tibia_femur, own, measured, time_s, spans)
    share = np.sqrt((1 - noise.ratio**2).clip(0))  # of the deviations, by which frames do not scatter
    T = np.full_like(T_tibia_femur, np.nan)
    P, P_own = np.full_like(covariance, np.nan), np.full_like(covariance, np.nan)
    velocity, of_velocity = np.full((len(T), 6), np.nan), np.full_like(covariance, np.nan)
    for span in spans:
        chain = _Chain(T_tibia_femur[span], own[span], measured[span], time_s[span])
        for _ in range(_STEPS):
            chain.step(noise)
        T[span, :3, :3], T[span, :3, 3], T[span, 3] = chain.R, chain.p, (0, 0, 0, 1)
        states = chain.marginals(replace(noise, acceleration=noise.larger_acceleration))
        alike = own[span] * share[:, None] * share
        P_own[span] = states[:, :6, :6] + _in_gaps(alike, measured[span])
        P[span] = P_own[span] + _in_gaps(covariance[span] - own[span], measured[span])
        velocity[span], of_velocity[span] = chain.velocity, states[:, 6:, 6:]
    return Smoothed(T, P, P_own, velocity, of_velocity, noise)


def _between_measured(trial: slice, measured: BoolArray) -> slice | None:
    there = np.flatnonzero(measured[trial])
    return slice(trial.start + int(there[0]), trial.start + int(there[-1]) + 1) if len(there) else None


def _fitted(
    T: FloatArray, covariance: FloatArray, measured: BoolArray, time_s: FloatArray, spans: list[slice]
) -> Noise:
    """Noise of the longest trials, by prediction of each frame from the others."""
    chains, frames = [], 0
    for span in sorted(spans, key=lambda each: each.start - each.stop):
        part = slice(span.start, min(span.stop, span.start + _MOST_OF_TRIAL))
        if frames < _MOST_FRAMES and measured[part].sum() > 1:  # of a single frame there is no prediction
            chains.append(_Chain(T[part], covariance[part], measured[part], time_s[part]))
            frames += part.stop - part.start

    def noise_of(parameters: FloatArray) -> Noise:
        return Noise(np.exp(parameters[:6]), np.exp(parameters[6:]), np.exp(parameters[:6]))

    def cost(parameters: FloatArray) -> float:
        noise = noise_of(parameters)
        of_priors = [
            np.sum(((part - mean) / deviation) ** 2) / 2
            for part, (mean, deviation) in ((parameters[:6], _ACCELERATION_LOG), (parameters[6:], _RATIO_LOG))
        ]
        return sum(chain.cost(noise) for chain in chains) + float(sum(of_priors))

    bounds = [(np.log(1e-2), np.log(1e5))] * 6 + [(np.log(0.05), np.log(20.0))] * 6
    start = np.array([_ACCELERATION_LOG[0]] * 6 + [0.0] * 6)
    found = minimize(cost, start, method="L-BFGS-B", bounds=bounds, options=_PRECISION)
    parameters = found.x.copy()
    for place in range(6, 12):
        as_stated = np.where(np.arange(12) == place, 0.0, found.x)
        if cost(as_stated) - found.fun < _SIGNIFICANT:
            parameters[place] = 0.0
    larger = parameters.copy()
    for place, step in enumerate(_CURVED * np.eye(12)[:6]):
        bent = (cost(parameters + step) - 2 * cost(parameters) + cost(parameters - step)) / _CURVED**2
        larger[place] += min(1 / np.sqrt(max(bent, 1e-9)), _ACCELERATION_LOG[1])
    return replace(noise_of(parameters), larger_acceleration=np.exp(larger[:6]))


def _in_gaps(covariance: FloatArray, measured: BoolArray) -> FloatArray:
    """Covariances (n, 6, 6) of measured frames, interpolated in the others."""
    known = covariance[measured]
    if len(known) == 1:
        return np.broadcast_to(known, covariance.shape)
    return np.asarray(interp1d(np.flatnonzero(measured), known, axis=0)(np.arange(len(measured))))


class _Chain:
    """Frames of one trial, from a measured one to a measured one, and their least-squares problem."""

    def __init__(self, T: FloatArray, covariance: FloatArray, measured: BoolArray, time_s: FloatArray) -> None:
        self.measured = np.flatnonzero(measured)
        self.measured_p, self.measured_R = T[measured, :3, 3], T[measured, :3, :3]
        self.covariance = covariance[measured] + _FLOOR**2 * np.eye(6)
        self.dt = np.diff(time_s)
        if len(self.measured) == 1:
            self.p, self.R = self.measured_p, self.measured_R
        else:
            known_s = time_s[measured]
            self.p = interp1d(known_s, self.measured_p, axis=0)(time_s)
            self.R = Slerp(known_s, Rotation.from_matrix(self.measured_R))(time_s).as_matrix()
        self.velocity = np.zeros((len(T), 6))
        if len(self.dt):
            moved = np.concatenate([np.diff(self.p, axis=0), _rotations(self.R[1:], self.R[:-1])], axis=1)
            rates = moved / self.dt[:, None]
            self.velocity[:-1] += rates / 2
            self.velocity[1:] += rates / 2
            self.velocity[[0, -1]] *= 2
        self._linearise()

    def _linearise(self) -> None:
        """Residuals, and their derivatives by a step of the states, (position, rotation, velocities) of 12."""
        turned = _rotations(self.R[1:], self.R[:-1])
        moved = np.concatenate([np.diff(self.p, axis=0), turned], axis=1)
        self.process = np.concatenate(
            [moved - self.dt[:, None] * self.velocity[:-1], np.diff(self.velocity, axis=0)], axis=1
        )
        self.by_next = np.broadcast_to(np.eye(12), (len(self.dt), 12, 12)).copy()
        self.by_next[:, 3:6, 3:6] = _inverse_jacobians(turned)
        self.by_this = -np.broadcast_to(np.eye(12), (len(self.dt), 12, 12)).copy()
        self.by_this[:, 3:6, 3:6] = -_inverse_jacobians(-turned)
        self.by_this[:, :6, 6:] = -self.dt[:, None, None] * np.eye(6)
        off = _rotations(self.R[self.measured], self.measured_R)
        self.residual = np.concatenate([self.p[self.measured] - self.measured_p, off], axis=1)

    def _system(self, noise: Noise) -> tuple[Banded, FloatArray]:
        """Normal equations, and gradient (n, 12)."""
        weight = np.linalg.inv(self._noise(noise))
        weighted = (weight @ self.residual[..., None])[..., 0]
        count = len(self.p)
        diagonal = np.zeros((count, 12, 12))
        diagonal[:, range(6, 12), range(6, 12)] = 1 / _UNKNOWN_VELOCITY**2
        gradient = np.zeros((count, 12))
        diagonal[self.measured, :6, :6] += weight
        gradient[self.measured, :6] += weighted
        W = _process_weights(self.dt, noise.acceleration**2)
        of_next, of_this = (A.swapaxes(1, 2) @ W for A in (self.by_next, self.by_this))
        diagonal[1:] += of_next @ self.by_next
        diagonal[:-1] += of_this @ self.by_this
        gradient[1:] += (of_next @ self.process[..., None])[..., 0]
        gradient[:-1] += (of_this @ self.process[..., None])[..., 0]
        return Banded(diagonal, of_next @ self.by_this), gradient

    def step(self, noise: Noise) -> None:
        """One Gauss-Newton step of all states."""
        system, gradient = self._system(noise)
        step = -system.solve(gradient)
        self.p = self.p + step[:, :3]
        self.R = Rotation.from_rotvec(step[:, 3:6], degrees=True).as_matrix() @ self.R
        self.velocity = self.velocity + step[:, 6:]
        self._linearise()

    def cost(self, noise: Noise) -> float:
        """Negative logarithm of the densities of measured poses, each predicted from all others, but for a constant.

        With the measurement's covariance R, and residual r and covariance P of the smoothed pose, which has seen it,
        the prediction without it is off by R (R - P)^-1 r, with the covariance R (R - P)^-1 R.
        """
        system, gradient = self._system(noise)
        r = self.residual - system.solve(gradient)[self.measured, :6]
        R = self._noise(noise)
        without = R - system.inverse_blocks()[self.measured, :6, :6]
        squares = np.einsum("ki,ki", r, np.linalg.solve(without, r[..., None])[..., 0])
        determinants = 2 * np.linalg.slogdet(R)[1] - np.linalg.slogdet(without)[1]
        return float(squares + determinants.sum()) / 2

    def marginals(self, noise: Noise) -> FloatArray:
        """Covariances (n, 12, 12) of the states: poses, and velocities."""
        return self._system(noise)[0].inverse_blocks()

    def _noise(self, noise: Noise) -> FloatArray:
        """Covariances of the measured poses from frame to frame."""
        return self.covariance * noise.ratio[:, None] * noise.ratio


def _process_weights(dt: FloatArray, power: FloatArray) -> FloatArray:
    """Inverse covariances (n, 12, 12) of what white accelerations change in a time: (pose, velocity)."""
    W = np.zeros((len(dt), 12, 12))
    k = np.arange(6)
    W[:, k, k] = 12 / dt[:, None] ** 3 / power
    W[:, k, k + 6] = W[:, k + 6, k] = -6 / dt[:, None] ** 2 / power
    W[:, k + 6, k + 6] = 4 / dt[:, None] / power
    return W


def _rotations(R: FloatArray, R_before: FloatArray) -> FloatArray:
    """Rotation vectors, deg, (n, 3) that lead from one rotation to the next: R = Exp(vector) R_before."""
    if not len(R):
        return np.empty((0, 3))
    return np.asarray(Rotation.from_matrix(R @ R_before.swapaxes(1, 2)).as_rotvec(degrees=True))


def _inverse_jacobians(rotation_deg: FloatArray) -> FloatArray:
    """Inverse left Jacobians (n, 3, 3) of rotation vectors."""
    vector = np.radians(rotation_deg)
    angle = np.linalg.norm(vector, axis=1)
    small = angle < 1e-4
    safe = np.where(small, 1.0, angle)
    factor = np.where(small, 1 / 12, 1 / safe**2 - 1 / (2 * safe * np.tan(safe / 2)))
    K = np.zeros((len(vector), 3, 3))
    x, y, z = vector.T
    K[:, 0, 1], K[:, 0, 2], K[:, 1, 2] = -z, y, -x
    K = K - K.swapaxes(1, 2)
    return np.asarray(np.eye(3) - K / 2 + factor[:, None, None] * (K @ K))
