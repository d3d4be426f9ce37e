"""Simplified meshes: closed, near the given one, and far fewer triangles where little detail is wanted."""

import numpy as np
import pytest
import trimesh

from veriserum_hf.rendering import simplified


def ball(subdivisions=5):
    return trimesh.creation.icosphere(subdivisions, 30.0)


@pytest.mark.parametrize("within_mm", [0.3, 0.1, 0.03])
def test_a_simplified_ball_is_closed_and_within_the_distance(within_mm):
    mesh = ball()
    found = simplified(mesh, within_mm)
    assert found.is_watertight and found.volume > 0 and len(found.faces) < len(mesh.faces)
    # Its corners are some of the given ones, on the sphere; its triangles are inside, deepest at their centres.
    np.testing.assert_allclose(np.linalg.norm(found.vertices, axis=1), 30, atol=1e-6)
    depth_mm = 30 - np.linalg.norm(found.triangles_center, axis=1).min()
    assert depth_mm < within_mm + 0.02  # the given ball's own


def test_what_is_flat_needs_no_more_triangles_however_many_it_has():
    box = trimesh.creation.box((20, 30, 40))
    fine = box.subdivide().subdivide().subdivide()
    assert len(simplified(fine, 0.005).faces) == len(box.faces) < len(fine.faces)


def test_results_are_kept_by_content():
    mesh = ball(3)
    first = simplified(mesh, 0.3)
    assert simplified(mesh, 0.3) is first
    mesh.apply_scale(2.0)
    assert np.ptp(simplified(mesh, 0.3).vertices) > 1.9 * np.ptp(first.vertices)


def test_a_mesh_that_is_no_solid_stays():
    """Two boxes that share an edge: four triangles meet there."""
    boxes = [trimesh.creation.box((10, 10, 10)), trimesh.creation.box((10, 10, 10))]
    boxes[1].apply_translation((10, 10, 0))
    mesh = trimesh.util.concatenate(boxes)
    mesh.merge_vertices()
    assert simplified(mesh, 0.1) is mesh
