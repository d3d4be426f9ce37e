"""Read one implant's STL file: refuse what cannot be an implant in mm, and mend what can be mended safely."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import trimesh

from veriserum_hf.archive.files import read_bytes
from veriserum_hf.archive.mesh_repair import bodies, described_holes, repaired
from veriserum_hf.archive.stl import Stl, parse_stl
from veriserum_hf.core import FloatArray
from veriserum_hf.errors import FrameError

# The limits of an implant are a factor of ten apart, so that none in cm, inches or metres lies between them.
_IMPLANT_MM, _BONE_MM = (30.0, 300.0), (30.0, 600.0)
_UNITS_MM = {"metres": 1000.0, "inches": 25.4, "cm": 10.0, "tenths of a mm": 0.1, "micrometres": 0.001}
_TYPICAL_MM = 70.0
_FARTHEST_MM = 5000.0  # from the origin, which may be that of a scanner
_LEAST_VOLUME_MM3 = 1.0


@dataclass(frozen=True)
class ImplantMesh:
    """An implant's mesh as it is used and converted.

    Attributes
    ----------
    data : an STL file that holds one mesh in mm: the archive's own, or a binary one where that had to be changed.
    mended : what was changed of the surface.
    faults : what is wrong and could not be mended; an open mesh has outlines for no renderer.
    size_mm : its longest extent along an axis.
    rewritten : whether ``data`` is not the file of the archive.
    closed : whether it is one or several closed surfaces, their triangles outwards.

    """

    data: bytes
    mended: tuple[str, ...]
    faults: tuple[str, ...]
    size_mm: float
    rewritten: bool
    closed: bool

    @cached_property
    def mesh(self) -> trimesh.Trimesh:
        """The mesh, mm."""
        found: trimesh.Trimesh = trimesh.load_mesh(trimesh.util.wrap_as_stream(self.data), file_type="stl")
        return found

    @property
    def changes(self) -> tuple[str, ...]:
        """What was changed, and what stays wrong; a sentence each."""
        return tuple(f"{each[0].upper()}{each[1:]}." for each in (*self.mended, *self.faults))


def read_mesh(path: str | Path, category: str = "femur_implant") -> ImplantMesh:
    """Read the mesh of an STL file, binary or text; see `mesh_of`.

    Raises
    ------
    FrameError
        As `mesh_of`, or if it is no regular file of plausible size.
    ArchiveError
        If the file is gone.

    """
    return mesh_of(read_bytes(path), Path(path).name, category)


def mesh_of(data: bytes, name: str, category: str = "femur_implant") -> ImplantMesh:
    """Check the bytes of an STL file, and mend the mesh where that is safe.

    Mended are: triangles that have collapsed or occur twice, small holes, and orientation. Several solids become one
    mesh. A mirrored mesh cannot be recognised: its shape is as plausible as the true one.

    Parameters
    ----------
    data : the file's content.
    name : of the file, for messages.
    category : of the anatomy, such as ``"femur_implant"``; anything else than implants may be larger.

    Raises
    ------
    FrameError
        With the reason ``unreadable`` where it is not STL, is cut off, or has no surface; ``wrong unit`` where its
        size is not that of an implant in mm, or it lies metres from its origin.

    """
    return mesh_of_triangles(parse_stl(data, name), data, name, category)


def mesh_of_triangles(stl: Stl, data: bytes, name: str, category: str) -> ImplantMesh:
    """Check the triangles of any file, and mend the mesh; see `mesh_of`.

    Parameters
    ----------
    stl : its triangles.
    data : the file's content, which is kept where it is a clean STL file of this mesh.
    name : of the file, for messages.
    category : of the anatomy.

    """
    _check_size(stl.corners_mm, name, _IMPLANT_MM if "implant" in category.lower() else _BONE_MM)
    mesh, mended = repaired(stl.corners_mm)
    _check_count(len(mesh.faces), name)
    faults = _faults(mesh)
    if not mesh.is_watertight and stl.doubt:
        raise FrameError("unreadable", f"{name} is not closed, and {stl.doubt}: triangles are missing")
    if mesh.is_watertight and not (volume_mm3 := abs(bodies(mesh).volume_mm3.sum())) > _LEAST_VOLUME_MM3:
        raise FrameError("unreadable", f"{name} encloses {volume_mm3:.2g} mm^3, expected a solid")
    if stl.solids > 1:
        mended = (f"{stl.solids} solids of the file were joined to one mesh", *mended)
    rewritten = bool(mended) or not (stl.clean and (stl.binary or _read_alike(data, mesh)))
    stored = trimesh.exchange.stl.export_stl(mesh) if rewritten else data
    closed = bool(mesh.is_watertight and mesh.is_winding_consistent)
    return ImplantMesh(stored, mended, faults, float(mesh.extents.max()), rewritten, closed)


def _check_size(corners_mm: FloatArray, name: str, limits_mm: tuple[float, float]) -> None:
    """Raise FrameError unless the corners can be those of an implant in mm."""
    _check_count(len(corners_mm), name)
    bad = int((~np.isfinite(corners_mm)).any(axis=(1, 2)).sum())
    if bad:
        raise FrameError("unreadable", f"{name} has corners that are not finite numbers, in {bad} of its triangles")
    low, high = corners_mm.min(axis=(0, 1)), corners_mm.max(axis=(0, 1))
    size, (least_mm, most_mm) = float((high - low).max()), limits_mm
    if not least_mm <= size < most_mm:
        raise FrameError(
            "wrong unit",
            f"{name} is {size:.3g} long, expected {least_mm:g} to {most_mm:g} mm{_unit(size, limits_mm)}. Write "
            "it in mm, in the implant coordinates that the poses refer to",
        )
    farthest = float(max(np.abs(low).max(), np.abs(high).max()))
    if farthest > _FARTHEST_MM:
        raise FrameError(
            "wrong unit",
            f"{name} has corners {farthest:.3g} mm from its origin, expected at most {_FARTHEST_MM:g} mm. Write "
            "it in the implant coordinates that the poses refer to",
        )


def _check_count(triangles: int, name: str) -> None:
    if triangles < 4:
        raise FrameError("unreadable", f"{name} has {triangles} triangles, expected a surface of at least four")


def _unit(size: float, limits_mm: tuple[float, float]) -> str:
    """The unit in which that would be an implant's size, as part of a message; empty if there is none."""
    sizes_mm = {unit: size * factor for unit, factor in _UNITS_MM.items()}
    fitting = {unit: mm for unit, mm in sizes_mm.items() if limits_mm[0] <= mm < limits_mm[1]}
    if not fitting:
        return ""
    unit = min(fitting, key=lambda unit: abs(np.log(fitting[unit] / _TYPICAL_MM)))
    return f"; in {unit} it would be {fitting[unit]:.0f} mm"


