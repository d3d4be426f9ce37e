"""Which points an intensifier's field shows."""

import math

import numpy as np

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.geometry import FIELD_MM, Plane


def in_field(plane: Plane, world_mm: FloatArray, magnifications: tuple[float, float] = (1.0, math.inf)) -> BoolArray:
    """Whether points project into an intensifier's field, from between it and its source.

    Parameters
    ----------
    plane : source and intensifier.
    world_mm : (n, 3) points of the world.
    magnifications : least and largest one; 1 on the intensifier, and more the nearer a point is to the source.

    Returns
    -------
    (n,) bool.

    """
    T = plane.T_world_intensifier
    in_plane = (world_mm - T[:3, 3]) @ T[:3, :3]  # h, v, and the height above the intensifier
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        magnified = plane.sid_mm / (plane.sid_mm - in_plane[:, 2])
        shown_mm = plane.principal_point_mm + (in_plane[:, :2] - plane.principal_point_mm) * magnified[:, None]
        in_field = (np.abs(shown_mm) <= FIELD_MM / 2).all(axis=1)
    least, most = magnifications
    return np.asarray(in_field & (magnified >= least) & (magnified <= most) & np.isfinite(magnified))
