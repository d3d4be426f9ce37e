"""What was changed of the implants' meshes, for the records of a conversion."""

from pathlib import Path
from typing import TypedDict

import pyarrow as pa

from veriserum_hf.archive import read_mesh
from veriserum_hf.errors import FrameError


class MeshRecord(TypedDict):
    """One implant whose converted mesh is not its file, or not a sound solid.

    Attributes
    ----------
    file : name of its STL file.
    rewritten : whether the converted mesh is another file, in binary STL.
    mended, faults : see `veriserum_hf.archive.ImplantMesh`.

    """

    anatomy_id: int
    file: str
    rewritten: bool
    mended: list[str]
    faults: list[str]


def mesh_records(plan: pa.Table) -> list[MeshRecord]:
    """Records of the rows of a plan of ``anatomies``; of sound and of rejected meshes there are none."""
    records: list[MeshRecord] = []
    for row in plan.to_pylist():
        if row["path"] is None:
            continue
        try:
            mesh = read_mesh(row["path"], row["category"])
        except FrameError:  # it is among the rejected rows
            continue
        if mesh.rewritten or mesh.faults:
            records.append(
                {
                    "anatomy_id": row["anatomy_id"],
                    "file": Path(row["path"]).name,
                    "rewritten": mesh.rewritten,
                    "mended": list(mesh.mended),
                    "faults": list(mesh.faults),
                }
            )
    return records


def described_meshes(records: list[MeshRecord]) -> list[str]:
    """Return one sentence for each mesh that was mended or is not sound."""
    return [
        f"{record['file']}: {'; '.join(record['mended'] + record['faults'])}"
        for record in records
        if record["mended"] or record["faults"]
    ]
