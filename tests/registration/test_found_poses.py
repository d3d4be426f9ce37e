"""Candidates of the search are registered, ranked again, and what the images do not decide is visible."""

from dataclasses import replace

import numpy as np
import pytest

from tests.registration.scenes import displaced, drawn, rig_of, transform
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import angle_between_deg, make_transform, mirror_pose, transform_points
from veriserum_hf.registration.from_images import found_poses
from veriserum_hf.registration.from_images.found_poses import find_poses, ranked_poses
from veriserum_hf.registration.from_images.knees import like_a_knee, mediolateral_axes
from veriserum_hf.registration.from_images.pose_search import CandidatePose
from veriserum_hf.registration.inputs import views_of
from veriserum_hf.registration.refine import RefinedPose
from veriserum_hf.registration.verdicts import MIRRORED

_SIZE = 128


@pytest.fixture(scope="module")
def frame(rows, coarse_meshes):
    """Both implants in images of 128 px, without holders."""
    return drawn(rows[0], coarse_meshes, rig_of(rows[0]), _SIZE)


@pytest.fixture
def candidates(monkeypatch):
    """Candidates of the search, by component, in place of a search."""
    known = {}
    monkeypatch.setattr(found_poses, "candidate_poses", lambda row, implants, meshes, *, planes: known)
    return known


def _femur(frame, meshes):
    id = frame["femur"]["anatomy_id"]
    return id, meshes[id], transform(frame["femur"])


def _refined(T, score, verdict="converged", detail=""):
    nothing = np.full((6, 6), np.nan)
    return RefinedPose("femur", 1, T, nothing, nothing, "outline", score, verdict, detail, 0.0, 0.0)


def _rotated(deg, mm=0.0):
    a = np.radians(deg)
    R = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return make_transform(R, np.array([mm, 0.0, 0.0]))


def test_the_outlines_decide_between_candidates(frame, coarse_meshes, candidates):
    id, mesh, T = _femur(frame, coarse_meshes)
    rng = np.random.default_rng(2)
    near, wrong = displaced(T, mesh, rng, 4.0, 4.0), displaced(T, mesh, rng, 20.0, 70.0)
    candidates["femur"] = [CandidatePose(id, wrong, 0.9), CandidatePose(id, near, 0.85), CandidatePose(id, T, 0.7)]
    found = ranked_poses(frame, {"femur": id}, coarse_meshes)["femur"]
    best, *others = found
    assert best.verdict == "converged"
    assert angle_between_deg(best.T_world_implant[:3, :3], T[:3, :3]) < 1
    assert all(each.score < best.score - 0.1 for each in others)
    pose = find_poses(frame, {"femur": id}, coarse_meshes)["femur"]
    assert pose["translation_mm"] == best.T_world_implant[:3, 3].tolist()


def test_candidates_that_no_frame_shows_are_dropped(frame, coarse_meshes, candidates):
    id, _, T = _femur(frame, coarse_meshes)
    elsewhere = T.copy()
    elsewhere[:3, 3] += 5000.0
    candidates["femur"] = [CandidatePose(id, elsewhere, 0.9)]
    with pytest.raises(RegistrationError, match="no edge of the images agrees with an outline of femur"):
        find_poses(frame, {"femur": id}, coarse_meshes)


def test_a_different_pose_that_agrees_nearly_as_well_is_named(frame, coarse_meshes):
    meshes = {1: coarse_meshes[frame["femur"]["anatomy_id"]]}
    cameras = [view.camera for view in views_of(frame, ("bs", "fs")).values()]
    best, same, other = _refined(_rotated(0), 0.9), _refined(_rotated(1), 0.89), _refined(_rotated(30), 0.84)

    def judged(*poses, one_plane=False):
        return found_poses._with_rival(found_poses._different(poses, meshes, cameras), one_plane=one_plane)

    first, second = judged(other, same, best)
    assert first.verdict == "ambiguous"
    assert first.detail == "another pose, 30 deg away, agrees with 84 % of its outline, this one with 90 %"
    assert second is other
    for harmless in (_refined(_rotated(30), 0.7), _refined(_rotated(30), 0.89, "failed", "lost")):
        assert judged(harmless, best)[0] is best
    farther = _refined(_rotated(30), 0.78)
    assert judged(farther, best)[0] is best and judged(farther, best, one_plane=True)[0].verdict == "ambiguous"


