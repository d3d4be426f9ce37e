"""Saturated and underexposed pixels: which they are in a view, and how many are near an implant."""

import cv2
import numpy as np
import pytest
import torch

from tests.fixtures.other_cameras import cropped, one_plane
from tests.registration.scenes import error, smaller, starts, transform
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.inputs import scene_of
from veriserum_hf.registration.intensity.gradients import PlaneGradients
from veriserum_hf.registration.intensity.scales import SCALES
from veriserum_hf.registration.intensity.solver import Solver
from veriserum_hf.registration.intensity.state import initial_state
from veriserum_hf.registration.intensity.uncertainty import agreement
from veriserum_hf.registration.refine import register
from veriserum_hf.registration.scene import View


def exposed(row, gain):
    """The row with images that are so many times brighter, clipped and compressed as a detector's are."""
    made = dict(row)
    for name in ("image_bs", "image_fs"):
        levels = np.rint(np.minimum(gain * np.asarray(row[name], float), 255)).astype(np.uint8)
        encoded = cv2.imencode(".jpg", levels, (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
        made[name] = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    return made


def view_of(row, plane="bs"):
    return View.from_row(np.asarray(row[f"image_{plane}"]), row[f"camera_{plane}"])


def test_only_saturated_pixels_of_the_field_are_clipped(rows):
    view = view_of(exposed(rows[0], 2))
    beyond = 2 * np.asarray(rows[0]["image_bs"], float) / 255
    assert view.clipped[beyond > 1.05].mean() > 0.97 and (beyond > 1.05).mean() > 0.1
    assert view.clipped[beyond < 0.95].mean() < 0.01
    assert not view.clipped[~view.in_field].any() and not view.in_field[0, 0]
    assert not view_of(rows[0]).clipped.any()


def test_a_larger_pixel_is_clipped_where_a_quarter_of_it_is(rows):
    view = view_of(exposed(rows[0], 2))
    share = view.clipped.reshape(128, 4, 128, 4).mean(axis=(1, 3))
    reduced = view.reduced(4 * view.pixel_mm[0])
    assert reduced.image.shape == (128, 128)
    np.testing.assert_array_equal(reduced.clipped, share > 0.25)
    assert not view_of(rows[0]).reduced(4 * view.pixel_mm[0]).clipped.any()


@pytest.mark.parametrize("part", [None, ((100, 120), (300, 330))])
def test_the_share_near_an_outline_is_that_of_the_pixels_within_seven_mm_of_it(rows, meshes, part):
    row = rows[0] if part is None else cropped(rows[0], "bs", *part)
    implant, T = Implant(row["tibia"]["anatomy_id"], meshes[row["tibia"]["anatomy_id"]]), transform(row["tibia"])
    view = view_of(row)
    assert view.share_clipped(implant, T) == 0
    outline_px = view.camera.project(T[:3, :3].dot(implant.mesh.vertices.T).T + T[:3, 3])
    column = int(np.median(outline_px[:, 0]))
    half = np.zeros_like(view.clipped)
    half[:, column:] = True
    shares = []
    for clipped in (half, ~half, half | ~half):
        clipped_view = View(view.image, view.camera, view.pixel_mm, view.in_field, clipped & view.in_field)
        shares.append(clipped_view.share_clipped(implant, T))
    assert shares[0] + shares[1] == pytest.approx(1) and 0.2 < shares[0] < 0.8 and shares[2] == 1
    outside = View(view.image, view.camera, view.pixel_mm, np.zeros_like(half), np.zeros_like(half))
    assert outside.share_clipped(implant, T) == 0


@pytest.fixture(scope="module")
def saturated(rows, coarse_meshes):
    """Gradients at one scale of a frame with saturated pixels, one plane, and its scene and poses."""
    scene, T = scene_of([one_plane(exposed(rows[0], 2))], coarse_meshes, None, ("bs",), torch.device("cpu"))
    return PlaneGradients(scene, "bs", SCALES[1], T), scene, T


def test_clipped_pixels_have_no_effect(saturated, monkeypatch):
    gradients, scene, T = saturated
    at_scale = View.reduced

    def darkened(view, pixel_mm):
        reduced = at_scale(view, pixel_mm)
        image = np.where(reduced.clipped, np.float32(0.2), reduced.image)
        return View(image, reduced.camera, reduced.pixel_mm, reduced.in_field, reduced.clipped)

    monkeypatch.setattr(View, "reduced", darkened)
    changed = PlaneGradients(scene, "bs", SCALES[1], T)
    torch.testing.assert_close(changed.observed, gradients.observed, atol=1e-6, rtol=0)
    assert gradients.observed.abs().max() > 0.01


def test_even_images_have_no_gradient_next_to_clipped_pixels_and_ramps_have_their_own_sign(saturated):
    gradients, *_ = saturated
    even = torch.ones(1, 1, *gradients._shape)
    assert gradients.gradients(even).abs().max() < 1e-6
    ramp = even * torch.arange(gradients._shape[1])
    found = gradients.gradients(ramp)[0, 0, 0, gradients.used[0] > 0]
    assert -1e-4 < found.min() < 0.5 and found.max() == pytest.approx(1, abs=1e-3)  # fewer pixels, less weight


def test_places_amid_clipped_pixels_are_not_used(saturated, rows, coarse_meshes):
    scene, T = scene_of([one_plane(rows[0])], coarse_meshes, None, ("bs",), torch.device("cpu"))
    unclipped = PlaneGradients(scene, "bs", SCALES[1], T)
    assert saturated[0].used.sum() < unclipped.used.sum() < 2 * saturated[0].used.sum()


def test_a_saturated_frame_is_registered_by_the_dark_side_of_its_outlines(rows, coarse_meshes):
    """With saturated pixels at face value, the tibia is 0.70 mm and 0.75 deg off."""
    row = smaller(exposed(rows[1], 2), 256)
    assert np.mean(np.asarray(row["image_bs"]) == 255) > 0.15
    found = register(row, coarse_meshes, starts(row, coarse_meshes, 5, 5))
    for pose in found.values():
        off = error(pose, row)
        assert pose.verdict != "failed"
        assert np.linalg.norm(off[:3]) < 0.15 and np.linalg.norm(off[3:]) < 0.5


def test_much_clipping_is_stated_with_the_reason_of_a_verdict(rows, coarse_meshes):
    row = smaller(exposed(rows[0], 2), 128)
    start = starts(rows[0], coarse_meshes, 1, 1)
    pose = register(row, coarse_meshes, start, planes=("bs",), limit_mm=0.01)["tibia"]
    implant = Implant(row["tibia"]["anatomy_id"], coarse_meshes[row["tibia"]["anatomy_id"]])
    share = view_of(row).share_clipped(implant, pose.T_world_implant)
    expected = f"; of the surroundings of its outline, clipped: {share:.0%} in bs"
    assert pose.verdict == "failed" and share > 0.1 and pose.detail.endswith(expected)
    plain = register(smaller(rows[0], 128), coarse_meshes, start, planes=("bs",), limit_mm=0.01)["tibia"]
    assert plain.verdict == "failed" and "clipped" not in plain.detail


@pytest.mark.parametrize("inverted", [False, True])
def test_an_opaque_implant_on_saturated_pixels_has_no_score(rows, coarse_meshes, inverted):
    row = one_plane(smaller(exposed(rows[1], 2.5), 128))
    if inverted:
        row |= {"image_bs": 255 - row["image_bs"]}
    scene, T = scene_of([row], coarse_meshes, None, ("bs",), torch.device("cpu"))
    clipped = scene.views["bs"][0].clipped & (np.asarray(row["image_bs"]) == (0 if inverted else 255))
    distance_px = cv2.distanceTransform(clipped.astype(np.uint8), cv2.DIST_L2, 5)
    row_px, column_px = np.unravel_index(distance_px.argmax(), distance_px.shape)
    # The tibial component is moved to the middle of the largest saturated area.
    camera = scene.views["bs"][0].camera
    moved = T.clone()
    center_mm = scene.centers_world_mm(T)[:, 1].numpy()
    in_camera = camera.world_to_camera[:3, :3] @ center_mm[0] + camera.world_to_camera[:3, 3]
    wanted_px = np.array([column_px, row_px]) - camera.project(center_mm)[0]
    shift_mm = np.array([*(wanted_px / camera.intrinsics.diagonal()[:2] * in_camera[2]), 0])
    moved[0, 1, :3, 3] += torch.from_numpy(camera.world_to_camera[:3, :3].T @ shift_mm)
    scores = []
    for poses in (T, moved):
        solver = Solver(scene, SCALES[1], initial_state(scene, poses))
        scores.append(agreement(solver)[0])
    assert scores[0].min() > 0.55 and scores[1][1] < 0.3
