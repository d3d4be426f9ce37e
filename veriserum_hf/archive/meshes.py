"""Read one implant's STL file, and report why it cannot be used."""

from pathlib import Path

import numpy as np
import trimesh

from veriserum_hf.archive.frames import read_bytes
from veriserum_hf.errors import FrameError


def read_stl(path: str | Path) -> bytes:
    """Content of an STL file, binary or text, that holds a mesh in mm.

    Raises
    ------
    FrameError
        With the reason ``unreadable`` where it is truncated, not STL, without triangles, or with corners not finite.

    """
    data, name = read_bytes(path), Path(path).name
    binary = len(data) == 84 + 50 * int.from_bytes(data[80:84], "little")
    if not binary and not (data.lstrip().startswith(b"solid") and data.isascii()):
        raise FrameError("unreadable", f"{name} is not an STL mesh, or only part of one ({len(data)} bytes)")
    mesh = trimesh.load_mesh(trimesh.util.wrap_as_stream(data), file_type="stl")
    if not len(mesh.faces) or not np.isfinite(mesh.vertices).all():
        raise FrameError("unreadable", f"{name} has no triangles, or corners that are not finite")
    return data
