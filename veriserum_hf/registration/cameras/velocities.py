"""How fast implants move in a frame: from its pose and those of the frames before and after it.

An error that all poses share, as that of a camera, cancels in their differences. The polynomial through up to five
poses follows a knee in gait, at 30 Hz, to about one per cent of its velocity; a quadratic does not.

Independent errors of the poses make velocities too large, and a time that is found with them too short. They are what
the fourth differences of poses show, in which the motion of a knee is negligible. Velocities are reduced to what is
expected of the true ones, given them (regression calibration: Carroll et al., Measurement Error in Nonlinear Models,
2006, chapter 4).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import numpy as np
from scipy.spatial.transform import Rotation

from veriserum_hf.core import FAILED, Component, FloatArray, PoseRow
from veriserum_hf.geometry import make_transform, quaternion_to_matrix, transform_points
from veriserum_hf.registration.initial_poses import Starts
from veriserum_hf.registration.scene import DOF, Implant

Velocities = Mapping[int, Mapping[Component, FloatArray]]  # by measurement id
_PLACES = (-2, -1, 0, 1, 2)  # frames before and after
_FOURTH_DIFFERENCE = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / np.sqrt(70)  # of independent errors: as large as one


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
    each of their implants.

    """
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
        slopes = _expected_slopes([motions[id][component] for id in ids])
        for id, slope in zip(ids, slopes, strict=True):
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
    T = {
        n: make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])
        for n, pose in poses.items()
        if pose["anatomy_id"] == implant.anatomy_id
    }
    steps_mm = np.zeros((len(T), DOF))
    center_mm = transform_points(T[0], implant.center_mm[None])[0]
    for row, other in zip(steps_mm, T.values(), strict=True):
        row[:3] = transform_points(other, implant.center_mm[None])[0] - center_mm
        row[3:] = Rotation.from_matrix(other[:3, :3] @ T[0][:3, :3].T).as_rotvec() * implant.radius_mm
    return _Motion(tuple(T), steps_mm)


def _expected_slopes(motions: Sequence[_Motion]) -> FloatArray:
    """Slopes (n, 6) mm per frame without the part of their mean square that errors of the poses are."""
    slopes = np.array([motion.slope for motion in motions])
    differences = [_FOURTH_DIFFERENCE @ motion.steps_mm for motion in motions if motion.places == _PLACES]
    variance = np.mean(np.square(differences), axis=0) if differences else np.zeros(DOF)
    of_errors = variance * np.array([[motion.slope_variance] for motion in motions])
    of_motion = np.maximum(np.mean(slopes**2 - of_errors, axis=0), 0.0)
    reduced: FloatArray = slopes * of_motion / np.maximum(of_motion + of_errors, np.finfo(float).tiny)
    return reduced


@lru_cache
def _slope_weights(places: tuple[int, ...]) -> FloatArray:
    """Weights of values at places whose sum is the slope at 0 of the polynomial through them."""
    slope = np.zeros(len(places))
    slope[1] = 1
    weights: FloatArray = np.linalg.solve(np.vander(places, increasing=True).T, slope)
    return weights
