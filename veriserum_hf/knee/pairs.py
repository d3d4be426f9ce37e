"""Coordinates of the joint by two sets of poses of the same frames."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.core import COMPONENTS, FloatArray, JointConvention
from veriserum_hf.geometry import invert_transform
from veriserum_hf.knee.axes import KneeAxes
from veriserum_hf.knee.coordinates import joint_coordinates
from veriserum_hf.poses import Estimates

_ANGLES = 3  # of the coordinates, which come first


@dataclass(frozen=True, eq=False)
class JointPairs:
    """Frames in which both sets have both components.

    Attributes
    ----------
    measurement_id, trial_id : (n,) int64.
    first, second : (n, 6) coordinates in the order of `COORDINATES`.

    """

    measurement_id: NDArray[np.int64]
    trial_id: NDArray[np.int64]
    first: FloatArray
    second: FloatArray

    @property
    def differences(self) -> FloatArray:
        """First minus second, (n, 6); angles from -180 to 180."""
        found = self.first - self.second
        found[:, :_ANGLES] = (found[:, :_ANGLES] + 180) % 360 - 180
        return found


def joint_pairs(pairs: Estimates, axes: KneeAxes, convention: JointConvention = "grood-suntay") -> JointPairs:
    """Coordinates of the joint by the first poses, and by the second ones, which are the labels.

    Parameters
    ----------
    pairs : poses of both components.
    axes : of all implants.
    convention : of the translations.

    """
    id = pairs.measurement_id
    femora, tibiae = (np.flatnonzero(pairs.component == name) for name in COMPONENTS)
    ids, first, second = np.intersect1d(id[femora], id[tibiae], assume_unique=True, return_indices=True)
    femur, tibia = femora[first], tibiae[second]
    T_implant_axes = np.array([axes.implants[each].T_implant_axes for each in pairs.anatomy_id.tolist()])

    def coordinates(T_world_implant: FloatArray) -> FloatArray:
        T = T_world_implant @ T_implant_axes
        return joint_coordinates(invert_transform(T[tibia]) @ T[femur], axes.side, convention)

    return JointPairs(
        ids, pairs.trial_id[femur], coordinates(pairs.T_world_implant), coordinates(pairs.T_world_label)
    )
