"""Contours of a mesh lie on the end of its shadow, and move as derivatives of their points predict."""

import cv2
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from veriserum_hf.geometry.pose import make_transform, transform_points
from veriserum_hf.rendering.rasteriser import camera_of, path_length_window
from veriserum_hf.rendering.silhouettes import ContourGenerator

SIZE = 256
FINE = 8  # the shadow is drawn so many times finer than the image
rotations = st.tuples(*[st.floats(-3, 3)] * 3)


@pytest.fixture(scope="module")
def mesh():
    """A smooth convex body: its contours are the end of its shadow."""
    return trimesh.creation.icosphere(subdivisions=4).apply_scale((15, 22, 30))


@pytest.fixture(scope="module")
def generator(mesh):
    return ContourGenerator(mesh)


def pose_at(rotation, shift_mm=(0, 0, 0)):
    return make_transform(Rotation.from_rotvec(rotation).as_matrix(), np.asarray(shift_mm, float))


def distance_inside(mesh, T, camera):
    """Distance to the end of the shadow, positive inside, in pixels of the image, and its first pixel."""
    window = path_length_window(mesh, T, camera.resized((SIZE, SIZE), (FINE * SIZE,) * 2), FINE * SIZE, margin_px=40)
    shadow = np.pad((window.values > 0).astype(np.uint8), 40)
    inside, outside = (cv2.distanceTransform(each, cv2.DIST_L2, 5) for each in (shadow, 1 - shadow))
    return (inside - outside) / FINE, np.array([window.column, window.row]) - 40


@settings(max_examples=5)
@given(rotation=rotations)
def test_pieces_lie_on_the_end_of_the_shadow_and_are_as_long_as_it(rotation, mesh, generator, rig):
    T, camera = pose_at(rotation), camera_of(rig["bs"], SIZE)
    pieces = generator.pieces(T, camera, step_px=0.5)
    distance, first = distance_inside(mesh, T, camera)
    at = (pieces.px + 0.5) * FINE - 0.5 - first
    column, row = np.rint(at).astype(int).T
    assert np.abs(distance[row, column]).max() < 2.5 / FINE
    column, row = np.rint(at + FINE * pieces.normals).astype(int).T
    assert (distance[row, column] < 0).all()  # normals point away from the shadow
    np.testing.assert_allclose(np.linalg.norm(pieces.normals, axis=1), 1, atol=1e-9)
    assert (pieces.length_px <= 0.5 + 1e-9).all()
    in_camera = transform_points(camera.world_to_camera @ T, mesh.vertices)
    px = in_camera[:, :2] / in_camera[:, 2:] * camera.intrinsics.diagonal()[:2]
    assert pieces.length_px.sum() == pytest.approx(trimesh.convex.ConvexHull(px).area, rel=1e-6)  # its circumference


@settings(max_examples=5)
@given(rotation=rotations, axis=st.integers(0, 5))
def test_an_outline_moves_along_its_normals_as_its_points_do(rotation, axis, mesh, generator, rig):
    T, camera = pose_at(rotation), camera_of(rig["bs"], SIZE)
    step = np.zeros(6)
    step[axis] = 0.5 if axis < 3 else 0.01  # so small that the first order counts
    moved = pose_at(step[3:], step[:3]) @ T
    pieces = generator.pieces(T, camera)
    in_camera = transform_points(camera.world_to_camera @ moved, pieces.points_mm)
    px = in_camera[:, :2] / in_camera[:, 2:] * camera.intrinsics.diagonal()[:2] + camera.intrinsics[:2, 2]
    predicted_px = ((px - pieces.px) * pieces.normals).sum(axis=1)
    # The support of both outlines along the normals of the first, whose pieces are on a convex curve.
    after = generator.pieces(moved, camera, step_px=0.1).px
    before = generator.pieces(T, camera, step_px=0.1).px
    found_px = (pieces.normals @ after.T).max(axis=1) - (pieces.normals @ before.T).max(axis=1)
    np.testing.assert_allclose(found_px, predicted_px, atol=0.02)


def test_a_mesh_given_to_two_cameras_has_contours_in_each(generator, rig):
    bs, fs = (generator.pieces(pose_at((0.3, 0.2, 0.1)), camera_of(plane, SIZE)) for plane in (rig["bs"], rig["fs"]))
    assert len(bs.px) > 50 and len(fs.px) > 50
    chosen = bs.taken(bs.length_px > np.median(bs.length_px))
    assert 0 < len(chosen.px) < len(bs.px) and len(chosen.px) == len(chosen.points_mm) == len(chosen.normals)
