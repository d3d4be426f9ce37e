"""How fast implants move in a frame: from its pose and those of the frames before and after it.

An error that all poses share, as that of a camera, cancels in their differences. The polynomial through up to five
poses follows a knee in gait, at 30 Hz, to about one per cent of its velocity; a quadratic does not.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypedDict

import numpy as np
from scipy.spatial.transform import Rotation

from veriserum_hf.core import FAILED, Component, FloatArray, PoseRow
from veriserum_hf.geometry import make_transform, quaternion_to_matrix, transform_points
from veriserum_hf.registration.initial_poses import Starts
from veriserum_hf.registration.scene import DOF, Implant

Velocities = Mapping[int, Mapping[Component, FloatArray]]  # by measurement id
_REACH = 2  # frames before and after


class Place(TypedDict):
    """Where a frame is."""

    measurement_id: int
    trial_id: int
    frame_index: int


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
    found = {}
    for (trial_id, index), id in by_place.items():
        around = {n: by_place.get((trial_id, index + n)) for n in range(-_REACH, _REACH + 1)}
        of_frame: dict[Component, FloatArray] = {}
        own = _usable(starts, id)
        for component, pose in own.items():
            poses = {n: _usable(starts, other).get(component) for n, other in around.items()}
            same = {n: each for n, each in poses.items() if each and each["anatomy_id"] == pose["anatomy_id"]}
            if -1 in same and 1 in same:
                of_frame[component] = _velocity(same, implants[pose["anatomy_id"]]) * frame_rate_hz / 1000
        if own and len(of_frame) == len(own):
            found[id] = of_frame
    return found


def _usable(starts: Starts, id: int | None) -> dict[Component, PoseRow]:
    poses = {} if id is None else starts.get(id, {})
    return {name: pose for name, pose in poses.items() if pose.get("verdict") != FAILED}


def _velocity(poses: Mapping[int, PoseRow], implant: Implant) -> FloatArray:
    """Step of the pose 0 per frame, (6,) mm, from poses by their distance in frames."""
    T = {n: make_transform(quaternion_to_matrix(p["quaternion_xyzw"]), p["translation_mm"]) for n, p in poses.items()}
    steps_mm = np.zeros((len(T), DOF))
    center_mm = transform_points(T[0], implant.center_mm[None])[0]
    for row, other in zip(steps_mm, T.values(), strict=True):
        row[:3] = transform_points(other, implant.center_mm[None])[0] - center_mm
        row[3:] = Rotation.from_matrix(other[:3, :3] @ T[0][:3, :3].T).as_rotvec() * implant.radius_mm
    return _slope_weights(tuple(T)) @ steps_mm


@lru_cache
def _slope_weights(places: tuple[int, ...]) -> FloatArray:
    """Weights of values at places whose sum is the slope at 0 of the polynomial through them."""
    slope = np.zeros(len(places))
    slope[1] = 1
    weights: FloatArray = np.linalg.solve(np.vander(places, increasing=True).T, slope)
    return weights
