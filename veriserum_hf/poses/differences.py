"""Differences of poses in six degrees of freedom."""

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import norm

from veriserum_hf.core import FloatArray

DEVIATIONS_95 = float(norm.ppf(0.975))  # standard deviations of a normal distribution that hold 95 %
DEGREES_OF_FREEDOM = ("x, mm", "y, mm", "z, mm", "about x, deg", "about y, deg", "about z, deg")


def pose_differences(T_world_implant: FloatArray, T_world_other: FloatArray) -> FloatArray:
    """Poses minus others, (n, 4, 4) each to (n, 6), in the order and the units of `DEGREES_OF_FREEDOM`."""
    if not len(T_world_implant):
        return np.empty((0, 6))
    rotation = Rotation.from_matrix(T_world_implant[:, :3, :3] @ T_world_other[:, :3, :3].swapaxes(1, 2))
    shift_mm = T_world_implant[:, :3, 3] - T_world_other[:, :3, 3]
    return np.concatenate([shift_mm, rotation.as_rotvec(degrees=True)], axis=1)
