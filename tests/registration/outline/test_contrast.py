"""What grey values inside implants show."""

import numpy as np
import pytest

from tests.registration.opaque import opaque
from tests.registration.scenes import changed, displaced
from veriserum_hf.registration.outline.contrast import brighter_inside, explained
from veriserum_hf.registration.outline.search import COARSE, MIDDLE


def seen(frame, scale, T_world_implant):
    """Level and shadows by plane."""
    solver = frame.outlines.solver(scale)
    return [(level, solver.shadows(plane, T_world_implant)) for plane, level in solver.levels.items()]


@pytest.mark.parametrize("inverted", [False, True])
def test_an_inverted_image_is_recognised(inverted, frame_of, row, true_poses):
    frame = frame_of(changed(row, lambda image: 1 - image if inverted else image))
    for level, shadows in seen(frame, COARSE, true_poses):
        assert brighter_inside(level, shadows) == inverted
        before = np.corrcoef(level.image.ravel(), level.view.image.ravel())[0, 1]
        assert (before < 0) == inverted  # what is searched has dark implants


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("gamma", [0.5, 1, 2])
def test_an_inverted_image_is_recognised_from_afar_where_metal_and_background_are_clipped(
    inverted, gamma, frame_of, rows, coarse_meshes, true_poses
):
    def windowed(image):
        curve = ((image - 0.25) / 0.35).clip(0, 1) ** gamma
        return 1 - curve if inverted else curve

    frame = frame_of(changed(opaque(rows[1], coarse_meshes), windowed))
    meshes = [implant.mesh for implant in frame.implants]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        off = np.stack([displaced(T, mesh, rng, 12, 10) for T, mesh in zip(true_poses, meshes, strict=True)])
        for level, shadows in seen(frame, COARSE, off):
            assert level.view.clipped[level.view.in_field].mean() > 0.8
            assert brighter_inside(level, shadows) == inverted


def test_path_lengths_explain_semi_transparent_metal_and_not_opaque_metal(
    frame_of, frame, rows, coarse_meshes, true_poses
):
    dark = frame_of(opaque(rows[1], coarse_meshes))
    assert min(min(explained(*each)) for each in seen(frame, MIDDLE, true_poses)) > 0.7
    assert max(max(explained(*each)) for each in seen(dark, MIDDLE, true_poses)) < 0.7


def test_metal_that_is_not_in_the_field_is_explained_by_nothing(frame, true_poses):
    away = true_poses.copy()
    away[:, 1, 3] += 1000
    assert all(explained(*each) == [0.0, 0.0] for each in seen(frame, MIDDLE, away))
    assert not any(brighter_inside(*each) for each in seen(frame, COARSE, away))
