"""Outlines of implants in an image: derivatives with respect to the pose, and where an image is usable."""

import numpy as np
import pytest

from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry.pose import transform_points
from veriserum_hf.registration.outline.search import FINE, MIDDLE
from veriserum_hf.registration.outline.steps import moved


@pytest.fixture(scope="module")
def levels(frame):
    return frame.outlines.solver(MIDDLE).levels


def outline(frame, level, k, T):
    bodies = frame.outlines.solver(MIDDLE).bodies
    shadows = [level.render(body, each) for body, each in zip(bodies, T, strict=True)]
    return level.outline(bodies[k], T[k], shadows[k], [s for n, s in enumerate(shadows) if n != k])


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("k", [0, 1])
def test_derivatives_by_steps_are_those_of_finite_differences(plane, k, frame, levels, true_poses):
    level, implant = levels[plane], frame.implants[k]
    pieces = outline(frame, level, k, true_poses)
    assert len(pieces.px) > 30
    numeric = np.empty((len(pieces.px), 6))
    for n, step in enumerate(1e-3 * np.eye(6)):
        ends = []
        for sign in (1, -1):
            world_mm = transform_points(moved(implant, true_poses[k], sign * step), pieces.points_mm)
            x, y, z = transform_points(level.camera.world_to_camera, world_mm).T
            K = level.camera.intrinsics
            ends.append(np.stack([K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]], axis=1))
        numeric[:, n] = ((ends[0] - ends[1]) * pieces.normals).sum(axis=1) / 2e-3
    np.testing.assert_allclose(level.by_step(pieces, implant, true_poses[k]), numeric, atol=1e-5)


def test_edges_of_the_image_are_where_a_rendering_at_the_true_pose_has_them(frame, true_poses):
    state = frame.outlines.with_attenuations(true_poses, None)
    for k in (0, 1):
        for own in frame.outlines.of_implant(FINE, state, k).values():
            found = own.residual_px[np.isfinite(own.residual_px)]
            assert len(found) > 0.9 * own.visible.sum()
            assert abs(np.median(found)) < 0.25 and np.median(np.abs(found)) < 0.6


def test_edges_where_the_image_is_missing_are_not_seen(frame_of, row, true_poses):
    bs = np.array(row["image_bs"])
    half = bs.copy()
    half[:, bs.shape[1] // 2 :] = 255  # saturated
    frame = frame_of(row | {"image_bs": half})
    level = frame.outlines.solver(MIDDLE).levels["bs"]
    for k in (0, 1):
        pieces = outline(frame, level, k, true_poses)
        offset_px, slope, visible = level.edges(pieces, 3, soft=False)
        assert np.isnan(offset_px[~visible]).all() and np.isnan(slope[~visible]).all()
        in_half = pieces.px[:, 0] > level.image.shape[1] / 2 + 6
        assert np.isnan(offset_px[in_half]).all()


def test_no_outline_runs_through_the_shadow_of_another_implant(frame, levels, true_poses):
    T = true_poses.copy()
    T[1, :3, 3] += transform_points(T[0], frame.implants[0].center_mm[None])[0]
    T[1, :3, 3] -= transform_points(T[1], frame.implants[1].center_mm[None])[0]
    for level in levels.values():
        shadow = level.render(frame.outlines.solver(MIDDLE).bodies[0], T[0])
        assert not shadow.covers(outline(frame, level, 1, T).px, 2).any()
