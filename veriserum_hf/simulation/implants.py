"""Two femoral and five tibial components of total knee replacements: meshes, STL files and voxels.

They replace the components of the download, ``ana_000001.stl`` and on: right knees, mm, x to the patient's
left, y proximal, z anterior. A femoral component has its flexion axis on x, with its origin midway between the
circles of its posterior condyles; a tibial one has its origin at the centre of its tray's upper surface.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import trimesh
from numpy.typing import NDArray

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.errors import SimulationError
from veriserum_hf.simulation.femoral import FemoralShape, femoral_solid
from veriserum_hf.simulation.solids import mesh_of
from veriserum_hf.simulation.tibial import (
    TibialShape,
    cross_keel,
    four_pegs,
    long_stem,
    slotted_stem,
    tibial_solid,
    winged_stem,
)

VOXEL_MM = 0.4
INSIDE_HU, OUTSIDE_HU = 10_000, -1_000

_SMALLEST_DETAIL_MM = 0.001


Alloy = Literal["CoCr", "Ti6Al4V"]


@dataclass(frozen=True)
class ImplantModel:
    """One component of a total knee replacement."""

    anatomy_id: int
    component: Literal["femur", "tibia"]
    description: str
    material: Alloy
    shape: FemoralShape | TibialShape


def _femoral(anatomy_id: int, description: str, shape: FemoralShape) -> ImplantModel:
    return ImplantModel(anatomy_id, "femur", f"{description} femoral component", "CoCr", shape)


def _tibial(anatomy_id: int, description: str, shape: TibialShape, material: Alloy = "Ti6Al4V") -> ImplantModel:
    return ImplantModel(anatomy_id, "tibia", f"tibial component, {description}", material, shape)


_RETAINING = FemoralShape(
    half_width_mm=33.0,
    posterior_radius_mm=20.5,
    distal_radius_mm=34.0,
    flange_radius_mm=64.0,
    notch_half_width_mm=9.0,
    posterior_stabilised=False,
)
_STABILISED = FemoralShape(
    half_width_mm=34.5,
    posterior_radius_mm=21.0,
    distal_radius_mm=36.0,
    flange_radius_mm=68.0,
    notch_half_width_mm=8.5,
    posterior_stabilised=True,
)
# Trays and rims are whole numbers of voxels thick, so that their voxels fill the same volume.
_MODELS = (
    _femoral(1, "cruciate retaining", _RETAINING),
    _femoral(2, "posterior stabilised", _STABILISED),
    _tibial(3, "fluted stem with cement slots, two fins", TibialShape(70, 46, 4.4, slotted_stem)),
    _tibial(4, "raised rim, round stem, two wings", TibialShape(72, 48, 4.8, winged_stem, rim_mm=1.2)),
    _tibial(5, "four pegs, uncemented", TibialShape(66, 43, 4.0, four_pegs, rim_mm=0.8)),
    _tibial(6, "cross-shaped keel with windows", TibialShape(68, 45, 4.4, cross_keel), "CoCr"),
    _tibial(7, "anatomic tray, long stem", TibialShape(74, 49, 4.8, long_stem, rim_mm=1.2, medial_mm=3.0)),
)
IMPLANTS: dict[int, ImplantModel] = {model.anatomy_id: model for model in _MODELS}
IMPLANT_PAIRS: tuple[tuple[int, int], ...] = tuple(
    (femur.anatomy_id, tibia.anatomy_id)
    for femur, tibia in product(_MODELS, _MODELS)
    if (femur.component, tibia.component) == ("femur", "tibia")
)


@lru_cache
def implant_mesh(anatomy_id: int) -> trimesh.Trimesh:
    """Surface of an implant, mm: one closed body, outward, the same to the last bit in every process.

    The mesh is shared by all callers: copy it before changing it.

    Raises
    ------
    ValueError
        If there is no such implant.

    """
    if anatomy_id not in IMPLANTS:
        raise ValueError(f"no implant {anatomy_id}: there are {', '.join(map(str, IMPLANTS))}")
    shape = IMPLANTS[anatomy_id].shape
    solid = femoral_solid(shape) if isinstance(shape, FemoralShape) else tibial_solid(shape)
    return mesh_of(solid, _SMALLEST_DETAIL_MM)


def write_stl(anatomy_id: int, path: str | Path) -> None:
    """Write an implant as a binary STL file, mm: the same bytes in every run.

    Raises
    ------
    ValueError
        If there is no such implant.

    """
    Path(path).write_bytes(trimesh.exchange.stl.export_stl(implant_mesh(anatomy_id)))


def write_nifti(anatomy_id: int, path: str | Path) -> None:
    """Write an implant as voxels of 0.4 mm, int16: 10000 inside, -1000 outside; the affine leads to the STL's mm.

    Raises
    ------
    ValueError
        If there is no such implant.
    SimulationError
        If nibabel is not installed.

    """
    mesh = implant_mesh(anatomy_id)
    try:
        import nibabel
    except ImportError as error:
        raise SimulationError(
            'NIfTI files need nibabel, which is not installed: pip install "veriserum-hf[nifti]"'
        ) from error
    inside, affine = voxelize(mesh)
    voxels = np.where(inside, INSIDE_HU, OUTSIDE_HU).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    nibabel.save(image, path)


def voxelize(mesh: trimesh.Trimesh, pitch_mm: float = VOXEL_MM) -> tuple[BoolArray, FloatArray]:
    """Which voxels' centres lie inside a closed mesh, (nx, ny, nz), and the affine (4, 4) from indices to mm.

    Every column of voxels along z is a ray; it is inside from where it enters to where it leaves.
    """
    # A third of a millimetre keeps the columns off the corners, which lie on a binary grid.
    lower_mm = mesh.bounds[0] - pitch_mm - 1 / 3
    corners = (mesh.vertices.view(np.ndarray) - lower_mm) / pitch_mm
    crossings = np.zeros(np.ceil(corners.max(axis=0)).astype(int) + 2, dtype=np.int8)
    faces = mesh.faces.view(np.ndarray)
    triangle, column = _columns_near(corners[faces][:, :, :2])
    left = np.stack(
        [_left_of(column, corners, faces[triangle, a], faces[triangle, b]) for a, b in ((0, 1), (1, 2), (2, 0))]
    )
    hit = left.all(axis=0) | ~left.any(axis=0)
    triangle, column = triangle[hit], column[hit]
    origin, normal = corners[faces[triangle, 0]], mesh.face_normals[triangle]
    z = origin[:, 2] - ((column - origin[:, :2]) * normal[:, :2]).sum(axis=1) / normal[:, 2]
    np.add.at(crossings, (*column.T, np.ceil(z).astype(int)), np.where(normal[:, 2] < 0, 1, -1))
    affine = np.diag([pitch_mm] * 3 + [1.0])
    affine[:3, 3] = lower_mm
    return crossings.cumsum(axis=2, dtype=np.int8) > 0, affine


def _columns_near(triangles: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index of a triangle and the column (x, y), for all columns in the rectangle about each of them."""
    low = np.ceil(triangles.min(axis=1)).astype(np.int64)
    span = np.floor(triangles.max(axis=1)).astype(np.int64) - low + 1
    count = span.prod(axis=1)
    triangle = np.repeat(np.arange(len(triangles)), count)
    place = np.arange(len(triangle)) - np.repeat(count.cumsum() - count, count)
    return triangle, low[triangle] + np.stack(np.divmod(place, span[triangle, 1]), axis=1)


def _left_of(point: NDArray[np.int64], corners: FloatArray, a: NDArray[np.int64], b: NDArray[np.int64]) -> BoolArray:
    """Whether a point lies to the left of the edge from a to b: exactly one of the edge's two triangles has it."""
    low, high = corners[np.minimum(a, b), :2], corners[np.maximum(a, b), :2]
    along, to_point = high - low, point - low
    left = along[:, 0] * to_point[:, 1] >= along[:, 1] * to_point[:, 0]
    return np.asarray(left ^ (a > b))
