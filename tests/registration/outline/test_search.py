"""Registration of a frame's outlines: mirrored poses that one plane cannot exclude, and farther initial poses."""

import numpy as np
import pytest

from tests.registration.scenes import displaced, drawn, rig_of, transform
from veriserum_hf.geometry.pose import angle_between_deg, make_transform, transform_points
from veriserum_hf.registration.outline.search import FINE, support

FEMUR, TIBIA = 0, 1


@pytest.fixture(scope="module")
def symmetric(rows, coarse_meshes):
    """A frame, in one plane of which the tray has a mirrored pose."""
    return drawn(rows[2], coarse_meshes, rig_of(rows[2]), 256)


@pytest.fixture(scope="module")
def exact(symmetric):
    return np.stack([transform(symmetric[name]) for name in ("femur", "tibia")])


@pytest.fixture(scope="module")
def in_bs(frame_of, symmetric, exact, coarse_meshes):
    """Both implants in one plane, from 2 mm and 2 deg off."""
    frame = frame_of(symmetric, off(symmetric, exact, coarse_meshes, 2, 2), planes=("bs",))
    return frame, frame.by_outline()


def off(row, T, meshes, mm, deg, seed=1):
    rng = np.random.default_rng(seed)
    parts = [meshes[row[name]["anatomy_id"]] for name in ("femur", "tibia")]
    return np.stack([displaced(each, mesh, rng, mm, deg) for each, mesh in zip(T, parts, strict=True)])


def mirrored_tray(frame, T):
    """Pose of the tray behind a plane across its ray, exchanged left and right."""
    (view,) = frame.views.values()
    implant = frame.implants[TIBIA]
    center_mm = transform_points(T, implant.center_mm[None])[0]
    ray = center_mm - view.camera.source_mm
    axis = implant.mesh.principal_inertia_vectors[0]
    R = (np.eye(3) - 2 * np.outer(ray, ray) / (ray @ ray)) @ T[:3, :3] @ (np.eye(3) - 2 * np.outer(axis, axis))
    return make_transform(R, center_mm - R @ implant.center_mm)


def test_a_symmetric_tray_has_a_mirrored_pose_in_one_plane_and_a_femur_has_none(in_bs, exact):
    frame, fit = in_bs
    assert np.isnan(fit.runners_up[FEMUR])
    expected = angle_between_deg(mirrored_tray(frame, exact[TIBIA])[:3, :3], exact[TIBIA, :3, :3])
    assert fit.runners_up[TIBIA] == pytest.approx(expected, abs=5)
    for T, T_true in zip(fit.state.T_world_implant, exact, strict=True):
        assert angle_between_deg(T[:3, :3], T_true[:3, :3]) < 0.6  # the nearer one to the initial pose


def test_from_its_mirrored_pose_the_tray_keeps_it_and_the_true_one_is_the_other(frame_of, symmetric, in_bs, exact):
    mirrored = mirrored_tray(in_bs[0], exact[TIBIA])
    frame = frame_of(symmetric, np.stack([exact[FEMUR], mirrored]), planes=("bs",))
    fit = frame.by_outline()
    reached = fit.state.T_world_implant[TIBIA, :3, :3]
    assert angle_between_deg(reached, mirrored[:3, :3]) < 3
    to_truth = angle_between_deg(reached, exact[TIBIA, :3, :3])
    assert to_truth > 100 and fit.runners_up[TIBIA] == pytest.approx(to_truth, abs=2)


def test_two_planes_exclude_mirrored_poses(frame_of, symmetric, exact, coarse_meshes):
    frame = frame_of(symmetric, off(symmetric, exact, coarse_meshes, 12, 12))
    fit = frame.by_outline()
    assert np.isnan(fit.runners_up).all() and fit.converged.all()
    for k in (FEMUR, TIBIA):
        center_mm = frame.implants[k].center_mm[None]
        T, T_true = fit.state.T_world_implant[k], exact[k]
        assert np.linalg.norm(transform_points(T, center_mm) - transform_points(T_true, center_mm)) < 0.05
        assert angle_between_deg(T[:3, :3], T_true[:3, :3]) < 0.2
        assert support(frame.outlines.of_implant(FINE, fit.state, k)) > 0.9


def test_support_is_the_share_of_edges_where_they_must_be(in_bs):
    frame, fit = in_bs
    own = frame.outlines.of_implant(FINE, fit.state, FEMUR)
    for residual_px, expected in ((0.0, 1), (0.6436, 0.5), (np.nan, 0)):
        own["bs"].residual_px[:] = residual_px
        assert support(own) == pytest.approx(expected, abs=1e-3)
    assert support({}) == 0


def test_attenuations_are_found_without_moving_the_poses(in_bs, exact):
    frame, fit = in_bs
    found = frame.outlines.with_attenuations(exact, None)
    np.testing.assert_array_equal(found.T_world_implant, exact)
    assert (found.log_per_mm["bs"] != frame.outlines.initial_state(exact).log_per_mm["bs"]).all()
    known = frame.outlines.with_attenuations(exact, fit.state)
    np.testing.assert_array_equal(known.T_world_implant, exact)
    np.testing.assert_allclose(known.log_per_mm["bs"], fit.state.log_per_mm["bs"], atol=0.1)
