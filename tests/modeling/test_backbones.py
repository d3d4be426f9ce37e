"""Every family of backbones: features in their place, gradients everywhere, grey images as colour ones."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, BertConfig

from tests.modeling.frames import BACKBONES, batch, config, model
from veriserum_hf.modeling import VeriserumPoseModel
from veriserum_hf.modeling.backbone_veriserum import FeatureMap, load_backbone
from veriserum_hf.training.optimization import parameter_groups

families = pytest.mark.parametrize("family", BACKBONES)


def features(backbone, images):
    with torch.inference_mode():
        return backbone.eval()(images)


@families
@pytest.mark.parametrize("head", ["spatial", "pooled"])
def test_a_training_step_reaches_every_weight(family, head):
    """Several processes wait for the gradient of every weight that can be trained."""
    made = model(family, head=head).train()
    loss = made(**batch()).loss
    assert loss.isfinite()
    loss.backward()
    trained = {name: parameter.grad for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert [name for name, gradient in trained.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in trained.values())
    stem = next(name for name in trained if name.startswith("backbone.") and trained[name].ndim == 4)
    assert trained[stem].abs().max() > 0


@families
def test_features_keep_their_place(family):
    """What changes in one corner of an image changes the features of that corner most."""
    torch.manual_seed(0)
    backbone = FeatureMap(config(family).backbone_config)
    images = torch.randn(1, 1, 96, 96)
    changed = images.clone()
    changed[..., :24, 72:] += torch.randn(24, 24)
    change = (features(backbone, changed) - features(backbone, images)).abs().sum(1)[0]
    rows, columns = change.shape
    assert rows == columns and rows > 1
    peak = int(change.argmax())
    assert peak // columns < rows / 2 and peak % columns >= columns / 2


@families
def test_a_pretrained_stem_of_three_colours_sees_grey_as_it_saw_it(family, tmp_path):
    torch.manual_seed(0)
    original = FeatureMap(AutoConfig.for_model(family, **BACKBONES[family]), channels=3)
    original.model.save_pretrained(tmp_path)
    loaded = FeatureMap(original.model.config, model=load_backbone(str(tmp_path)))
    grey = torch.rand(2, 1, 32, 32)
    expected = features(original, grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(features(loaded, grey), expected, atol=1e-5, rtol=1e-4)
    both = FeatureMap(original.model.config, model=load_backbone(str(tmp_path), channels=2))
    torch.testing.assert_close(features(both, grey.expand(-1, 2, -1, -1)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", [name for name in BACKBONES if not name.startswith("dinov3")])
def test_a_classifier_of_images_gives_its_backbone(family, tmp_path):
    """That is what most checkpoints on the hub are."""
    torch.manual_seed(0)
    classifier = AutoModelForImageClassification.from_config(AutoConfig.for_model(family, **BACKBONES[family]))
    classifier.save_pretrained(tmp_path)
    found = dict(load_backbone(str(tmp_path)).named_parameters())
    saved = classifier.state_dict()
    same = [
        name
        for name, tensor in saved.items()
        for key in found
        if name.endswith(key) and found[key].shape == tensor.shape and torch.equal(found[key], tensor)
    ]
    assert len(same) > len(found) / 2


def test_half_precision_becomes_single(tmp_path):
    AutoModel.from_config(config("convnext").backbone_config).bfloat16().save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in load_backbone(str(tmp_path)).parameters()} == {torch.float32}


def test_a_checkpoint_without_the_weights_is_refused(tmp_path):
    AutoModel.from_config(config("resnet").backbone_config).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    some = {name: tensor for name, tensor in weights.items() if "stages.1" not in name}
    save_file(some, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"not hold the weights of a resnet: encoder\.stages\.1\..* are missing"):
        load_backbone(str(tmp_path))


def test_no_backbone_of_that_name():
    with pytest.raises(ValueError, match=r"no backbone 'nobody/nothing': .* Expected the id of a vision model"):
        load_backbone("nobody/nothing")


def test_a_model_of_text_is_no_backbone(tmp_path):
    with pytest.raises(ValueError, match="'bert' is not a vision backbone: expected convnext"):
        FeatureMap(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2))


@pytest.mark.parametrize("family", ["vit", "dinov2", "dinov2_with_registers", "dinov3_vit", "swin"])
def test_activations_that_are_computed_again_give_the_same_gradients(family):
    made = model(family, crop_jitter_px=0.0, plane_dropout=0.0, anatomy_dropout=0.0).train()
    gradients = []
    for again in (False, True):
        if again:
            made.gradient_checkpointing_enable()
        made.zero_grad()
        torch.manual_seed(1)  # of the layers that some backbones leave out in training
        made(**batch()).loss.backward()
        gradients.append([p.grad.clone() for p in made.parameters() if p.requires_grad])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("family", ["resnet", "convnextv2"])
def test_a_backbone_that_cannot_compute_activations_again_says_so(family):
    with pytest.raises(ValueError, match=f"{family} cannot compute activations again"):
        model(family).gradient_checkpointing_enable()


@families
def test_layers_learn_the_slower_the_nearer_they_are_to_the_image(family):
    made = model(family)
    groups = parameter_groups(made, 1e-3, 0.05, 0.5)
    rate = {id(tensor): group["lr"] for group in groups for tensor in group["params"]}
    rates = [rate[id(p)] for n, p in made.named_parameters() if n.startswith("backbone.") and p.requires_grad]
    assert len(set(rates)) > 2
    assert rates == sorted(rates) and rates[-1] <= 0.5e-3
    heads = {rate[id(p)] for n, p in made.named_parameters() if not n.startswith("backbone.")}
    assert heads == {1e-3}
    stem = next(p for n, p in made.named_parameters() if n.startswith("backbone.") and p.ndim == 4)
    assert rate[id(stem)] == min(rates)


def test_biases_and_norms_do_not_decay():
    made = model("convnext")
    groups = parameter_groups(made, 1e-3, 0.05, 1.0)
    decay = {id(tensor): group["weight_decay"] for group in groups for tensor in group["params"]}
    for module in made.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias" or isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                assert decay[id(parameter)] == 0
    assert decay[id(made.narrow.weight)] == 0.05


def test_a_given_backbone_is_the_models(tmp_path):
    torch.manual_seed(0)
    AutoModel.from_config(config("convnext").backbone_config).save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path))
    fields = config("convnext").to_dict() | {"backbone_config": backbone.config}
    made = VeriserumPoseModel(config("convnext").__class__(**fields), backbone)
    assert made.backbone.model is backbone
    saved = load_file(tmp_path / "model.safetensors")["encoder.stages.0.layers.0.dwconv.weight"]
    assert torch.equal(made.backbone.model.encoder.stages[0].layers[0].dwconv.weight, saved)
