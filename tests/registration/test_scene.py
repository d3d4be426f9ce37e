"""Steps of poses, the form of covariances, and both renderers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.fixtures.other_cameras import cropped, one_plane, resized
from tests.registration.scenes import raised, rig_of, transform
from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry.pose import transform_points
from veriserum_hf.registration.deviations import of_origin
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.inputs import scene_of
from veriserum_hf.registration.intensity.boxes import box_of_lengths
from veriserum_hf.registration.intensity.gradients import PlaneGradients
from veriserum_hf.registration.intensity.scales import SCALES
from veriserum_hf.registration.scene import Scene, View


@pytest.fixture(scope="module")
def started(rows, meshes):
    """Scene of two frames, and their poses (2, 2, 4, 4)."""
    return scene_of(rows[:2], meshes, None, PLANES, torch.device("cpu"))


def random_steps(*shape):
    return torch.tensor(np.random.default_rng(0).normal(size=shape))


def test_a_step_shifts_the_centre_and_rotates_about_it(started, rows, meshes):
    scene, T = started
    steps_mm = 20 * random_steps(2, 2, 6)
    moved = scene.moved(T, steps_mm).numpy()
    for frame, row in enumerate(rows[:2]):
        for k, name in enumerate(("femur", "tibia")):
            implant = Implant(row[name]["anatomy_id"], meshes[row[name]["anatomy_id"]])
            before, after = transform(row[name]), moved[frame, k]
            center = implant.center_mm[None]
            shift = transform_points(after, center) - transform_points(before, center)
            np.testing.assert_allclose(shift[0], steps_mm[frame, k, :3], atol=1e-9)
            rotation = Rotation.from_rotvec(steps_mm[frame, k, 3:].numpy() / implant.radius_mm).as_matrix()
            np.testing.assert_allclose(after[:3, :3], rotation @ before[:3, :3], atol=1e-9)


def test_steps_in_opposite_directions_cancel(started):
    scene, T = started
    steps_mm = 20 * random_steps(2, 2, 6)
    torch.testing.assert_close(scene.moved(scene.moved(T, steps_mm), -steps_mm), T, atol=1e-9, rtol=0)
    torch.testing.assert_close(scene.moved(T, torch.zeros_like(steps_mm)), T, atol=1e-12, rtol=0)


def test_many_steps_at_once_are_those_one_by_one(started):
    scene, T = started
    steps_mm = random_steps(2, 5, 2, 6)
    together = scene.moved(T, steps_mm)
    for number in range(5):
        torch.testing.assert_close(together[:, number], scene.moved(T, steps_mm[:, number]), atol=1e-12, rtol=0)


def test_small_steps_are_mapped_to_the_origin_as_covariances_are(started):
    scene, T = started
    steps_mm = 1e-4 * random_steps(2, 2, 6)
    moved = scene.moved(T, steps_mm)
    for k, implants in enumerate(scene.implants.values()):
        for frame, implant in enumerate(implants):
            step = steps_mm[frame, k].numpy()
            after, before = moved[frame, k].numpy(), T[frame, k].numpy()
            rotation = Rotation.from_matrix(after[:3, :3] @ before[:3, :3].T).as_rotvec(degrees=True)
            change = np.concatenate([after[:3, 3] - before[:3, 3], rotation])
            expected = of_origin(np.outer(step, step), implant, before)
            np.testing.assert_allclose(np.outer(change, change), expected, atol=1e-11)


@pytest.mark.parametrize("scale", [SCALES[0], SCALES[2]])
@pytest.mark.parametrize("plane", PLANES)
def test_both_renderers_give_the_same_lengths(started, scale, plane):
    assert_same_lengths(*started, scale, plane)


def test_both_renderers_give_the_same_lengths_in_parts_with_pixels_that_are_not_square(rows, meshes):
    """Of two frames, of which other parts are seen."""
    parts = [
        resized(cropped(row, "bs", first_px, (320, 400)), "bs", (400, 330))
        for row, first_px in zip(rows[:2], ((60, 110), (35, 90)), strict=True)
    ]
    scene, T = scene_of([one_plane(part) for part in parts], meshes, None, ("bs",), torch.device("cpu"))
    fx, fy, _ = scene.views["bs"][0].camera.intrinsics.diagonal()
    assert fy > 1.4 * fx
    assert_same_lengths(scene, T, SCALES[0], "bs")


def assert_same_lengths(scene, T, scale, plane):
    view = PlaneGradients(scene, plane, scale, T)
    poses = scene.moved(T, random_steps(2, 3, 2, 6))
    for k, component in enumerate(scene.implants):
        expected = view.lengths(component, poses[:, :, k])
        found = view._render_in_torch(component, poses[:, :, k])
        difference = (found - expected).abs()[expected > 0]
        assert expected.max() > 10 and difference.quantile(0.99) < 1e-3
        assert difference.max() < 0.2  # where the surface runs along the ray, rounding to single precision is felt
        gradients = [view.gradients(view.pixels(lengths)) for lengths in (expected, found)]
        assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[0].abs().max()


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_the_part_of_the_window_that_an_implant_is_in_has_all_its_lengths_and_gradients(started, scale, clipped):
    scene, T = with_clipped(started[0]) if clipped else started[0], started[1]
    view = PlaneGradients(scene, "bs", scale, T)
    poses = scene.moved(T, random_steps(2, 3, 2, 6))
    poses[0, 0, 0, :3, 3] += 300.0  # outside
    for k, component in enumerate(scene.implants):
        whole, (box, part) = view.lengths(component, poses[:, :, k]), view.lengths_around(component, poses[:, :, k])
        assert torch.equal(box.of(whole, scale.rays), part) and (whole > 0).sum() == (part > 0).sum() > 0
        smallest = box_of_lengths(whole, scale.rays).of(whole, scale.rays)
        assert (smallest > 0).sum() == (whole > 0).sum() and smallest.numel() <= part.numel()
        expected, found = view.gradients(view.pixels(whole)), view.gradients(view.pixels(part), box)
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_an_implant_that_is_not_in_the_window_has_no_gradients(started):
    scene, T = started
    view, away = PlaneGradients(scene, "bs", SCALES[3], T), T.clone()
    away[..., :3, 3] += 300.0
    box, lengths = view.lengths_around("femur", away[:, :1])
    assert not lengths.any() and not view.gradients(view.pixels(lengths), box).any()
    nothing = box_of_lengths(view.lengths("femur", away[:, :1]), SCALES[3].rays)
    assert min(nothing.shape) > 0


_POLYNOMIALS = 10  # of the third order in two variables


@pytest.mark.parametrize("clipped", [False, True])
def test_products_with_polynomials_have_the_gradients_of_the_products(started, clipped):
    scene, T = started
    if clipped:
        scene = with_clipped(scene)
    view = PlaneGradients(scene, "bs", SCALES[3], T)
    through = torch.exp(-0.3 * view.pixels(view.lengths("femur", T[:, :1])))
    fields = torch.cat([view.light(one.expand(len(T), -1)) for one in torch.eye(_POLYNOMIALS)], dim=1)
    light, exact = view.fields(through)[:, :_POLYNOMIALS], view.gradients(fields * through)
    for n in range(exact.shape[1]):
        assert (light[:, n] - exact[:, n]).abs().amax() < 0.015 * exact[:, n].abs().amax()


def with_clipped(scene):
    views = {plane: [clipped_above(view) for view in of_plane] for plane, of_plane in scene.views.items()}
    return Scene(views, scene.implants, scene.device)


def clipped_above(view):
    clipped = np.zeros_like(view.clipped)
    clipped[: len(clipped) // 2] = True
    return replace(view, clipped=clipped)


def test_the_share_in_the_field_goes_from_all_to_nothing_as_the_intensifier_is_raised(rows, meshes):
    row = rows[0]
    T = transform(row["tibia"])
    implant = Implant(3, meshes[3])
    seen = rig_of(row)["fs"]
    shares = []
    for up_mm in (0, 100, 120, 140, 200):
        view = View.from_row(np.asarray(row["image_fs"]), raised(seen, up_mm).camera(512))
        shares.append(view.share_in_field(implant, T))
    assert shares[0] == 1 and shares[-1] == 0
    assert shares == sorted(shares, reverse=True) and 0 < shares[2] < 1
    behind = T.copy()
    behind[:3, 3] = 3 * seen.source_mm
    assert view.share_in_field(implant, behind) == 0