def test_the_mirror_pose_of_a_tray_is_tried_in_one_plane(frame, coarse_meshes, candidates, monkeypatch):
    id = frame["tibia"]["anatomy_id"]
    mesh, T = coarse_meshes[id], transform(frame["tibia"])
    camera = views_of(frame, ("bs",))["bs"].camera
    center_mm = mesh.bounds.mean(axis=0)
    ray = transform_points(T, center_mm[None])[0] - camera.source_mm
    axis = mediolateral_axes(coarse_meshes, {"tibia": id})["tibia"]
    wrong = mirror_pose(T, axis, center_mm, ray / np.linalg.norm(ray))
    assert angle_between_deg(wrong[:3, :3], T[:3, :3]) > 5
    candidates["tibia"] = [CandidatePose(id, wrong, 0.9)]

    def kept(row, meshes, start, **options):
        """Registration that leaves poses where they are, and finds both alike."""
        return {"tibia": replace(_refined(transform(start["tibia"]), 0.8), component="tibia", anatomy_id=id)}

    monkeypatch.setattr(found_poses, "register", kept)
    first, second = ranked_poses(frame, {"tibia": id}, coarse_meshes, planes=("bs",))["tibia"]
    np.testing.assert_allclose(first.T_world_implant, wrong, atol=1e-6)
    np.testing.assert_allclose(second.T_world_implant, T, atol=1e-6)
    pose = find_poses(frame, {"tibia": id}, coarse_meshes, planes=("bs",))["tibia"]
    assert pose["verdict"] == "ambiguous" and pose["detail"].startswith("another pose")
    assert len(ranked_poses(frame, {"tibia": id}, coarse_meshes)["tibia"]) == 1  # two planes decide


def test_a_mirrored_pose_that_the_registration_names_stays_open(frame, coarse_meshes, candidates, monkeypatch):
    id, _, T = _femur(frame, coarse_meshes)
    candidates["femur"] = [CandidatePose(id, T, 0.9)]
    for detail, is_open in ((f"{MIRRORED}, 90 deg from the initial one", True), ("95 % interval of", False)):
        pose = replace(_refined(T, 0.8, "ambiguous", detail), anatomy_id=id)
        monkeypatch.setattr(found_poses, "register", lambda *_, pose=pose, **__: {"femur": pose})
        assert ("detail" in find_poses(frame, {"femur": id}, coarse_meshes)["femur"]) == is_open


def test_what_images_leave_open_a_knee_decides():
    axes = {"femur": np.array([1.0, 0, 0]), "tibia": np.array([1.0, 0, 0])}

    def named(component, deg, score, verdict="converged"):
        return replace(_refined(_rotated(deg), score, verdict), component=component)

    femur = [named("femur", 0, 1.0)]
    turned, parallel = named("tibia", 30, 0.85), named("tibia", 5, 0.8)
    assert like_a_knee({"femur": femur, "tibia": [turned, parallel]}, axes)["tibia"] == [parallel, turned]
    seen = named("tibia", 30, 0.97)  # no angle outweighs what the images show
    assert like_a_knee({"femur": femur, "tibia": [seen, parallel]}, axes)["tibia"] == [seen, parallel]
    lost = named("tibia", 5, 0.84, "failed")
    assert like_a_knee({"femur": femur, "tibia": [turned, lost]}, axes)["tibia"] == [turned, lost]
    for unknown in ({"femur": axes["femur"]}, {}):
        assert like_a_knee({"femur": femur, "tibia": [turned, parallel]}, unknown)["tibia"] == [turned, parallel]
    assert like_a_knee({"tibia": [turned, parallel]}, axes) == {"tibia": [turned, parallel]}
