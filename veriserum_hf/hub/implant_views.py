"""Each implant as files that a page of the hub or any viewer shows: a thumbnail, and a GLB."""

from collections.abc import Mapping

import cv2
import numpy as np
import trimesh

from veriserum_hf.geometry import Camera, make_transform
from veriserum_hf.rendering import path_length

_EDGE_PX, _FROM_MM, _PER_MM = 256, 1500.0, 0.04
_DIRECTION = np.array([1.0, -2.0, 1.0])  # from which the thumbnail looks, so that no long face is edge on
_MM = 0.001  # glTF is in metres


def implant_files(meshes: Mapping[int, trimesh.Trimesh]) -> dict[str, bytes]:
    """Files of implants by their paths in the repository.

    Parameters
    ----------
    meshes : in mm, by anatomy id. An open one has no thumbnail.

    """
    files: dict[str, bytes] = {}
    for id, mesh in sorted(meshes.items()):
        name = f"implants/ana_{id:06d}"
        if mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0:
            files[f"{name}.png"] = _thumbnail(mesh)
        in_metres = trimesh.Trimesh(mesh.vertices * _MM, mesh.faces, process=False)
        files[f"{name}.glb"] = _glb(in_metres)
    return files


def _glb(mesh: trimesh.Trimesh) -> bytes:
    found = mesh.export(file_type="glb")
    return found if isinstance(found, bytes) else b""  # never, of this format


def _thumbnail(mesh: trimesh.Trimesh) -> bytes:
    """PNG of the implant's X-ray image, which fills it."""
    z = _DIRECTION / np.linalg.norm(_DIRECTION)
    x = np.cross([0.0, 0.0, 1.0], z)
    R = np.stack([x / np.linalg.norm(x), np.cross(z, x / np.linalg.norm(x)), z])
    center_mm = mesh.bounds.mean(axis=0)
    radius_mm = np.linalg.norm(mesh.vertices - center_mm, axis=1).max()
    focal_px = 0.47 * _EDGE_PX * _FROM_MM / radius_mm
    middle = (_EDGE_PX - 1) / 2
    K = [[focal_px, 0.0, middle], [0.0, focal_px, middle], [0.0, 0.0, 1.0]]
    camera = Camera(np.array(K), make_transform(R, np.array([0.0, 0.0, _FROM_MM]) - R @ center_mm))
    light = np.exp(-_PER_MM * path_length(mesh, np.eye(4), camera, _EDGE_PX))
    _, data = cv2.imencode(".png", np.rint(255 * light).astype(np.uint8))
    return data.tobytes()
