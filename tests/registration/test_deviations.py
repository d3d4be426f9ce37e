"""Covariances with errors of cameras, meshes and edges, and contradictions of planes."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tests.registration.scenes import drawn, rig_of, starts
from veriserum_hf.geometry import Plane
from veriserum_hf.poses.session_planes import common_direction
from veriserum_hf.registration.deviations import Deviations, at_point, of_origin, widest
from veriserum_hf.registration.refine import register

NONE = Deviations(0, 0, 0, 0, 0, 0)
PARTS = ("femur", "tibia")


@pytest.fixture(scope="module")
def scene(rows, coarse_meshes):
    """A row of 256 px with its true rig, and initial poses."""
    rig = rig_of(rows[1])
    return drawn(rows[1], coarse_meshes, rig, 256), rig, starts(rows[1], coarse_meshes, 2, 2)


@pytest.fixture(scope="module")
def found(scene, coarse_meshes):
    row, _, start = scene
    return register(row, coarse_meshes, start, method="outline")


def shifted(plane, by_mm):
    """A plane that is believed to be that much higher."""
    T = plane.T_world_intensifier.copy()
    T[:3, 3] += by_mm * T[:3, 1]
    return Plane(T, plane.principal_point_mm, plane.sid_mm)


def with_fs_higher(scene, by_mm):
    row, rig, _ = scene
    return row | {"camera_fs": shifted(rig["fs"], by_mm).camera(256)}


def test_covariances_are_symmetric_and_positive_and_contain_those_of_the_images(found):
    for each in found.values():
        for covariance in (each.covariance, each.image_covariance, each.covariance - each.image_covariance):
            np.testing.assert_allclose(covariance, covariance.T, atol=1e-12)
            values = np.linalg.eigvalsh(covariance)
            assert (values > -1e-9 * values.max()).all()


def test_femur_and_tibia_are_correlated_by_the_cameras_that_both_share(found):
    femur, tibia = (found[name] for name in PARTS)
    cross = femur.camera_effects @ tibia.camera_effects.T
    joint = np.block([[femur.covariance, cross], [cross.T, tibia.covariance]])
    values = np.linalg.eigvalsh(joint)
    assert values.min() > -1e-9 * values.max()
    deviations = [np.sqrt(each.covariance.diagonal()) for each in (femur, tibia)]
    assert (cross.diagonal()[:3] > 0.3 * np.prod(deviations, axis=0)[:3]).all()


def with_principal_point_to_the_right(scene, by_mm):
    """The camera of bs, from the same source, with another principal point."""
    row, rig, _ = scene
    camera = rig["bs"].camera(256) | {"principal_point_mm": None}
    camera["intrinsics"][0][2] += by_mm / camera["pixel_size_mm"]
    return row | {"camera_bs": camera}


@pytest.mark.parametrize(
    ("column", "wrong", "by_mm"), [(0, with_principal_point_to_the_right, 0.2), (7, with_fs_higher, 0.15)]
)
def test_an_error_of_a_camera_moves_both_implants_as_stated(scene, coarse_meshes, found, column, wrong, by_mm):
    """By one standard deviation, in the same direction."""
    moved = register(wrong(scene, by_mm), coarse_meshes, scene[2], method="outline")
    measured = np.array([moved[name].translation_mm - found[name].translation_mm for name in PARTS]).ravel()
    expected = np.array([found[name].camera_effects[:3, column] for name in PARTS]).ravel()
    measured *= np.sign(expected @ measured)
    assert np.linalg.norm(measured - expected) < 0.25 * np.linalg.norm(expected)


def test_without_errors_of_the_world_only_the_images_count(scene, coarse_meshes, found):
    row, _, start = scene
    exact = register(row, coarse_meshes, start, method="outline", deviations=NONE)
    for name in PARTS:
        np.testing.assert_allclose(exact[name].T_world_implant, found[name].T_world_implant, atol=1e-9)
        np.testing.assert_allclose(exact[name].covariance, exact[name].image_covariance, rtol=0.05, atol=1e-6)
        assert widest(exact[name].covariance[:3, :3]) < widest(found[name].covariance[:3, :3])


def test_larger_errors_of_any_kind_widen_the_covariance(scene, coarse_meshes, found):
    row, _, start = scene
    more = register(row, coarse_meshes, start, method="outline", deviations=Deviations(mesh_mm=1.0))
    for name in PARTS:
        assert np.trace(more[name].covariance) > np.trace(found[name].covariance)


def test_planes_contradict_each_other_where_a_camera_is_not_where_it_is_stated_to_be(scene, coarse_meshes, found):
    start = scene[2]
    assert "contradict" not in found["femur"].detail
    wrong = register(with_fs_higher(scene, 1.0), coarse_meshes, start, method="outline")
    for each in wrong.values():
        assert each.verdict == "ambiguous" and each.detail.startswith("the planes contradict each other: ")
        assert widest(each.covariance[:3, :3]) > 2 * widest(found[each.component].covariance[:3, :3])


@pytest.mark.parametrize("by_mm", [0.3, -0.3])
def test_the_disagreement_of_the_planes_is_signed_along_the_direction_that_both_see(
    scene, coarse_meshes, found, by_mm
):
    """Where fs is stated to be higher, it alone sees the implant higher; cross(ray of bs, ray of fs) points down."""
    row = with_fs_higher(scene, by_mm)
    wrong = register(row, coarse_meshes, scene[2], method="outline")
    down = common_direction(row, np.array([0, 0, 380.0]))
    np.testing.assert_allclose(down, (0, -1, 0), atol=0.05)
    for name in PARTS:
        assert wrong[name].planes_apart_mm == pytest.approx(-by_mm, abs=0.1)
        assert abs(found[name].planes_apart_mm) < 0.05
        assert 0 < found[name].planes_apart_sd_mm < 0.5


def test_one_plane_states_no_disagreement(scene, coarse_meshes):
    row, _, start = scene
    for each in register(row, coarse_meshes, start, planes=("bs",), method="outline").values():
        assert np.isnan(each.planes_apart_mm) and np.isnan(each.planes_apart_sd_mm)


@given(
    center=st.tuples(*[st.floats(-80, 80)] * 3),
    seed=st.integers(0, 1000),
    by_mm=st.tuples(*[st.floats(-80, 80)] * 3),
)
def test_the_covariance_of_the_centre_is_that_of_the_steps_whatever_the_origin(center, seed, by_mm):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 6))
    step, T = root @ root.T, np.eye(4)
    implants = [_Body(np.add(center, offset)) for offset in ((0, 0, 0), by_mm)]
    at_center = []
    for implant in implants:
        at_center.append(at_point(of_origin(step, implant, T), implant.center_mm))
    np.testing.assert_allclose(at_center[0], at_center[1], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(at_center[0][:3, :3], step[:3, :3], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(at_center[0][3:, 3:], step[3:, 3:] * np.degrees(1 / 30) ** 2, rtol=1e-6, atol=1e-6)


class _Body:
    """Centre and radius of an implant, which are all that these use."""

    radius_mm = 30.0

    def __init__(self, center_mm):
        self.center_mm = center_mm


def test_the_widest_direction_is_that_of_the_largest_eigenvalue():
    assert widest(np.diag([1.0, 9.0, 4.0])) == pytest.approx(3)
