"""Axes of an implant from its mesh, whatever the axes of the mesh's file."""

import logging
from collections.abc import Mapping

import numpy as np
import trimesh

from veriserum_hf.core import FloatArray
from veriserum_hf.errors import KinematicsError
from veriserum_hf.geometry.femoral_component import Condyles, femoral_axes
from veriserum_hf.geometry.tibial_component import Tray, tibial_axes

_logger = logging.getLogger(__name__)


def axes_in_mesh(mesh: trimesh.Trimesh, component: str) -> tuple[FloatArray, Condyles | Tray]:
    """Axes of a component, femur or tibia: x to the patient's left, y proximal, z anterior.

    Returns
    -------
    ``T_implant_axes`` (4, 4) from the axes to the coordinates of the mesh, mm, and the shape that gives them.

    Raises
    ------
    KinematicsError
        If the mesh has no such shape.

    """
    if mesh.volume < 0:  # inside out
        mesh = mesh.copy()
        mesh.invert()
    return femoral_axes(mesh) if component == "femur" else tibial_axes(mesh)


def mesh_axes(meshes: Mapping[int, trimesh.Trimesh], components: Mapping[int, str]) -> dict[int, FloatArray]:
    """Axes ``T_implant_axes`` (4, 4) of meshes by anatomy id, mm; with a warning those of its file for one without.

    A model that is given meshes takes them; see `veriserum_hf.modeling.VeriserumPoseModel`.
    """
    found = {}
    for id, mesh in meshes.items():
        try:
            found[id] = axes_in_mesh(mesh, components[id])[0]
        except KinematicsError as error:
            _logger.warning(
                "axes of %s %d: %s. A model takes those of its file, and finds it only where x is to the left, y "
                "proximal and z anterior",
                components[id],
                id,
                error,
            )
            found[id] = np.eye(4)
    return found
