"""A user's error is one message that names the way out."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from tests.fixtures.archives import write_archive
from tests.training.processes import ROOT
from tests.training.runs import TINY, run, settings_file
from veriserum_hf.dataset.export import convert_archive
from veriserum_hf.dataset.open import open_rows
from veriserum_hf.errors import TrainingError
from veriserum_hf.training.settings import parse_settings


def parse(*options):
    return parse_settings(["--dataset", "OUT", *map(str, options)])


def test_options_count_more_than_the_file(tmp_path):
    file = settings_file(tmp_path / "f.yaml", batch_size=4, planes=["fs"], streaming=True, max_train_steps=None)
    settings = parse("--config", file, "--batch_size", 2, "--streaming", "false")
    assert settings.optimization.batch_size == 2 and not settings.data.streaming
    assert settings.model.planes == ["fs"] and settings.optimization.max_train_steps is None
    assert settings.model.backbone_config == TINY["backbone_config"] and settings.data.augmentation == {}


def test_every_setting_goes_through_a_file_and_back(config, tmp_path):
    settings = parse("--config", config, "--planes", "bs", "--learning_rate", "3e-4", "--with_tracking")
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(settings.as_flat()))
    assert parse_settings(["--config", str(tmp_path / "again.yaml")]) == settings


def test_a_file_is_checked_like_options(tmp_path, capsys):
    for changed, message in [
        ({"head": "vague"}, "argument --head: invalid choice: 'vague'"),
        ({"batch_size": 2.5}, "argument --batch_size: invalid int value: '2.5'"),
        ({"learning_rate": "fast"}, "argument --learning_rate: invalid float value: 'fast'"),
    ]:
        with pytest.raises(SystemExit):
            parse("--config", settings_file(tmp_path / "f.yaml", **changed))
        assert message in capsys.readouterr().err


def test_an_option_that_is_none(refused):
    assert "no such option: --learningrate 1; did you mean --learning_rate?" in refused("--learningrate", 1)
    assert "no such option: --qqq" in refused("--qqq")
    assert "usage: " in refused("--batch_size", "many")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seed", -1), "seed must be at least 0, got -1"),
        (("--prefetch_factor", 0), "prefetch_factor must be at least 1, got 0"),
        (("--batch_size", 0), "batch_size must be at least 1, got 0"),
        (("--max_train_steps", 0), "max_train_steps must be at least 1, got 0"),
        (("--learning_rate", -1), "learning_rate must be above 0, got -1.0"),
        (("--learning_rate", "nan"), "learning_rate must be above 0, got nan"),
        (("--max_grad_norm", 0), "max_grad_norm must be above 0, got 0.0"),
        (("--layer_decay", 1.5), "ema_decay must be at least 0 and less than 1, layer_decay above 0 and at most 1"),
        (("--eval_steps", 0), "eval_steps must be at least 1, got 0"),
        (("--shuffle_buffer", -1), "shuffle_buffer must be at least 0, got -1"),
        (("--size", 5000), "size must be from 32 to 1600 px, got 5000"),
        (("--pairs", 11), "pairs must be from 1 to 10, got 11"),
        (("--augmentation", "strong"), "augmentation must be JSON, such as"),
        (("--augmentation", "[1]"), "augmentation must be a JSON object, got [1]"),
        (("--push_to_hub",), "push_to_hub needs hub_model_id as ORG/NAME, got None"),
        (
            ("--backbone", "a/b"),
            "give model (to fine-tune one), or either backbone (pretrained, such as facebook",
        ),
        (("--backbone_config", '{"model_type": "resnett"}'), "transformers has no model_type 'resnett'; expected a"),
        (("--backbone_config", '{"depths": [1]}'), "backbone_config: transformers has no model_type 'None'"),
        (
            ("--backbone_config", '{"model_type": "resnet", "depth": 3}'),
            "backbone_config: resnet has no depth; it has",
        ),
    ],
)
def test_invalid_values(options, message, config):
    with pytest.raises(TrainingError, match=re.escape(message)):
        parse("--config", config, *options)


def test_no_data_and_no_backbone(config):
    with pytest.raises(TrainingError, match=r"^no data: give --dataset a folder that `veriserum convert` made"):
        parse_settings(["--config", str(config)])
    with pytest.raises(TrainingError, match=r"with random weights\), got neither"):
        parse()


def test_a_file_that_is_none(tmp_path):
    file = tmp_path / "settings.yaml"
    with pytest.raises(TrainingError, match=f"cannot read the configuration {file}: "):
        parse("--config", file)
    file.write_text("learning_rate: [1")
    with pytest.raises(TrainingError, match=f"cannot read the configuration {file}: "):
        parse("--config", file)
    file.write_text("learning_rat: 1.0e-3")
    with pytest.raises(
        TrainingError, match=f"{file} holds no such settings: learning_rat; the settings are anatomy_"
    ):
        parse("--config", file)
    file.write_text("- 1")
    with pytest.raises(TrainingError, match=f"{file} holds no such settings: list"):
        parse("--config", file)


def test_help_lists_every_setting():
    output, _ = run("train", "--help")
    assert output.startswith("usage: train.py --config FILE --dataset DIR --output_dir RUN")
    for name in (*TINY, "resume_from_checkpoint", "mixed_precision", "with_tracking"):
        assert f"  --{name} " in output
    assert "--batch-size" not in output


def test_help_explains_the_command_line_and_the_folder_of_the_run():
    output, _ = run("train", "--help")
    assert "    accelerate launch -m veriserum_hf.training.train --config FILE.yaml --dataset OUT" in output
    assert "In the end RUN holds the best checkpoint" in output


def test_an_empty_split(tmp_path):
    archive = write_archive(tmp_path / "archive", trials=1, frames_per_trial=1, frame_size=(208, 200))
    convert_archive(archive.root, tmp_path / "out", workers=1)
    empty = {
        split
        for split in ("train", "validation", "test")
        if not list((tmp_path / "out").glob(f"*/{split}-*.parquet"))
    }
    splits = json.loads((tmp_path / "out/splits.json").read_text())
    assert empty, splits
    with pytest.raises(TrainingError, match=r"validation of .* convert"):
        open_rows(str(tmp_path / "out"), "calibrated", split="validation")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dataset", "no/where"), "cannot load the split train of no/where anatomies: "),
        (("--dataset_config_name", "raww"), "cannot load the split train of "),
        (("--dataset_config_name", "anatomies"), "expected rows with corrected images, cameras and poses, got the"),
        (("--batch_size", 64), "the training split has 48 frames, fewer than batches of 64 for 1 processes need"),
        (("--head", "pooled", "--gradient_checkpointing"), "the backbone resnet cannot compute activations again"),
        (("--backbone_config", '{"model_type": "bert"}'), "cannot make the model: 'bert' is not a vision backbone"),
        (("--augmentation", '{"shift": 3}'), "augmentation: "),
        (("--mixed_precision", "fp16"), "mixed_precision fp16 needs a GPU; use bf16, or no"),
        (("--planes", "xs"), "cannot make the model: planes must be some of bs, fs, each once; got ['xs']"),
        (("--streaming",), "these data have no end: limit the training with --max_train_steps"),
        (("--data", "simulated:on-the-fly"), "are rendered one by one, neither streamed nor augmented: remove"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_run_that_cannot_begin(options, message, refused, dataset, tmp_path):
    errors = refused("--dataset", dataset, "--output_dir", tmp_path / "run", *options)
    assert "error: " in errors and message in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--size", 128, "--pairs", 1), "the data set shows tibia"),
        (("--streaming",), "are rendered one by one, neither streamed nor augmented"),
    ],
)
def test_a_run_on_frames_that_are_rendered_that_cannot_begin(options, message, refused, dataset, tmp_path):
    file = settings_file(tmp_path / "f.yaml", augmentation=None)
    rendered = ("--config", file, "--data", "simulated:on-the-fly")
    assert message in refused("--dataset", dataset, "--output_dir", tmp_path / "run", *rendered, *options)
    assert not (tmp_path / "run").exists()


def test_workers_are_free_where_each_frame_is_loaded_alike():
    backbone = ("--backbone_config", '{"model_type": "resnet"}')
    assert not {"num_workers", "prefetch_factor"} & parse(*backbone).resume_invariants().keys()
    assert parse(*backbone, "--streaming", "--num_workers", 3).resume_invariants()["num_workers"] == 3


@pytest.mark.parametrize("script", ["train", "evaluate"])
def test_the_error_names_what_has_to_be_installed(script):
    start = f"import runpy, sys; sys.modules['torch'] = None; runpy.run_path('training/{script}.py')"
    done = subprocess.run([sys.executable, "-c", start], cwd=ROOT, check=False, capture_output=True, text=True)
    message = 'ImportError: training needs torch, accelerate and transformers: pip install "veriserum-hf[train]"'
    assert done.stderr.strip().splitlines()[-1] == message


def test_a_message_is_one_line_and_the_status_2(config, tmp_path):
    file = settings_file(
        tmp_path / "f.yaml", augmentation=None, backbone_config=None, backbone=str(tmp_path / "nothing")
    )
    options = ("--config", file, "--data", "simulated:on-the-fly", "--max_train_steps", 1)
    output, errors = run("train", *options, "--output_dir", tmp_path / "run", status=2)
    assert output == "" and len(errors.strip().splitlines()) == 1
    assert errors.startswith(f"error: cannot make the model: no backbone '{tmp_path}/nothing'")
