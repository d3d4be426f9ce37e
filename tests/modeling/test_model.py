"""What the model predicts for frames, and its losses."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.modeling.frames import SIZE, batch, config, model, without_labels
from veriserum_hf.core.domain import PLANES
from veriserum_hf.geometry.pose import angle_between_deg
from veriserum_hf.modeling import VeriserumPoseModel, geometry_veriserum as geometry
from veriserum_hf.modeling.implants_veriserum import Shapes
from veriserum_hf.modeling.losses_veriserum import Prediction, pose_losses

STEADY = {"crop_jitter_px": 0.0, "plane_dropout": 0.0, "anatomy_dropout": 0.0}
heads = pytest.mark.parametrize("head", ["spatial", "pooled"])


def predicted(made, inputs):
    with torch.inference_mode():
        return made.eval()(**inputs)


def planes_of(inputs, *planes):
    return {name: value for name, value in inputs.items() if not name.endswith(("_bs", "_fs")) or name[-2:] in planes}


def assert_rigid(T):
    R = T[..., :3, :3]
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=T.dtype).expand_as(R), atol=1e-12, rtol=0)
    assert (torch.linalg.det(R) > 0).all()
    bottom = torch.tensor([0, 0, 0, 1], dtype=T.dtype)
    assert torch.equal(T[..., 3, :], bottom.expand_as(T[..., 3, :]))


@heads
def test_it_tells_a_rigid_pose_of_both_implants(head):
    found = predicted(model(head=head), without_labels(batch(3)))
    assert found.loss is None and found.losses is None
    assert found.T_world_implant.shape == (3, 2, 4, 4) and found.T_world_implant.dtype == torch.float64
    assert_rigid(found.T_world_implant)
    assert {plane: tuple(px.shape) for plane, px in found.center_px.items()} == {"bs": (3, 2, 2), "fs": (3, 2, 2)}
    assert torch.equal(found.anatomy_id, batch(3)["anatomy_id"])
    if head == "pooled":
        assert found.confidence.isnan().all()
    else:
        assert ((found.confidence > 0) & (found.confidence < 1)).all()


def test_the_place_is_where_the_rays_through_both_centres_meet():
    made = model()
    made.center_implant_mm.copy_(torch.tensor([[3.0, -4.0, 5.0], [0, 0, 0], [1, 1, 1]]))
    inputs = without_labels(batch(3))
    found = predicted(made, inputs)
    px = torch.stack([found.center_px[plane] for plane in PLANES], dim=2)
    intrinsics, world_to_camera = (
        torch.stack([inputs[f"camera_{plane}"][name] for plane in PLANES], dim=1)[:, None]
        for name in ("intrinsics", "world_to_camera")
    )
    meeting_mm = geometry.triangulate(px, intrinsics, world_to_camera)
    center_mm = made.center_implant_mm[torch.tensor([[0, 1], [0, 2], [0, 1]])].double()
    T = found.T_world_implant
    of_pose_mm = (T[..., :3, :3] @ center_mm[..., None])[..., 0] + T[..., :3, 3]
    torch.testing.assert_close(of_pose_mm, meeting_mm, atol=1e-9, rtol=0)


@heads
def test_the_prediction_of_a_frame_does_not_depend_on_its_batch(head):
    made, inputs = model(head=head), without_labels(batch(4))
    together = predicted(made, inputs).T_world_implant
    for frame in range(4):
        pick = slice(frame, frame + 1)
        alone = {
            name: {key: tensor[pick] for key, tensor in value.items()} if isinstance(value, dict) else value[pick]
            for name, value in inputs.items()
        }
        torch.testing.assert_close(predicted(made, alone).T_world_implant, together[pick], atol=1e-3, rtol=0)


@heads
@pytest.mark.parametrize(
    ("gain", "offset"), [(1.0, 40.0), (3.5, 0.0), (1 / 255, 0.0), (2 / 255, -1.0), (200.0, 900.0)]
)
def test_gain_and_offset_of_the_images_mean_nothing(head, gain, offset):
    made, inputs = model(head=head), without_labels(batch(3))
    expected = predicted(made, inputs).T_world_implant
    for plane in PLANES:
        inputs[f"image_{plane}"] = inputs[f"image_{plane}"].float() * gain + offset
    torch.testing.assert_close(predicted(made, inputs).T_world_implant, expected, atol=5e-3, rtol=0)


@pytest.mark.parametrize("plane", PLANES)
def test_one_plane_will_do_for_a_model_that_was_trained_so(plane):
    made, inputs = model(plane_dropout=0.1), without_labels(batch(3))
    found = predicted(made, planes_of(inputs, plane))
    assert list(found.center_px) == [plane]
    assert_rigid(found.T_world_implant)
    # The centre lies on the ray of the plane that was seen.
    camera = inputs[f"camera_{plane}"]
    px = geometry.project(found.T_world_implant[..., :3, 3], camera["intrinsics"], camera["world_to_camera"])
    torch.testing.assert_close(px, found.center_px[plane], atol=1e-9, rtol=0)


def test_a_plane_that_is_hidden_has_no_influence():
    made, inputs = model(planes=["bs"]), without_labels(batch(3))
    found = predicted(made, inputs)
    assert list(found.center_px) == ["bs"]
    assert torch.equal(found.T_world_implant, predicted(made, planes_of(inputs, "bs")).T_world_implant)


@pytest.mark.parametrize("planes", [["bs"], ["fs"], ["bs", "fs"]])
@heads
def test_it_learns_from_any_planes(head, planes):
    made = model(head=head, planes=planes).train()
    made(**batch()).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters() if p.requires_grad)


@pytest.mark.parametrize("plane", PLANES)
def test_a_model_of_two_planes_learns_from_frames_of_one(plane):
    made = model(plane_dropout=0.1).train()
    made(**planes_of(batch(), plane)).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters() if p.requires_grad)


def test_an_implant_that_is_not_named_is_recognised_among_those_of_its_component():
    made, inputs = model(), without_labels(batch(8))
    for unknown in (None, torch.full((8, 2), -1)):
        found = predicted(made, inputs | {"anatomy_id": unknown})
        assert set(found.anatomy_id[:, 0].tolist()) == {3}
        assert set(found.anatomy_id[:, 1].tolist()) <= {7, 9}
    half = inputs["anatomy_id"].clone()
    half[:, 0] = -1
    assert torch.equal(predicted(made, inputs | {"anatomy_id": half}).anatomy_id, inputs["anatomy_id"])


def test_a_pooled_head_invents_no_identity():
    made, inputs = model(head="pooled"), without_labels(batch(3))
    inputs["anatomy_id"][:, 0] = -1
    found = predicted(made, inputs)
    assert torch.equal(found.anatomy_id, inputs["anatomy_id"]) and found.center_px["bs"].isfinite().all()
    assert (predicted(made, inputs | {"anatomy_id": None}).anatomy_id == -1).all()


@heads
def test_losses_are_errors_of_the_implants_that_have_a_label(head):
    made, inputs = model(head=head, **STEADY), batch(3)
    inputs["labels"][1, 1] = torch.nan
    inputs["labels"][2, 0] = torch.nan
    found = predicted(made, inputs)
    T, label = found.T_world_implant.numpy(), inputs["labels"].numpy()
    points = made.points_implant_mm[torch.tensor([[0, 1], [0, 2], [0, 1]])].double().numpy()
    angles_deg, distances_mm = [], []
    for frame, implant in ((0, 0), (0, 1), (1, 0), (2, 1)):
        one, other, on_it = T[frame, implant], label[frame, implant], points[frame, implant]
        angles_deg.append(float(angle_between_deg(one[:3, :3], other[:3, :3])))
        moved = on_it @ (one[:3, :3] - other[:3, :3]).T + one[:3, 3] - other[:3, 3]
        distances_mm.append(np.linalg.norm(moved, axis=1).mean())
    assert float(found.losses["rotation_deg"]) == pytest.approx(np.mean(angles_deg), abs=1e-4)
    assert float(found.losses["point_mm"]) == pytest.approx(np.mean(distances_mm), abs=1e-6)
    assert torch.equal(found.loss, found.losses["loss"])


@heads
@pytest.mark.parametrize("missing", [(0,), (1,), (0, 1)])
def test_a_label_that_is_missing_leaves_gradients_finite(head, missing):
    made, inputs = model(head=head).train(), batch(3)
    for implant in missing:
        inputs["labels"][:, implant] = torch.nan
        inputs["anatomy_id"][:, implant] = -1
    loss = made(**inputs).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters() if p.requires_grad)


def test_a_perfect_prediction_costs_nothing():
    made, inputs = model(), batch(4)
    labels = inputs["labels"]
    anatomy = torch.tensor([[0, 1], [0, 2], [0, 1], [0, 2]])
    cameras = tuple(
        torch.stack([inputs[f"camera_{plane}"][name] for plane in PLANES], dim=1)
        for name in ("intrinsics", "world_to_camera")
    )
    shapes = Shapes(made.center_implant_mm[anatomy], made.points_implant_mm[anatomy])
    center_mm = shapes.centers_mm(labels)
    perfect = Prediction(
        T_world_implant=labels,
        center_mm=center_mm,
        center_px=geometry.project(center_mm[:, None], *cameras),
        cameras=cameras,
        shown=torch.ones(4, 2, dtype=torch.bool),
        confidence=torch.full((4, 2), torch.nan),
        anatomy=anatomy,
    )
    for name, value in pose_losses(perfect, labels, shapes, SIZE).items():
        assert float(value) == pytest.approx(0, abs=1e-5), name
    off = labels.clone()
    off[..., 0, 3] += 1.0
    assert float(pose_losses(replace(perfect, T_world_implant=off), labels, shapes, SIZE)["point_mm"]) == (
        pytest.approx(1, abs=1e-6)
    )


def test_half_precision_stays_in_the_backbone():
    made, inputs = model("convnext", **STEADY).train(), batch(4)  # with labels, so that crops are the same
    expected = made(**inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = made(**inputs)
    assert found.T_world_implant.dtype == torch.float64
    assert_rigid(found.T_world_implant)
    angles_deg = angle_between_deg(
        found.T_world_implant[..., :3, :3].detach().numpy(), expected.T_world_implant[..., :3, :3].detach().numpy()
    )
    assert angles_deg.max() < 1.0
    for plane in PLANES:
        torch.testing.assert_close(found.center_px[plane], expected.center_px[plane], atol=0.1, rtol=0)


def test_images_of_another_size_are_refused():
    message = re.escape(
        f"image_bs must have shape (frames, 1, {SIZE}, {SIZE}), which this model was trained on, got (3, 1, 32, 32); "
        f"convert the data set with --size {SIZE}"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        predicted(model(), without_labels(batch(size=32)))


def test_a_plane_that_is_needed_is_requested():
    inputs = without_labels(batch())
    needs = "this model needs image_bs and image_fs, got "
    for made, planes, message in [
        (model(plane_dropout=0.0), ("bs",), f"{needs}image_bs; one plane suffices for a model that was trained with"),
        (model(), (), f"{needs}none of them"),
        (model(head="pooled"), ("fs",), "a pooled head sees both planes as channels of one image and needs both"),
        (model(planes=["fs"]), ("bs",), "this model needs image_fs, got none of them"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            predicted(made, planes_of(inputs, *planes))
    with pytest.raises(ValueError, match="image_fs has no camera_fs: a row's own camera is needed for lengths in mm"):
        predicted(model(), inputs | {"camera_fs": None})


def test_implants_that_the_model_does_not_know_are_refused():
    inputs = without_labels(batch())
    for ids, strange in (([[3, 7], [3, 4], [-1, -1]], "tibia 4"), ([[7, 3], [3, 7], [3, 7]], "femur 7")):
        message = (
            f"this model knows femur 3, tibia 7, tibia 9, got anatomy_id of {strange}; pass -1 for an implant whose "
            "identity is unknown"
        )
        with pytest.raises(ValueError, match=f"^{message}$"):
            predicted(model(), inputs | {"anatomy_id": torch.tensor(ids)})


def test_a_label_of_an_implant_without_a_name_is_refused():
    inputs = batch()
    inputs["anatomy_id"][0, 0] = -1
    with pytest.raises(ValueError, match="a pose can only be learned of an implant that is known: give anatomy_id"):
        model()(**inputs)


@pytest.mark.parametrize("anatomies", [[], [{"id": 3, "component": "femur"}]])
def test_a_model_needs_implants_of_both_components(anatomies):
    message = f"a model needs at least one anatomy of each component, femur and tibia, got anatomies {anatomies}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VeriserumPoseModel(config(anatomies=anatomies))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"head": "vague"}, "head must be spatial or pooled, got 'vague'"),
        ({"planes": ["bs", "bs"]}, "planes must be some of bs, fs, each once; got ['bs', 'bs']"),
        ({"planes": ["xs"]}, "planes must be some of bs, fs, each once; got ['xs']"),
        (
            {"anatomies": [{"id": 1, "component": "patella"}]},
            "an anatomy needs an id and a component of femur and tibi",
        ),
        ({"anatomies": [{"component": "femur"}]}, "an anatomy needs an id and a component of femur and tibia"),
        ({"crop_size": 0}, "crop_size must be at least 1, got 0"),
        ({"plane_dropout": 1.0}, "plane_dropout must be at least 0 and less than 1, got 1.0"),
        ({"anatomy_dropout": -0.1}, "anatomy_dropout must be at least 0 and less than 1, got -0.1"),
        ({"crop_jitter_px": -1.0}, "crop_jitter_px must be at least 0, got -1.0"),
    ],
)
def test_invalid_settings(changed, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        config(**changed)
