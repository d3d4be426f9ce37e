"""Errors of poses: initial ones of a given size, and those of registered poses against their intervals."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import make_transform
from veriserum_hf.simulation.implants import implant_mesh


def moved(T: FloatArray, anatomy_id: int, rng: np.random.Generator, mm: float, deg: float) -> FloatArray:
    """Pose with these errors in random directions; the rotation is about the centre of the implant."""
    shift, axis = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
    rotation = Rotation.from_rotvec(deg * axis, degrees=True).as_matrix()
    centre_mm = implant_mesh(anatomy_id).bounds.mean(axis=0)
    at = T[:3, :3] @ centre_mm + T[:3, 3] + mm * shift
    return make_transform(rotation @ T[:3, :3], at - rotation @ T[:3, :3] @ centre_mm)


def pose_error(T: FloatArray, T_true: FloatArray) -> NDArray[np.float64]:
    """Shift of the origin in mm and rotation vector in deg, (6,): a pose less the true one."""
    rotvec_deg = Rotation.from_matrix(T[:3, :3] @ T_true[:3, :3].T).as_rotvec(degrees=True)
    return np.concatenate([T[:3, 3] - T_true[:3, 3], rotvec_deg])


def held(errors: FloatArray, sigmas: FloatArray) -> float:
    """Share of stated 95 % intervals, (n, k) of errors and deviations, that hold the truth; NaN: none stated."""
    stated = np.isfinite(sigmas).all(axis=1)
    return float((np.abs(errors[stated]) <= 1.96 * sigmas[stated]).mean()) if stated.any() else np.nan
