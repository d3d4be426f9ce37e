"""Initial poses from the images alone."""

import cv2
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from tests.registration.scenes import displaced, drawn, rig_of, transform
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry.pose import angle_between_deg, transform_points
from veriserum_hf.registration.from_images import hypotheses, pose_search
from veriserum_hf.registration.from_images.coarse_fit import CoarseFit
from veriserum_hf.registration.from_images.edge_maps import EdgeMap
from veriserum_hf.registration.from_images.found_poses import find_poses
from veriserum_hf.registration.from_images.pose_search import CANDIDATES, candidate_poses
from veriserum_hf.registration.from_images.templates import ReducedMesh, Templates
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.inputs import views_of

_SIZE = 128


@pytest.fixture(scope="module")
def frame(rows, coarse_meshes):
    """Both implants in images of 128 px, without holders."""
    return drawn(rows[0], coarse_meshes, rig_of(rows[0]), _SIZE)


@pytest.fixture(scope="module")
def femur(frame, coarse_meshes):
    return Implant(frame["femur"]["anatomy_id"], coarse_meshes[frame["femur"]["anatomy_id"]])


@pytest.fixture
def few(monkeypatch):
    """A third of the directions and hypotheses: enough for images without clutter."""
    fewer = {"_DIRECTIONS": 90, "_FEW_DIRECTIONS": 20, "_COUNTS": (16, 6, 6), "_SCALES_PX": (96, 128, 128)}
    for name, value in fewer.items():
        monkeypatch.setattr(pose_search, name, value)


@pytest.fixture(scope="module")
def templates(femur):
    return Templates.of_mesh(ReducedMesh(femur), 100, 1200.0)


def _edges(frame, planes=("bs", "fs"), px=_SIZE):
    return [EdgeMap.of_view(view, px) for view in views_of(frame, planes).values()]


def _ids(frame):
    return {name: frame[name]["anatomy_id"] for name in ("femur", "tibia")}


def _off(T, row, component, mesh):
    """Distance of the centres of a mesh, mm, and angle, deg, between a pose and that of a row."""
    true, center = transform(row[component]), np.mean(mesh.bounds, axis=0)[None]
    apart = transform_points(T, center) - transform_points(true, center)
    return np.linalg.norm(apart), angle_between_deg(T[:3, :3], true[:3, :3])


def test_the_outline_of_a_ball_is_a_circle_with_outward_normals():
    ball = ReducedMesh(Implant(1, trimesh.creation.icosphere(4, 30.0)))
    seen = ball.outline(np.eye(3), np.array([0.0, 0.0, 1000.0]), np.array([2000.0, 2000.0]), 64)
    radius = np.linalg.norm(seen.px, axis=1)
    np.testing.assert_allclose(radius, 2000 * 30 / np.sqrt(1000**2 - 30**2), atol=1.0)
    np.testing.assert_allclose((seen.normals * seen.px).sum(axis=1) / radius, 1, atol=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.floats(-3.1, 3.1), st.tuples(*[st.floats(-0.02, 0.02)] * 3))
def test_a_rotation_is_that_of_its_template_and_an_angle_in_the_image(templates, index, angle, tilt):
    in_image = Rotation.from_rotvec([0, 0, angle]).as_matrix()
    rotation = Rotation.from_rotvec(tilt).as_matrix() @ in_image @ templates.rotations[index]
    found, angles = templates.nearest(rotation[None])
    assert found[0] == index
    assert abs(np.angle(np.exp(1j * (angles[0] - angle)))) < 0.03


@pytest.mark.parametrize("change", [np.square, np.sqrt, np.log1p])
def test_responses_hardly_depend_on_the_scale_of_grey_values(frame, change):
    grey = frame["image_bs"].astype(float) / frame["image_bs"].max()
    changed = frame | {"image_bs": np.rint(60000 * change(grey) / change(1.0)).astype(np.uint16)}
    before, after = (_edges(each, ("bs",))[0].responses(2, 1.0).astype(float) for each in (frame, changed))
    strong = before > 80
    assert strong.sum() > 1000
    assert np.median(np.abs(after - before)[strong]) < 10
    assert (after[strong] > 40).mean() > 0.95


