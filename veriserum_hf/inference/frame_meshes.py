"""Points of the implants of one frame, for a model that is given meshes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from veriserum_hf.archive import VeriserumArchive, read_mesh
from veriserum_hf.core import COMPONENTS, Component, FloatArray
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import mesh_axes
from veriserum_hf.modeling import surface_points


def frame_shapes(
    archive: VeriserumArchive | None, anatomy_id: Sequence[int], files: Mapping[Component, Path]
) -> tuple[FloatArray, FloatArray]:
    """Points with normals, (2, n, 6), and axes, (2, 4, 4), of the femoral and the tibial component.

    Parameters
    ----------
    archive : with the meshes of implants by id, or None.
    anatomy_id : of both components, -1 if unknown.
    files : STL files (mm) of components, which count before those of the archive.

    Raises
    ------
    TrainingError
        If there is no mesh of a component.
    FrameError
        If a file is no mesh of an implant in mm.

    """
    points, axes = [], []
    for component, id in zip(COMPONENTS, anatomy_id, strict=True):
        known = archive.anatomies.get(id) if archive is not None else None
        file = files.get(component) or (known and known.path)
        if not file:
            raise TrainingError(
                f"the model finds an implant by its mesh, and there is none of the {component}"
                f"{f', {id}' if id >= 0 else ', whose id is unknown'}: give --{component}-mesh STL, or an id of the "
                f"archive by --{component}"
            )
        mesh = read_mesh(file, f"{component}_implant").mesh
        points.append(surface_points(mesh.vertices, mesh.faces))
        axes.append(mesh_axes({id: mesh}, {id: component})[id])
    return np.stack(points), np.stack(axes)
