"""Read one implant as laboratories have it: STL, PLY, OBJ, or a label of a NIfTI volume."""

import struct
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import trimesh

from veriserum_hf.archive.files import MOST_MESH_BYTES, read_bytes
from veriserum_hf.archive.label_volumes import is_nifti, surface_of_label
from veriserum_hf.archive.meshes import ImplantMesh, mesh_of_triangles
from veriserum_hf.archive.stl import Stl, parse_stl
from veriserum_hf.core import FloatArray, one_line
from veriserum_hf.errors import FrameError

_PLY = b"ply"
_SOLID = "X-rays have a path length in a solid only. Give it a thickness where it is drawn, and export it closed"


def read_implant_mesh(path: Path, *, label: int | None = None) -> ImplantMesh:
    """Closed mesh in mm of one implant or bone, its triangles outwards.

    Read are STL (binary and text), PLY and OBJ of any number of triangles, in which one unit is 1 mm, and label
    volumes in NIfTI (``.nii``, ``.nii.gz``), whose surface is in mm of the file's world (RAS). Mended are triangles
    that have collapsed or occur twice, small holes, and orientation; `ImplantMesh.changes` has a sentence for each.
    A thin shell is a solid if it is closed: both of its sides and its rim are there, and X-rays cross its wall only.
    A surface without thickness, such as an articular surface alone, is refused.

    Parameters
    ----------
    path : the file; NIfTI and PLY are known by their first bytes, OBJ by its name.
    label : of a NIfTI file with more than one label, the value of the implant's voxels.

    Raises
    ------
    FrameError
        With the reason ``unreadable`` where the file is none of these, is cut off, open, or has no volume;
        ``wrong unit`` where its size is not that of an implant or bone in mm, or it lies metres from its origin;
        ``damaged``.
    ArchiveError
        If the file is gone.

    """
    data, name = read_bytes(path, MOST_MESH_BYTES), path.name
    said: tuple[str, ...] = ()
    if is_nifti(data):
        corners_mm, said = surface_of_label(data, name, label)
        triangles = Stl(corners_mm, 1, clean=False)
    elif label is not None:
        raise FrameError("unreadable", f"a label is stated for {name}, which is no NIfTI volume; leave it out")
    elif data.startswith(_PLY) or path.suffix.lower() == ".obj":
        triangles = Stl(_by_trimesh(data, name), 1, clean=False)
    else:
        triangles = parse_stl(data, name)
    mesh = mesh_of_triangles(triangles, data, name, "bone")
    if not mesh.closed:
        raise FrameError("unreadable", f"{name}: {'; '.join(mesh.faults)}. {_SOLID}")
    return replace(mesh, mended=(*said, *mesh.mended))


def _by_trimesh(data: bytes, name: str) -> FloatArray:
    """Corners (n, 3, 3) of a PLY or OBJ file; polygons are split."""
    kind = "ply" if data.startswith(_PLY) else "obj"
    try:
        found = trimesh.load(BytesIO(data), file_type=kind, process=False, skip_materials=True)
        meshes = list(found.geometry.values()) if isinstance(found, trimesh.Scene) else [found]
        parts = [np.asarray(each.triangles, np.float64) for each in meshes if isinstance(each, trimesh.Trimesh)]
    # Errors of trimesh for damaged files are of many kinds.
    except (ValueError, TypeError, LookupError, AttributeError, OSError, ArithmeticError, struct.error) as error:
        raise FrameError("unreadable", f"reading {name} as {kind.upper()}: {one_line(str(error))}") from error
    if not parts:
        raise FrameError("unreadable", f"{name} has no triangles; is it a {kind.upper()} file of points or lines?")
    return np.concatenate(parts)
