"""How fast implants move in a frame: from its pose and those of the frames before and after it.

An error that all poses share, as that of a camera, cancels in their differences. The polynomial through up to five
poses follows a knee in gait, at 30 Hz, to about one per cent of its velocity; a quadratic does not. At 15 Hz,
velocities are too small by up to five per cent, at 10 Hz by up to twenty: a time that is found with them is too long.

Independent errors of the poses make velocities too large, and the time too short. They are what the fourth
differences of poses show, in which the motion of a knee is negligible at 30 Hz. Velocities are reduced to what is
expected of the true ones, given them (regression calibration: Carroll et al., Measurement Error in Nonlinear Models,
2006, chapter 4). A single wrong pose must not change the velocities of all frames: the standard deviation of the
errors is a robust one, and frames next to such a jump, which their fourth differences show, have no velocity.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import norm

from veriserum_hf.core import FAILED, BoolArray, Component, FloatArray, PoseRow
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import transform_points
from veriserum_hf.poses import transforms
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.initial_poses import Starts
from veriserum_hf.registration.scene import DOF

Velocities = Mapping[int, Mapping[Component, FloatArray]]  # by measurement id
_PLACES = (-2, -1, 0, 1, 2)  # frames before and after
_FOURTH_DIFFERENCE = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / np.sqrt(70)  # of independent errors: as large as one
_JUMP_SD, _EXACT_MM = 5.0, 1e-6  # of fourth differences
_LEAST_RATE_HZ = 14.0  # that is 15 Hz, which may be 14.985


class Place(TypedDict):
    """Where a frame is."""

    measurement_id: int
    trial_id: int
    frame_index: int


@dataclass(frozen=True, eq=False)
class _Motion:
    """An implant in a frame: steps (n, 6) mm from its pose to those around it, at n places in frames."""

    places: tuple[int, ...]
    steps_mm: FloatArray

    @property
    def slope(self) -> FloatArray:
        """(6,) mm per frame."""
        return _slope_weights(self.places) @ self.steps_mm

    @property
    def fourth_difference(self) -> FloatArray:
        """(6,) mm, with the standard deviation of the errors of the poses; NaN without five poses."""
        return _FOURTH_DIFFERENCE @ self.steps_mm if self.places == _PLACES else np.full(DOF, np.nan)

    @property
    def slope_variance(self) -> float:
        """Variance of the slope by errors of the poses with a variance of one."""
        return float(np.sum(_slope_weights(self.places) ** 2))


def velocities(
    labels: Iterable[Place], starts: Starts, implants: Mapping[int, Implant], frame_rate_hz: float
) -> dict[int, dict[Component, FloatArray]]:
    """Velocities of the implants of each frame: steps of its poses, (6,) mm/ms, as in `scene`.

    Parameters
    ----------
    labels : ids of frames; those of a trial whose ``frame_index`` differ by one follow each other at the frame rate.
    starts : their poses; failed ones do not count.
    implants : by anatomy id.
    frame_rate_hz : of all trials.

    Returns
    -------
    By measurement id and component, of the frames that have the poses of the frames right before and after them, for
    each of their implants, without a jump.

    Raises
    ------
    RegistrationError
        If the frame rate is too low to follow a knee.

    """
    if frame_rate_hz < _LEAST_RATE_HZ:
        raise RegistrationError(
            f"the frame rate is {frame_rate_hz:g} Hz; expected at least {_LEAST_RATE_HZ:g} Hz for the time between "
            "the planes, as velocities of a knee from poses further apart are wrong by more than 5 %. Refine without "
            "time"
        )
    by_place = {(row["trial_id"], row["frame_index"]): row["measurement_id"] for row in labels}
    motions: dict[int, dict[Component, _Motion]] = {}
    for (trial_id, index), id in by_place.items():
        around = {n: _usable(starts, by_place.get((trial_id, index + n))) for n in _PLACES}
        of_frame = {name: _motion(name, around, implants) for name in around[0]}
        known = {name: motion for name, motion in of_frame.items() if {-1, 1} <= set(motion.places)}
        if known and len(known) == len(of_frame):
            motions[id] = known
    found: dict[int, dict[Component, FloatArray]] = {id: {} for id in motions}
    for component in dict.fromkeys(name for of_frame in motions.values() for name in of_frame):
        ids = [id for id, of_frame in motions.items() if component in of_frame]
        slopes, jumps = _expected_slopes([motions[id][component] for id in ids])
        for id, slope, jump in zip(ids, slopes, jumps, strict=True):
            if jump:
                found.pop(id, None)
            elif id in found:
                found[id][component] = slope * frame_rate_hz / 1000
    return found


def _usable(starts: Starts, id: int | None) -> dict[Component, PoseRow]:
    poses = {} if id is None else starts.get(id, {})
    return {name: pose for name, pose in poses.items() if pose.get("verdict") != FAILED}


def _motion(
    component: Component, around: Mapping[int, Mapping[Component, PoseRow]], implants: Mapping[int, Implant]
) -> _Motion:
    implant = implants[around[0][component]["anatomy_id"]]
    poses = {n: of_frame[component] for n, of_frame in around.items() if component in of_frame}
    of_implant = {n: pose for n, pose in poses.items() if pose["anatomy_id"] == implant.anatomy_id}
    T = dict(zip(of_implant, transforms(of_implant.values()), strict=True))
    steps_mm = np.zeros((len(T), DOF))
    center_mm = transform_points(T[0], implant.center_mm[None])[0]
    for row, other in zip(steps_mm, T.values(), strict=True):
        row[:3] = transform_points(other, implant.center_mm[None])[0] - center_mm
        row[3:] = Rotation.from_matrix(other[:3, :3] @ T[0][:3, :3].T).as_rotvec() * implant.radius_mm
    return _Motion(tuple(T), steps_mm)


def _expected_slopes(motions: Sequence[_Motion]) -> tuple[FloatArray, BoolArray]:
    """Slopes (n, 6) mm per frame without the part of their mean square that errors of poses are; (n,) which jump."""
    slopes = np.array([motion.slope for motion in motions])
    slope_variance = np.array([[motion.slope_variance] for motion in motions])
    differences = np.array([motion.fourth_difference for motion in motions])
    variance = _variance(differences[np.isfinite(differences).all(axis=1)])
    # Where poses are exact, motion is all of a fourth difference. It is smaller than slopes are.
    usual = np.sqrt(np.maximum(_JUMP_SD**2 * variance, np.mean(slopes**2, axis=0))) + _EXACT_MM
    jumps = (np.abs(differences) > usual).any(axis=1)
    of_errors = variance * slope_variance
    of_motion = np.maximum((slopes**2 - of_errors)[~jumps].sum(axis=0), 0.0) / max(np.count_nonzero(~jumps), 1)
    reduced: FloatArray = slopes * of_motion / np.maximum(of_motion + of_errors, np.finfo(float).tiny)
    return reduced, jumps


def _variance(differences: FloatArray) -> FloatArray:
    """(6,) of differences (n, 6), without those that are much larger than most."""
    if not len(differences):
        return np.zeros(DOF)
    sd = np.median(np.abs(differences), axis=0) / norm.ppf(0.75)
    variance: FloatArray = np.mean(differences**2, axis=0, where=np.abs(differences) <= _JUMP_SD * sd)
    return variance


@lru_cache
def _slope_weights(places: tuple[int, ...]) -> FloatArray:
    """Weights of values at places whose sum is the slope at 0 of the polynomial through them."""
    slope = np.zeros(len(places))
    slope[1] = 1
    weights: FloatArray = np.linalg.solve(np.vander(places, increasing=True).T, slope)
    return weights
