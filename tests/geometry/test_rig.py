"""The rig projects, back-projects and triangulates by the data set's geometry."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from veriserum_hf.core.domain import PLANES
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import mm_to_px, project, px_to_mm, rig as rig_module
from veriserum_hf.geometry.rig import DualPlaneRig

CALIBRATION = {
    "principal_point_bs_mm": (2.7, -6.1),
    "sid_bs_mm": 1860.5,
    "principal_point_fs_mm": (-10.1, 2.0),
    "sid_fs_mm": 1851.3,
}
RIG = DualPlaneRig.from_calibration(**CALIBRATION)
sizes = st.sampled_from([256, 512, 1600])
points_mm = st.tuples(st.floats(-140, 140), st.floats(-140, 140), st.floats(200, 550)).map(np.array)


@given(points_mm, sizes)
def test_triangulating_projections_returns_the_point(point_mm, size):
    px_bs, px_fs = (RIG[plane].project(point_mm, size) for plane in PLANES)
    np.testing.assert_allclose(RIG.triangulate(px_bs, px_fs, size), point_mm, atol=1e-6)


@given(points_mm, sizes)
def test_a_row_camera_projects_like_the_rig(point_mm, size):
    """The promise of the data set: ``intrinsics @ (world_to_camera @ X)[:3]`` gives pixels."""
    for plane in PLANES:
        camera = RIG[plane].camera(size)
        x, y, w = np.array(camera["intrinsics"]) @ (np.array(camera["world_to_camera"]) @ [*point_mm, 1])[:3]
        np.testing.assert_allclose((x / w, y / w), RIG[plane].project(point_mm, size), atol=1e-9)


@given(points_mm)
def test_projection_is_the_ray_from_the_source_to_the_intensifier(point_mm):
    """Explicit construction, straight from the definition of the rig."""
    for plane, center, n, h in [
        ("bs", (0, 0, 0), (0, 0, 1), (1, 0, 0)),
        ("fs", (360, 0, 250), (-0.9396926208, 0, 0.3420201433), (0.3420201433, 0, 0.9396926208)),
    ]:
        v = np.array((0.0, 1.0, 0.0))
        pp_h, pp_v = CALIBRATION[f"principal_point_{plane}_mm"]
        source = np.array(center) + CALIBRATION[f"sid_{plane}_mm"] * np.array(n) + pp_h * np.array(h) + pp_v * v
        direction = point_mm - source
        hit = source + direction * (np.dot(center - source, n) / np.dot(direction, n))
        column = np.dot(hit - center, h) / 0.225 + 800
        row = 800 - np.dot(hit - center, v) / 0.225
        np.testing.assert_allclose(RIG[plane].project(point_mm, 1600), (column, row), atol=1e-6)


@given(st.tuples(st.floats(-300, 300), st.floats(-300, 300)), st.integers(1, 4000))
def test_pixel_grid_round_trips_at_any_size(h_v_mm, size):
    np.testing.assert_allclose(px_to_mm(mm_to_px(h_v_mm, size), size), h_v_mm, atol=1e-9)


def test_pixel_grid_is_the_native_one_and_its_half_pixel_resize():
    assert px_to_mm((800, 800), 1600).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert px_to_mm((801, 801), 1600).tolist() == pytest.approx([0.225, -0.225])
    j = np.arange(512)
    native_index = (j + 0.5) * 3.125 - 0.5
    expected = (native_index - 800) * 0.225
    np.testing.assert_allclose(px_to_mm(np.stack([j, j], 1), 512)[:, 0], expected, atol=1e-9)


def test_rays_pass_through_what_they_show():
    point = np.array([20.0, -35.0, 390.0])
    source, direction = RIG["fs"].rays(RIG["fs"].project(point, 512), 512)
    off_ray = np.cross(direction, point - source)
    assert np.linalg.norm(direction) == pytest.approx(1)
    assert np.linalg.norm(off_ray) < 1e-9


def test_central_axes_cross_in_front_of_both_intensifiers():
    centers_px = mm_to_px((0.0, 0.0), 512)
    straight = DualPlaneRig.from_calibration(
        principal_point_bs_mm=(0, 0), sid_bs_mm=1860, principal_point_fs_mm=(0, 0), sid_fs_mm=1860
    )
    crossing = straight.triangulate(centers_px, centers_px, 512)
    assert crossing == pytest.approx([0, 0, 381.03], abs=0.01)
    assert np.linalg.norm(crossing - rig_module.NOMINAL_T_WORLD_FS[:3, 3]) == pytest.approx(383.1, abs=0.01)


def test_cameras_are_right_handed_and_look_at_the_intensifier():
    for plane in PLANES:
        axes = RIG[plane].world_to_camera[:3, :3]
        assert np.linalg.det(axes) == pytest.approx(1)
        foot = RIG[plane].T_world_intensifier[:3, 3]
        depth = (RIG[plane].world_to_camera @ [*foot, 1])[2]
        assert depth == pytest.approx(RIG[plane].sid_mm)


def test_points_behind_the_source_are_not_projected():
    assert np.isnan(RIG["bs"].project((0, 0, 3000), 512)).all()


def test_parallel_rays_have_no_crossing():
    twins = DualPlaneRig(bs=RIG["bs"], fs=RIG["bs"])
    assert np.isnan(twins.triangulate((256, 256), (256, 256), 512)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sid_bs_mm": 0}, "source-to-intensifier distance must be positive mm, got 0.0"),
        ({"sid_fs_mm": float("nan")}, "source-to-intensifier distance must be positive"),
        ({"principal_point_fs_mm": (1.0, float("inf"))}, "principal point must be two finite mm"),
        ({"T_world_fs": np.diag([2.0, 2, 2, 1])}, "T_world_fs must be a rigid 4x4 transform"),
    ],
)
def test_impossible_calibrations_are_refused(change, message):
    with pytest.raises(CalibrationError, match=message):
        DualPlaneRig.from_calibration(**(CALIBRATION | change))


def test_a_stack_of_cameras_projects_as_each_does():
    points_mm = np.random.default_rng(0).uniform(-60, 60, (7, 3)) + (0, 0, 381)
    cameras = [RIG[plane].camera(256) for plane in PLANES]
    stacks = [np.array([camera[name] for camera in cameras]) for name in ("intrinsics", "world_to_camera")]
    px = project(points_mm, *stacks)
    np.testing.assert_allclose(px, [RIG[plane].project(points_mm, 256) for plane in PLANES], atol=1e-9)
    behind = project([(0, 0, 381), (0, 0, 3000)], stacks[0][0], stacks[1][0])
    assert np.isnan(behind).any(axis=1).tolist() == [False, True]


@pytest.mark.parametrize("plane", PLANES)
def test_points_on_the_intensifier_are_projected_onto_themselves(plane):
    h_v_mm = np.random.default_rng(1).uniform(-150, 150, (2, 5, 2))
    on_plane = np.concatenate([h_v_mm, np.zeros((2, 5, 1)), np.ones((2, 5, 1))], axis=-1)
    points_mm = (on_plane @ RIG[plane].T_world_intensifier.T)[..., :3]
    np.testing.assert_allclose(RIG[plane].project_mm(points_mm), h_v_mm, atol=1e-9)
    np.testing.assert_allclose(RIG[plane].depths_mm(points_mm), RIG[plane].sid_mm, atol=1e-9)
    assert RIG[plane].depths_mm(RIG[plane].source_mm) == pytest.approx(0, abs=1e-9)
