"""Points of implants' surfaces, for models that are given a mesh."""

import subprocess
import sys

import numpy as np
import pytest

from veriserum_hf.modeling.shapes_veriserum import POINTS, surface_points
from veriserum_hf.simulation import implant_mesh

_DIGEST = """
import hashlib
from veriserum_hf.modeling.shapes_veriserum import surface_points
from veriserum_hf.simulation import implant_mesh
mesh = implant_mesh(3)
print(hashlib.sha256(surface_points(mesh.vertices, mesh.faces).tobytes()).hexdigest())
"""


@pytest.mark.parametrize("anatomy_id", [1, 4])
def test_points_cover_the_surface_with_outward_normals(anatomy_id: int) -> None:
    mesh = implant_mesh(anatomy_id)
    found = surface_points(mesh.vertices, mesh.faces)
    assert found.shape == (POINTS, 6)
    assert found.dtype == np.float32
    points, normals = found[:, :3].astype(float), found[:, 3:].astype(float)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    # A thin tray has another side within a millimetre.
    assert mesh.contains(points - 0.2 * normals).mean() > 0.98
    assert mesh.contains(points + 0.2 * normals).mean() < 0.02
    gaps = np.linalg.norm(mesh.vertices[::7, None] - points, axis=2).min(axis=1)
    assert gaps.max() < 10


def test_a_mesh_inside_out_has_the_same_points() -> None:
    mesh = implant_mesh(5)
    turned = surface_points(mesh.vertices, mesh.faces[:, ::-1])
    normals = surface_points(mesh.vertices, mesh.faces)[:, 3:]
    assert np.einsum("ni,mi->nm", turned[:, 3:], normals).max(axis=1).min() > 0.5


def test_points_are_the_same_in_every_process() -> None:
    digests = {
        subprocess.run([sys.executable, "-c", _DIGEST], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (np.zeros((4, 2)), np.zeros((1, 3), int), "vertices \\(n, 3\\)"),
        (np.zeros((4, 3)), np.zeros((0, 3), int), "faces with an area"),
        (np.zeros((4, 3)), np.array([[0, 1, 2]]), "faces with an area"),
        (0.07 * np.eye(3), np.array([[0, 1, 2]]), "0.07 mm large, expected 10 to 500 mm; is it in another unit"),
    ],
)
def test_what_is_no_mesh_is_refused(vertices: np.ndarray, faces: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        surface_points(vertices, faces)
