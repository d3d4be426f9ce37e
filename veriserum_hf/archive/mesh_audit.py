"""The implants' meshes in an audit: what was refused, mended, or stays wrong."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.meshes import ImplantMesh, read_mesh
from veriserum_hf.archive.problems import Findings
from veriserum_hf.errors import FrameError

if TYPE_CHECKING:
    from veriserum_hf.archive.archive import Anatomy


def audit_meshes(anatomies: "Sequence[Anatomy]", layout: Layout, findings: Findings) -> Iterator[None]:
    """Read one mesh after the other, since a large one takes a gigabyte; yields after each.

    Parameters
    ----------
    anatomies : those with a file.
    layout : of the archive, for the names of files.
    findings : takes problems, and what was decided from the meshes.

    """
    sound: list[ImplantMesh] = []
    for anatomy in anatomies:
        if anatomy.path:
            mesh = _audited(anatomy.path, anatomy.category, layout.relative(anatomy.path), findings)
            if mesh and not mesh.faults:
                sound.append(mesh)
        yield
    if anatomies:
        sizes_mm = [mesh.size_mm for mesh in sound]
        between = f", {min(sizes_mm):.0f} to {max(sizes_mm):.0f} mm long," if sizes_mm else ""
        findings.decide(
            "meshes",
            "Are the implants' meshes solids in mm?",
            f"{len(sound)} of {len(anatomies)}",
            f"{len(sound)} are one closed solid{between} with its triangles outwards, "
            f"{sum(bool(mesh.mended) for mesh in sound)} of them after mending. A mesh does not show whether it is "
            "mirrored; `veriserum check-labels` compares its outlines with the images",
        )


def _audited(path: str, category: str, where: str, findings: Findings) -> ImplantMesh | None:
    try:
        mesh = read_mesh(path, category)
    except FrameError as error:
        remedy = "Restore or correct the file; until then the implant is rejected."
        findings.problem(error.reason, where, error.detail, remedy)
        return None
    if mesh.mended:
        remedy = "The mended mesh is used and converted; replace the file if that is not its shape."
        findings.problem("mended mesh", where, "; ".join(mesh.mended), remedy)
    if mesh.faults:
        remedy = "Export the implant as one closed surface; until then the mesh is used and converted as it is."
        findings.problem("faulty mesh", where, "; ".join(mesh.faults), remedy)
    return mesh
