"""Many solids in many images at once, compared with each solid on its own."""

import numpy as np
import pytest
import torch
import trimesh

from veriserum_hf.rendering import differentiable, scenes

EDGE = 48
INTRINSICS = torch.tensor(
    [[[260.0, 0, 23.5], [0, 250.0, 24.0], [0, 0, 1]], [[300.0, 0, 20.0], [0, 300.0, 26], [0, 0, 1]]]
)
MESHES = [
    trimesh.creation.icosphere(2, 30.0),
    trimesh.creation.box((40, 20, 60)),
    trimesh.creation.torus(25.0, 8.0),
]


def placed(rows):
    """Solids as (image, solid, T, per_mm, wall_mm)."""
    image, solid, T, per_mm, wall_mm = zip(*rows, strict=True)
    return scenes.Placed(
        torch.tensor(image),
        torch.tensor(solid),
        torch.stack(T),
        torch.tensor(per_mm, dtype=torch.float32),
        torch.tensor(wall_mm, dtype=torch.float32),
    )


def pose(x, y, z, angle=0.3, scale=(1.0, 1.0, 1.0)):
    T = trimesh.transformations.rotation_matrix(angle, [1, 2, 3]) @ np.diag([*scale, 1.0])
    T[:3, 3] = x, y, z
    return torch.tensor(T, dtype=torch.float32)


ROWS = [
    (0, 0, pose(0, 0, 500), 0.02, 0.0),
    (0, 1, pose(10, -5, 520, 1.1), 0.3, 0.0),
    (0, 0, pose(0, 0, 500, scale=(0.5, 0.5, 0.5)), -0.015, 0.0),
    (1, 2, pose(-5, 5, 450, 0.7, (1.3, 0.8, 1.0)), 0.1, 0.0),
    (1, 1, pose(200, 0, 700), 0.2, 0.0),  # beside the image
]


def test_the_sum_over_all_solids_is_that_of_each_alone():
    solids = scenes.Solids.of(MESHES)
    expected = torch.zeros(2, EDGE, EDGE)
    for image, solid, T, per_mm, _ in ROWS:
        mesh = differentiable.TensorMesh.from_mesh(MESHES[solid])
        length_mm = differentiable.path_length([mesh], T[None, None], INTRINSICS[image], torch.eye(4), EDGE)[0, 0]
        expected[image] += per_mm * length_mm
    found = scenes.absorbed(solids, placed(ROWS), INTRINSICS, EDGE)
    assert expected.amax((1, 2)).min() > 1
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


def test_images_that_are_rendered_in_parts_are_the_same(monkeypatch):
    solids = scenes.Solids.of(MESHES)
    together = scenes.absorbed(solids, placed(ROWS), INTRINSICS, EDGE)
    monkeypatch.setattr(scenes, "_RAYS_AT_ONCE", 1)
    assert torch.equal(scenes.absorbed(solids, placed(ROWS), INTRINSICS, EDGE), together)


def test_a_hollow_solid_has_two_walls_and_a_dark_rim():
    rows = [(0, 0, pose(0, 0, 500), 0.5, 2.0)]
    image = scenes.absorbed(scenes.Solids.of(MESHES), placed(rows), INTRINSICS[:1], EDGE)[0]
    assert float(image[24, 24]) == pytest.approx(2 * 2.0 * 0.5, rel=0.02)
    assert image.max() > 1.5 * image[24, 24]


def test_an_open_mesh_is_refused():
    open_mesh = trimesh.Trimesh(MESHES[1].vertices, MESHES[1].faces[1:], process=False)
    with pytest.raises(ValueError, match="not closed"):
        scenes.Solids.of([open_mesh])