def test_responses_of_an_inverted_image_are_those_of_the_other_sign(frame):
    inverted = frame | {"image_bs": 255 - frame["image_bs"]}
    before, after = _edges(frame, ("bs",))[0], _edges(inverted, ("bs",))[0]
    difference = before.responses(2, 1.0).astype(float) - after.responses(2, -1.0)
    assert np.abs(difference).max() <= 2


def test_a_rough_pose_moves_onto_the_edges(frame, femur):
    fit = CoarseFit(ReducedMesh(femur), _edges(frame), 1.0)
    start = displaced(transform(frame["femur"]), femur.mesh, np.random.default_rng(3), 6.0, 6.0)
    pose = start[:3, :3], transform_points(start, femur.center_mm[None])[0]
    rotation, center_mm = fit.refined(*pose, (5, 5, 4, 4, 3, 3, 2, 2))
    true = transform(frame["femur"])
    assert np.linalg.norm(center_mm - transform_points(true, femur.center_mm[None])[0]) < 1.0
    assert angle_between_deg(rotation, true[:3, :3]) < 2.5
    assert fit.score(rotation, center_mm) > fit.score(*pose) + 0.1


def test_hypotheses_of_one_plane_are_in_their_region(frame, femur):
    true = transform(frame["femur"])
    center_mm = transform_points(true, femur.center_mm[None])[0]
    region = hypotheses.Region(center_mm + (30.0, 0.0, 0.0), 60.0)
    (plane,) = _edges(frame, ("bs",))
    found = hypotheses.from_one_plane(plane, ReducedMesh(femur), 1860.0, 1.0, 100, region)
    assert region.contains(found.centers_mm).all()
    assert (np.diff(found.scores) <= 0).all()
    best = found.distinct(5, 6.0, 12.0, [plane.camera])
    assert len(best.scores) == 5
    angles = angle_between_deg(best.rotations, np.broadcast_to(true[:3, :3], (5, 3, 3)))
    assert angles.min() < 25


def test_both_implants_are_found_in_two_planes(few, frame, coarse_meshes):
    found = candidate_poses(frame, _ids(frame), coarse_meshes)
    for component, candidates in found.items():
        scores = [candidate.score for candidate in candidates]
        assert 1 <= len(candidates) <= CANDIDATES
        assert scores == sorted(scores, reverse=True)
        off = [_off(each.T_world_implant, frame, component, coarse_meshes[each.anatomy_id]) for each in candidates]
        assert min(mm for mm, deg in off if deg < 10) < 5
    assert _off(found["femur"][0].T_world_implant, frame, "femur", coarse_meshes[_ids(frame)["femur"]]) < (2, 4)


def test_a_pose_is_that_of_a_row_and_inverted_images_of_one_plane_are_recognised(few, frame, coarse_meshes, femur):
    inverted = {
        name: value for name, value in frame.items() if name not in ("image_fs", "camera_fs", "femur", "tibia")
    } | {"image_bs": 255 - frame["image_bs"]}
    found = find_poses(inverted, {"femur": femur.anatomy_id}, coarse_meshes)
    assert list(found) == ["femur"]
    assert found["femur"]["anatomy_id"] == femur.anatomy_id
    seen, true = (
        _edges(frame, ("bs",))[0].camera.project(transform_points(transform(pose), femur.center_mm[None]))
        for pose in (found["femur"], frame["femur"])
    )
    assert np.linalg.norm(seen - true) < 2


def test_an_image_without_edges_has_no_poses(few, frame, coarse_meshes, femur):
    ramp = np.tile(np.arange(_SIZE, dtype=np.uint8), (_SIZE, 1))
    blank = frame | {"image_bs": ramp, "image_fs": cv2.rotate(ramp, cv2.ROTATE_180)}
    with pytest.raises(RegistrationError, match="no edge of the images agrees with an outline of femur"):
        find_poses(blank, {"femur": femur.anatomy_id}, coarse_meshes, planes=("bs",))


def test_implants_that_cannot_be_found_are_named(frame, coarse_meshes):
    with pytest.raises(RegistrationError, match="no implant to find; give the anatomy id"):
        candidate_poses(frame, {}, coarse_meshes)
    with pytest.raises(RegistrationError, match=r"no mesh of implant \[99\], only of"):
        candidate_poses(frame, {"femur": 99}, coarse_meshes)
    with pytest.raises(RegistrationError, match="has no image of bs"):
        candidate_poses({"measurement_id": 4}, _ids(frame), coarse_meshes, planes=("bs",))
