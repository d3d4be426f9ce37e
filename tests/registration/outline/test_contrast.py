"""What grey values inside implants show."""

import numpy as np
import pytest

from tests.registration.opaque import opaque
from veriserum_hf.core.domain import PLANES
from veriserum_hf.registration.outline.contrast import brighter_inside, explained
from veriserum_hf.registration.outline.search import COARSE, MIDDLE


def levels(frame, scale):
    return frame.outlines.solver(scale).levels.values()


def inverted(row):
    return row | {f"image_{plane}": 255 - np.asarray(row[f"image_{plane}"]) for plane in PLANES}


@pytest.mark.parametrize("change", [lambda row: row, inverted])
def test_an_inverted_image_is_recognised(change, frame_of, row, true_poses):
    frame = frame_of(change(row))
    for plane, level in frame.outlines.solver(COARSE).levels.items():
        assert brighter_inside(level, frame.bodies, true_poses) == (change is inverted)
        before = np.corrcoef(level.image.ravel(), level.view.image.ravel())[0, 1]
        assert (before < 0) == (change is inverted), plane  # what is searched has dark implants


def test_path_lengths_explain_semi_transparent_metal_and_not_opaque_metal(
    frame_of, frame, rows, coarse_meshes, true_poses
):
    dark = frame_of(opaque(rows[1], coarse_meshes))
    for level in levels(frame, MIDDLE):
        assert min(explained(level, frame.bodies, true_poses)) > 0.7
    for level in levels(dark, MIDDLE):
        assert max(explained(level, dark.bodies, true_poses)) < 0.7


def test_metal_that_is_not_in_the_field_is_explained_by_nothing(frame, true_poses):
    away = true_poses.copy()
    away[:, 1, 3] += 1000
    for level in levels(frame, MIDDLE):
        assert explained(level, frame.bodies, away) == [0.0, 0.0]
        assert not brighter_inside(level, frame.bodies, away)
