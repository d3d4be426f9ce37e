"""Implants as files next to the trials that show them, so that hundreds of jobs do not each carry theirs."""

import hashlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import trimesh

from veriserum_hf.jobs import write_listed

_FOLDER = "meshes"  # below that of unfinished work
_KEPT = 64  # meshes that a process holds


def write_mesh(mesh: trimesh.Trimesh, incomplete: Path) -> Path:
    """Write a mesh to a file below the folder of unfinished work, which is named by its content."""
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    digest = hashlib.sha256(vertices.tobytes() + faces.tobytes()).hexdigest()
    file = incomplete / _FOLDER / f"{digest}.npz"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        content = BytesIO()
        np.savez(content, vertices=vertices, faces=faces)
        write_listed(incomplete, file, content.getvalue())
    return file


@lru_cache(maxsize=_KEPT)
def read_mesh(file: Path) -> trimesh.Trimesh:
    """Read such a file, once in a process."""
    with np.load(file) as content:
        return trimesh.Trimesh(content["vertices"], content["faces"], process=False)