def _faults(mesh: trimesh.Trimesh) -> tuple[str, ...]:
    faults = []
    if not mesh.is_watertight:
        faults.append(f"it is not closed: {described_holes(mesh)}")
    elif not mesh.is_winding_consistent:
        faults.append("some of its triangles face inwards, others outwards")
    else:
        parts = bodies(mesh)
        sizes_mm = np.sort((parts.high_mm - parts.low_mm).max(axis=1)[parts.volume_mm3 > 0])[::-1]
        if len(sizes_mm) > 1:
            listed = ", ".join(f"{size:.3g}" for size in sizes_mm[:5]) + ", ..." * (len(sizes_mm) > 5)
            faults.append(
                f"it has {len(sizes_mm)} separate solids ({listed} mm large), taken as one rigid component; "
                "where they overlap, path lengths count twice"
            )
    return tuple(faults)


def _read_alike(data: bytes, mesh: trimesh.Trimesh) -> bool:
    """Whether readers of the stored file get this mesh; its text may have more digits than binary STL holds."""
    loaded = trimesh.load(trimesh.util.wrap_as_stream(data), file_type="stl")
    return (
        isinstance(loaded, trimesh.Trimesh)
        and len(loaded.faces) == len(mesh.faces)
        and bool(loaded.is_watertight == mesh.is_watertight)
    )
