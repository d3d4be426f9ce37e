"""Randomised worlds: ranges, implants, rigs as images are fitted in use, and images that show what labels say."""

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from veriserum_hf.core import PLANES
from veriserum_hf.geometry import Camera
from veriserum_hf.modeling import fit
from veriserum_hf.modeling.canvas_veriserum import _placed
from veriserum_hf.rendering import path_length, scenes
from veriserum_hf.simulation import Drawn, WorldRanges, Worlds, draw_images, world_shapes, worlds as worlds_module
from veriserum_hf.simulation.intensifier_torch import canvas_rays
from veriserum_hf.simulation.world_images import _absorbed, _continued
from veriserum_hf.simulation.world_rigs import draw_rig

SIZE = 128
RANGES = WorldRanges(shapes=2)
PLAIN = replace(
    RANGES,
    **dict.fromkeys(("holders", "legs", "cables", "tables", "collimators", "hollow", "motion", "apart"), 0.0),
    **dict.fromkeys(("inverted", "saturated", "windowed", "crops"), 0.0),
)


@pytest.fixture(scope="module")
def shapes():
    return world_shapes(RANGES, processes=2)


def drawn_images(ranges, shapes, count, seed=0, size=SIZE):
    """Frames of worlds, and their images (2, count, size, size)."""
    worlds = Worlds(ranges, shapes, size)
    frames = [worlds.draw(np.random.default_rng((seed, number))) for number in range(count)]
    drawn = Drawn.of(frames, size, np.random.default_rng(seed))
    found = draw_images(drawn, scenes.Solids.of(worlds.meshes), size, torch.Generator().manual_seed(seed))
    return frames, found.view(2, count, size, size).numpy()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"leg": 0.5}, "there is no leg; there are shapes, own_shapes, left"),
        ({"legs": 1.5}, "legs is a share and must be from 0 to 1, got 1.5"),
        ({"legs": [0, 1]}, "legs is a share and must be from 0 to 1, got [0, 1]"),
        ({"gamma": [2.0, 0.5]}, "gamma must be two finite numbers, the smaller one first, got [2.0, 0.5]"),
        ({"gamma": 2.0}, "gamma is a range and must be two numbers, got 2.0"),
        ({"gamma": [0, 2]}, "gamma must be positive, got [0.0, 2.0]"),
        ({"planes_deg": [10, 130]}, "planes_deg must be within 30 and 150, got [10.0, 130.0]: rays must cross"),
        ({"shapes": 0}, "shapes must be a whole number from 1 to 1000, got 0"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        WorldRanges.of(given)


def test_implants_are_closed_bodies_of_both_sides_and_many_sizes(shapes):
    assert [shape.anatomy_id for shape in shapes if shape.own] == list(range(1, 8))
    others = [shape for shape in shapes if not shape.own]
    assert len(others) == 4 and {shape.component for shape in others} == {"femur", "tibia"}
    for shape in others:
        assert shape.mesh.is_watertight and shape.mesh.volume > 5000 and shape.mesh.body_count == 1
        assert 48 < max(shape.mesh.extents) < 110
        for held in shape.holders:
            assert {solid.material for solid in held} <= {"steel", "aluminium", "PMMA", "cement"}
            assert all(solid.mesh.is_watertight and solid.mesh.volume > 0 for solid in held)


def test_an_implant_follows_from_its_number(shapes):
    again = world_shapes(RANGES)
    assert [shape.anatomy_id for shape in again] == [shape.anatomy_id for shape in shapes]
    for one, other in zip(again, shapes, strict=True):
        assert np.array_equal(one.mesh.vertices, other.mesh.vertices)
    held_out = world_shapes(RANGES, held_out=True)
    assert not {shape.anatomy_id for shape in held_out} & {shape.anatomy_id for shape in shapes}
    volumes = [round(float(shape.mesh.volume)) for shape in [*shapes, *held_out]]
    assert len(set(volumes)) == len(volumes)


def test_a_left_implant_is_a_mirrored_right_one():
    right, left = (world_shapes(replace(RANGES, shapes=1, left=share))[-1] for share in (0.0, 1.0))
    assert (right.left, left.left) == (False, True)
    for shape, side in ((right, 1), (left, -1)):
        T = shape.T_anatomical_mesh
        anatomical = np.asarray(shape.mesh.vertices) @ T[:3, :3].T + T[:3, 3]
        # Of a right knee's coordinates, the hull is the mesh's own.
        low, high = (anatomical * (side, 1, 1)).min(0), (anatomical * (side, 1, 1)).max(0)
        np.testing.assert_allclose((low, high), (shape.corners_mm.min(0), shape.corners_mm.max(0)), atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_cameras_of_other_rigs_are_those_of_fitted_images(seed):
    rng = np.random.default_rng(seed)
    ranges = replace(RANGES, other_rigs=1.0, unknown_pixels=0.0)
    views, center_mm = draw_rig(ranges, SIZE, rng)
    for view in views:
        pixel_mm = 0.5
        # The detector's own image, before it was fitted.
        columns, rows = np.rint(view.size_px / view.scale * (360.0 / SIZE) / pixel_mm).astype(int)
        foot = view.plane.principal_point_mm
        focal_px = view.plane.sid_mm / pixel_mm
        K = [
            [focal_px, 0, (columns - 1) / 2 + foot[0] / pixel_mm],
            [0, focal_px, (rows - 1) / 2 - foot[1] / pixel_mm],
            [0, 0, 1],
        ]
        camera = {
            "intrinsics": K,
            "world_to_camera": view.plane.world_to_camera,
            "pixel_size_mm": pixel_mm,
            "source_to_intensifier_mm": view.plane.sid_mm,
        }
        image = np.full((rows, columns), 99, np.uint8)
        _, intrinsics = fit({"bs": image}, {"bs": camera}, SIZE)["bs"]
        np.testing.assert_allclose(intrinsics[[0, 1], [0, 1]], view.intrinsics[[0, 1], [0, 1]], rtol=0.01)
        np.testing.assert_allclose(intrinsics[:2, 2], view.intrinsics[:2, 2], atol=1.0)
    rays = [center_mm - view.plane.source_mm for view in views]
    cosine = rays[0] @ rays[1] / np.linalg.norm(rays[0]) / np.linalg.norm(rays[1])
    assert 35 < np.degrees(np.arccos(cosine)) < 145


def test_the_rim_is_continued_as_by_fitting():
    rng = np.random.default_rng(0)
    canvas = cv2.GaussianBlur(rng.uniform(0, 255, (2, SIZE, SIZE)).astype(np.float32), (0, 0), 2)
    corners = [((20, 7), (70, 100)), ((0, 0), (SIZE, SIZE))]  # (column, row), (columns, rows)
    looks = {
        name: torch.tensor([each[part][axis] for each in corners], dtype=torch.float32)[:, None, None]
        for name, part, axis in (("first_column", 0, 0), ("first_row", 0, 1), ("columns", 1, 0), ("rows", 1, 1))
    }
    found = _continued(torch.from_numpy(canvas), looks).numpy()
    for image, expected_of, ((column, row), (columns, rows)) in zip(found, canvas, corners, strict=True):
        inside = expected_of[row : row + rows, column : column + columns]
        np.testing.assert_allclose(image, _placed(inside, np.array([column, row]), SIZE), atol=0.01)


@pytest.mark.parametrize("own_rig", [True, False])
def test_implants_are_where_labels_and_cameras_say(shapes, own_rig):
    ranges = replace(PLAIN, other_rigs=0.0 if own_rig else 1.0)
    frames, found = drawn_images(ranges, shapes, 6)
    darkness = dict.fromkeys(((0, 0), (3, 0), (-3, 0), (0, 3), (0, -3)), 0.0)
    for number, frame in enumerate(frames):
        for plane, _ in enumerate(PLANES):
            camera = Camera(frame.intrinsics[plane], frame.world_to_camera[plane])
            for shape, label in zip(frame.shapes, frame.labels, strict=True):
                shadow = path_length(shapes[shape].mesh, label, camera, SIZE) > 2
                for shift in darkness:
                    darkness[shift] -= found[plane, number][np.roll(shadow, shift, (0, 1))].mean()
    assert max(darkness, key=darkness.get) == (0, 0)


def test_an_exposure_adds_up_the_light_of_its_moments(shapes, monkeypatch):
    ranges = replace(PLAIN, motion=1.0, motion_mm=(3.0, 3.0))

    def light():
        worlds = Worlds(ranges, shapes, SIZE)
        frames = [worlds.draw(np.random.default_rng((5, number))) for number in range(2)]
        drawn = Drawn.of(frames, SIZE, np.random.default_rng(5))
        rays, edge = canvas_rays(drawn.intrinsics, SIZE)
        return torch.exp(-_absorbed(drawn, scenes.Solids.of(worlds.meshes), rays.float(), edge)), len(
            drawn.moving_images
        )

    whole, moving = light()
    assert moving == 4  # both planes of both frames
    moments = []
    for part in worlds_module.EXPOSURE:
        monkeypatch.setattr(worlds_module, "EXPOSURE", (part,))
        at_once, moving = light()
        assert not moving
        moments.append(at_once)
    torch.testing.assert_close(whole, torch.stack(moments).mean(0), atol=1e-4, rtol=0)
    assert (moments[0] - moments[2]).abs().max() > 0.3


def test_metal_is_as_dark_as_its_range_says(shapes):
    """Of the surround, on average over an implant's thin and thick places."""
    darker, brighter = (
        replace(PLAIN, metal=(level, level), opaque=0.0, plain=1.0, other_rigs=0.0, stray=(0.02, 0.02))
        for level in (0.08, 0.35)
    )
    levels = []
    for ranges in (darker, brighter):
        frames, found = drawn_images(ranges, shapes, 4)
        ratios = []
        for number, frame in enumerate(frames):
            camera = Camera(frame.intrinsics[0], frame.world_to_camera[0])
            shadow = path_length(shapes[frame.shapes[0]].mesh, frame.labels[0], camera, SIZE)
            around = cv2.dilate((shadow > 0).astype(np.uint8), np.ones((9, 9))) - (shadow > 0)
            image = found[0, number].astype(float)
            ratios.append(np.median(image[shadow > 5]) / np.median(image[around > 0]))
        levels.append(np.mean(ratios))
    assert levels[0] < 0.25 < levels[1] < 0.6


def test_inverted_images_are_bright_where_the_implants_are(shapes):
    ranges = replace(PLAIN, plain=0.0, inverted=1.0, logarithmic=0.0, other_rigs=0.0)
    frames, found = drawn_images(ranges, shapes, 3)
    for number, frame in enumerate(frames):
        camera = Camera(frame.intrinsics[1], frame.world_to_camera[1])
        shadow = path_length(shapes[frame.shapes[0]].mesh, frame.labels[0], camera, SIZE) > 4
        image = found[1, number].astype(float)
        assert image[shadow].mean() > image[30:98, 30:98].mean() + 20
