"""The results of a training, and runs that resume from them."""

import importlib.util
import json
import math

import numpy as np
import pytest
import torch
import yaml
from datasets import load_dataset
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoConfig, AutoModel

from tests.training.conftest import STEPS
from tests.training.runs import TINY, run, settings_file, weights
from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseModel
from veriserum_hf.training.batches import collate, model_inputs, sample_of
from veriserum_hf.training.settings import parse_settings

SUMMARY = {"rotation_deg", "translation_mm", "mtre_mm", "add_s_mm", "reprojection_bs_px", "success_2mm_2deg"}


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_run_folder_holds_what_is_promised(trained):
    found = files_of(trained)
    published = {"config.json", "model.safetensors", "preprocessor_config.json"}
    state = {"model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json"}
    expected = published | {f"last/{name}" for name in published} | {"metrics.json", "training.yaml"}
    expected |= {f"checkpoints/step_{step:06d}/{name}" for step in (5, 10, 15) for name in state}
    assert {name for name in found if not name.startswith("tracking/")} == expected


def test_nothing_of_it_is_a_pickle(trained):
    for path in trained.rglob("*"):
        if path.is_file():
            assert path.suffix not in (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".npy")
            head = path.read_bytes()[:64]
            assert not head.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"))


def test_from_pretrained_loads_the_best_and_the_last(trained, dataset):
    row = load_dataset(str(dataset), split="test")[0]
    for folder in (trained, trained / "last"):
        model, processor = VeriserumPoseModel.from_pretrained(folder), VeriserumImageProcessor.from_pretrained(folder)
        assert model.config.image_size == processor.size == 128
        with torch.inference_mode():
            poses = model(**processor(row)).T_world_implant
        assert poses.shape == (1, 2, 4, 4) and poses.isfinite().all()
    assert torch.equal(weights(trained)["points_implant_mm"], weights(trained / "last")["points_implant_mm"])


def test_metrics_tell_the_best_validation_and_the_speed(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["validation"]["step"] in (8, STEPS)
    assert metrics["validation"].keys() >= SUMMARY
    assert metrics["validation"]["frames"] == 6
    assert metrics["speed"]["samples_per_s"] > 0 and 0 <= metrics["speed"]["waiting_share"] <= 1


def test_settings_beside_the_weights_repeat_the_run(trained, tmp_path):
    written = yaml.safe_load((trained / "training.yaml").read_text())
    assert TINY.items() <= written.items() and written["max_train_steps"] == STEPS
    run("train", "--config", trained / "training.yaml", "--output_dir", tmp_path / "again")
    for folder in ("", "last"):
        one, other = weights(trained / folder), weights(tmp_path / "again" / folder)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_tensorboard_shows_losses_and_errors(trained):
    found = EventAccumulator(str(trained / "tracking/veriserum")).Reload().Tags()["scalars"]
    assert {"train/loss", "train/rotation_deg", "validation/mtre_mm"} <= set(found)


@pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio_takes_the_same(config, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    tracked = ("--with_tracking", "--report_to", "trackio", "--max_train_steps", 2)
    run("train", "--config", config, "--dataset", dataset, "--output_dir", tmp_path / "run", *tracked)
    assert list((tmp_path / "trackio").rglob("*veriserum*"))


def test_evaluate_takes_the_run(trained, dataset):
    output, _ = run("evaluate", "--model", trained, "--dataset", dataset, "--split", "validation", "--json")
    overall = json.loads(output)["overall"]
    validation = json.loads((trained / "metrics.json").read_text())["validation"]
    for name in ("rotation_deg", "translation_mm", "mtre_mm"):
        assert overall[name]["median"] == pytest.approx(validation[name]["median"], rel=1e-3)


VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 8,
    "image_size": 64,
}
WAYS = {
    "pooled, no workers": ("--head", "pooled", "--num_workers", 0),
    "one plane, no average": ("--planes", "fs", "--ema_decay", 0),
    "a transformer in half precision, computed again": (
        *("--backbone_config", json.dumps(VIT), "--mixed_precision", "bf16"),
        *("--gradient_checkpointing", "--layer_decay", 0.7),
    ),
}


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
@pytest.mark.slow
def test_every_way_to_train(options, config, dataset, tmp_path):
    at = ("--dataset", dataset, "--output_dir", tmp_path / "run", "--max_train_steps", 4)
    run("train", "--config", config, *at, *options)
    best = json.loads((tmp_path / "run/metrics.json").read_text())["validation"]
    assert best["step"] == 4 and math.isfinite(best["mtre_mm"]["median"])
    model = VeriserumPoseModel.from_pretrained(tmp_path / "run")
    rows = load_dataset(str(dataset), split="test")
    inputs = model_inputs(collate([sample_of(row) for row in rows]))
    with torch.inference_mode():
        T = model(**inputs).T_world_implant
    assert T.dtype == torch.float64
    R = T[..., :3, :3].numpy()
    np.testing.assert_allclose(R @ R.swapaxes(-1, -2), np.broadcast_to(np.eye(3), R.shape), atol=1e-12)


@pytest.mark.slow
def test_a_pretrained_backbone_from_a_folder(config, dataset, tmp_path):
    fields = {name: value for name, value in TINY["backbone_config"].items() if name != "model_type"}
    torch.manual_seed(7)
    pretrained = AutoModel.from_config(AutoConfig.for_model("resnet", **fields))
    pretrained.save_pretrained(tmp_path / "backbone")
    file = settings_file(tmp_path / "config.yaml", backbone_config=None, backbone=str(tmp_path / "backbone"))
    slowly = ("--learning_rate", "1e-9", "--max_train_steps", 1)
    run("train", "--config", file, "--dataset", dataset, "--output_dir", tmp_path / "run", *slowly)
    found = weights(tmp_path / "run")
    name = "encoder.stages.1.layers.0.layer.0.convolution.weight"
    torch.testing.assert_close(found[f"backbone.model.{name}"], pretrained.state_dict()[name])
    stem = "embedder.embedder.convolution.weight"
    summed = pretrained.state_dict()[stem].sum(1, keepdim=True)
    torch.testing.assert_close(found[f"backbone.model.{stem}"], summed)
    # The folder may be gone when the model is used.
    (tmp_path / "backbone").rename(tmp_path / "elsewhere")
    VeriserumPoseModel.from_pretrained(tmp_path / "run")


def test_the_demo_configuration_is_one(dataset):
    settings = parse_settings(["--config", "training/configs/demo.yaml", "--dataset", str(dataset)])
    assert settings.optimization.learning_rate > 0 and settings.data.dataset == str(dataset)
