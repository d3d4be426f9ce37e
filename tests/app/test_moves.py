"""What is under the pointer stays under it, and nothing else changes than what a move is for."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from veriserum_hf.app import moves
from veriserum_hf.geometry import Camera, angle_between_deg, make_transform

CENTER_MM = np.array([3.0, -8.0, 5.0])
# Pixels that are not square, a principal point off the centre, and a camera in no special place.
CAMERA = Camera(
    np.array([[2400.0, 0, 300.0], [0, 1900.0, 190.0], [0, 0, 1]]),
    make_transform(Rotation.from_euler("ZXY", (20, -35, 60), degrees=True).as_matrix(), (30, -20, 1100)),
)
T = make_transform(Rotation.from_euler("ZXY", (70, 15, -40), degrees=True).as_matrix(), (12.0, -31.0, 44.0))


def center_px(pose):
    return CAMERA.project(moves.center_in_world(pose, CENTER_MM))


def test_a_dragged_implant_moves_with_the_pointer_in_the_plane_of_the_image():
    before = center_px(T)
    moved = moves.dragged(T, CENTER_MM, CAMERA, before, before + (41.5, -17.25))
    np.testing.assert_allclose(center_px(moved), before + (41.5, -17.25), atol=1e-9)
    depths = [CAMERA.depths_mm(moves.center_in_world(pose, CENTER_MM)) for pose in (T, moved)]
    assert depths[0] == pytest.approx(depths[1])
    np.testing.assert_array_equal(moved[:3, :3], T[:3, :3])


def test_a_turned_implant_keeps_its_centre_and_turns_by_the_angle_of_the_pointer():
    before = center_px(T)
    focal_px = CAMERA.intrinsics.diagonal()[:2]
    arm, turned_arm = np.array([0.02, 0.0]), 0.02 * np.array([np.cos(np.radians(25)), np.sin(np.radians(25))])
    moved = moves.turned(T, CENTER_MM, CAMERA, before + arm * focal_px, before + turned_arm * focal_px)
    np.testing.assert_allclose(center_px(moved), before, atol=1e-9)
    assert angle_between_deg(T[:3, :3], moved[:3, :3]) == pytest.approx(25)
    # As the pointer went, to the right and then down, so does a point of the implant.
    right = moves.center_in_world(T, CENTER_MM) + 10 * CAMERA.world_to_camera[0, :3]
    of_implant = np.linalg.inv(T) @ np.append(right, 1)
    assert CAMERA.project((moved @ of_implant)[:3])[1] > before[1] + 1


def test_a_tilted_implant_keeps_its_centre_and_its_near_side_follows_the_pointer():
    before = center_px(T)
    moved = moves.tilted(T, CENTER_MM, 30.0, CAMERA, before, before + (12.0, 7.0))
    np.testing.assert_allclose(center_px(moved), before, atol=1e-9)
    near = moves.center_in_world(T, CENTER_MM) - 30 * CAMERA.world_to_camera[2, :3]
    of_implant = np.linalg.inv(T) @ np.append(near, 1)
    way = CAMERA.project((moved @ of_implant)[:3]) - CAMERA.project(near)
    assert way[0] > 8
    assert way[1] > 5
    assert moves.tilted(T, CENTER_MM, 30.0, CAMERA, before, before) is T


def test_along_its_ray_an_implant_stays_where_it_is_in_the_image():
    moved = moves.along_ray(T, CENTER_MM, CAMERA, 25.0)
    np.testing.assert_allclose(center_px(moved), center_px(T), atol=1e-9)
    assert np.linalg.norm(moved[:3, 3] - T[:3, 3]) == pytest.approx(25)
    assert CAMERA.depths_mm(moved[:3, 3]) > CAMERA.depths_mm(T[:3, 3])


def test_a_nudge_is_so_many_mm_to_the_right_and_down_in_the_image():
    moved = moves.in_image(T, CAMERA, (1.0, 0.1))
    np.testing.assert_allclose(CAMERA.world_to_camera[:3, :3] @ (moved - T)[:3, 3], (1.0, 0.1, 0.0), atol=1e-12)
