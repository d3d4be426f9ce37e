"""Half precision, kinds of attention, and export: geometry stays exact, and an exported model predicts the same."""

import re

import numpy as np
import pytest
import torch

from tests.modeling.frames import batch, model, without_labels
from tests.modeling.test_model import planes_of, predicted
from veriserum_hf.geometry.pose import angle_between_deg
from veriserum_hf.modeling import VeriserumPoseModel

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
EXACT = ("locator.", "heads.", "outputs.", "center_implant_mm", "points_implant_mm")


def differences(found, expected):
    """Largest rotation in degrees and shift in mm between two predictions."""
    one, other = (each.T_world_implant.numpy() for each in (found, expected))
    angles_deg = angle_between_deg(one[..., :3, :3], other[..., :3, :3])
    return angles_deg.max(), np.linalg.norm(one[..., :3, 3] - other[..., :3, 3], axis=-1).max()


def types(made):
    """Types of the tensors that stay exact, and of the others."""
    floating = {name: tensor.dtype for name, tensor in made.state_dict().items() if tensor.is_floating_point()}
    exact = {dtype for name, dtype in floating.items() if name.startswith(EXACT)}
    return exact, {dtype for name, dtype in floating.items() if not name.startswith(EXACT)}


@HALVES
@pytest.mark.parametrize(("family", "head"), [("resnet", "pooled"), ("vit", "spatial"), ("convnextv2", "spatial")])
def test_a_model_in_half_precision_predicts_almost_the_same(family, head, dtype, tmp_path):
    made, inputs = model(family, head=head), without_labels(batch(3))
    expected = predicted(made, inputs)
    made.save_pretrained(tmp_path)
    loaded = VeriserumPoseModel.from_pretrained(tmp_path, dtype=dtype)
    assert types(loaded) == ({torch.float32}, {dtype})
    assert torch.equal(loaded.points_implant_mm, made.points_implant_mm)
    found = predicted(loaded, inputs)
    assert found.T_world_implant.dtype == torch.float64
    angle_deg, shift_mm = differences(found, expected)
    assert angle_deg < 1.0 and shift_mm < 0.5


@HALVES
def test_a_checkpoint_that_was_saved_in_half_precision_is_loaded_so(dtype, tmp_path):
    made, inputs = model("vit"), without_labels(batch(3))
    points_mm = made.points_implant_mm.clone()
    made.to(dtype).save_pretrained(tmp_path)
    loaded = VeriserumPoseModel.from_pretrained(tmp_path)
    assert types(made) == types(loaded) == ({torch.float32}, {dtype})
    assert torch.equal(loaded.points_implant_mm, points_mm)
    assert differences(predicted(loaded, inputs), predicted(made, inputs)) == (0.0, 0.0)
    single = VeriserumPoseModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert types(single) == ({torch.float32}, {torch.float32})


def test_a_model_that_was_cast_learns():
    made = model("vit").bfloat16().train()
    made(**batch()).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters() if p.requires_grad)


def test_cameras_in_half_precision_are_refused():
    inputs = without_labels(batch(1))
    camera = {name: value.bfloat16() for name, value in inputs["camera_fs"].items()}
    message = (
        "intrinsics of camera_fs has the type torch.bfloat16, which is too coarse for lengths in mm: give cameras in "
        "float64, whatever the type of the model"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        predicted(model(), inputs | {"camera_fs": camera})


@pytest.mark.parametrize("family", ["vit", "dinov2", "dinov2_with_registers", "dinov3_vit", "swin"])
def test_every_kind_of_attention_predicts_the_same(family, tmp_path):
    inputs = without_labels(batch(2))
    model(family).save_pretrained(tmp_path)
    found = []
    for kind in ("eager", "sdpa"):
        made = VeriserumPoseModel.from_pretrained(tmp_path, attn_implementation=kind)
        assert made.backbone.model.config._attn_implementation == kind
        found.append(predicted(made, inputs))
    angle_deg, shift_mm = differences(*found)
    assert angle_deg < 1e-3 and shift_mm < 1e-3


def test_attention_that_a_backbone_does_not_have_is_refused_in_its_name(tmp_path):
    model("resnet").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="ResNetBackbone does not support an attention implementation"):
        VeriserumPoseModel.from_pretrained(tmp_path, attn_implementation="sdpa")


@pytest.mark.parametrize(("family", "head"), [("dinov2", "spatial"), ("vit", "pooled")])
def test_an_exported_model_predicts_the_same_for_any_number_of_frames(family, head):
    made, inputs = model(family, head=head).eval(), without_labels(batch(3))
    frames = torch.export.Dim("frames", min=2, max=64)
    shapes = {
        name: {key: {0: frames} for key in value} if isinstance(value, dict) else {0: frames}
        for name, value in inputs.items()
    }
    exported = torch.export.export(made, (), inputs, dynamic_shapes=shapes).module()
    other = without_labels(batch(5))
    for given in (inputs, other):
        expected = predicted(made, given)
        with torch.inference_mode():
            found = exported(**given)
        angle_deg, shift_mm = differences(found, expected)
        assert angle_deg < 1e-4 and shift_mm < 1e-4
        assert torch.equal(found.anatomy_id, expected.anatomy_id)
    other["anatomy_id"][1, 1] = 4  # which the model itself refuses
    with torch.inference_mode():
        T = exported(**other).T_world_implant
    assert T[1, 1].isnan().all() and T[1, 0].isfinite().all() and T[[0, 2, 3, 4]].isfinite().all()


def test_a_model_of_one_plane_is_exported_too():
    made, inputs = model(plane_dropout=0.1).eval(), planes_of(without_labels(batch(2)), "fs")
    exported = torch.export.export(made, (), inputs).module()
    with torch.inference_mode():
        assert max(differences(exported(**inputs), predicted(made, inputs))) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("head", "backend"), [("spatial", "aot_eager"), ("pooled", "inductor")])
def test_a_model_is_compiled_as_one_graph_for_use_and_for_training(head, backend):
    """With the default backend where that takes seconds, not minutes."""
    made = model(head=head, plane_dropout=0.0).eval()
    compiled = torch.compile(made, fullgraph=True, backend=backend)
    inputs = without_labels(batch(2))
    with torch.inference_mode():
        assert max(differences(compiled(**inputs), made(**inputs))) < 1e-4
        unknown = inputs | {"anatomy_id": torch.full((2, 2), 5)}  # without an error that would divide the graph
        assert compiled(**unknown).T_world_implant.isnan().all()
    torch.compile(made.train(), fullgraph=True, backend="aot_eager")(**batch(2)).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters() if parameter.grad is not None)
