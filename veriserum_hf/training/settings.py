"""Settings of a training run: dataclasses, filled from a YAML file and the command line."""

import difflib
import json
import math
from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml
from transformers import CONFIG_MAPPING, HfArgumentParser

from veriserum_hf.core import PLANES, load_plain_yaml, read_text
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import NATIVE_SIZE
from veriserum_hf.jobs import write_file
from veriserum_hf.simulation import PAIRS, WorldRanges

TRUST_STEP = 40  # frames
ON_THE_FLY = "simulated:on-the-fly"
Json = dict[str, Any]  # arguments by name, which are checked where they are used


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class DataSettings:
    """Training data."""

    dataset: str | None = _option(None, "Folder that `veriserum convert` made, or a data set on the hub.")
    dataset_config_name: str = _option("calibrated", "Its configuration: calibrated, target or simulated.")
    data: Literal["dataset", "simulated:on-the-fly"] = _option(
        "dataset", "Where training frames come from; on the fly they are rendered on the device that trains."
    )
    streaming: bool = _option(False, "Read the data set as a stream, shard by shard.")
    shuffle_buffer: int = _option(512, "Frames of a stream among which the next one is drawn.")
    num_workers: int = _option(1, "Processes a training process decodes and augments frames with.")
    cache: str | None = _option(
        None, "Folder for decoded images, which are stored there once and used by every later training."
    )
    prefetch_factor: int = _option(2, "Batches that each of these processes has ready in advance.")
    augmentation: Json | str | None = field(
        default=None,
        metadata={"help": "Strengths by name, as JSON, see `veriserum_hf.training.augment`; none if not given."},
    )
    pairs: int = _option(10, "Implant pairs of frames that are simulated on the fly.")
    size: int = _option(512, "Edge of images that are simulated on the fly, px.")
    reuse: int = _option(1, "Batches that are drawn from recent frames for each one that is rendered on the fly.")
    worlds: Json | str | None = field(
        default=None,
        metadata={
            "help": "Ranges of randomised worlds by name, as JSON, {} for all defaults, see "
            "`veriserum_hf.simulation.WorldRanges`; if not given, frames are those of `veriserum simulate`."
        },
    )

    def __post_init__(self) -> None:
        self.augmentation = _mapping("augmentation", self.augmentation)
        self.worlds = _mapping("worlds", self.worlds)
        if self.dataset is None and self.data != ON_THE_FLY:
            raise TrainingError(
                "no data: give --dataset a folder that `veriserum convert` made or a data set on the hub, or "
                f"--data {ON_THE_FLY}"
            )
        if self.data == ON_THE_FLY and (self.augmentation is not None or self.streaming):
            raise TrainingError(
                f"frames of --data {ON_THE_FLY} are rendered one by one, neither streamed nor augmented: remove "
                "augmentation and streaming from the settings"
            )
        if self.cache is not None and (self.data == ON_THE_FLY or self.streaming):
            raise TrainingError(
                "a cache is of a data set with random access, neither streamed nor rendered on the fly: remove cache "
                "from the settings, or streaming and data"
            )
        if self.reuse > 1 and self.data != ON_THE_FLY:
            raise TrainingError(
                f"reuse is of frames that are rendered: give --data {ON_THE_FLY}, or remove reuse from the settings"
            )
        if self.worlds is not None and self.data != ON_THE_FLY:
            raise TrainingError(
                f"worlds are of frames that are rendered: give --data {ON_THE_FLY}, or remove worlds from the "
                "settings"
            )
        self.world_ranges()
        _check_range(self, shuffle_buffer=0, num_workers=0, prefetch_factor=1, reuse=1)
        if not 32 <= self.size <= NATIVE_SIZE:
            raise TrainingError(f"size must be from 32 to {NATIVE_SIZE} px, got {self.size}")
        if not 1 <= self.pairs <= PAIRS:
            raise TrainingError(f"pairs must be from 1 to {PAIRS}, got {self.pairs}")

    def world_ranges(self) -> WorldRanges | None:
        """Ranges of randomised worlds; None without. TrainingError where they are invalid."""
        if not isinstance(self.worlds, dict):  # None: what was JSON has been read
            return None
        try:
            return WorldRanges.of(self.worlds)
        except ValueError as error:
            raise TrainingError(f"worlds: {error}") from error


@dataclass
class ModelSettings:
    """The model; see `VeriserumPoseConfig`."""

    model: str | None = _option(
        None,
        "Fine-tune this model: a released checkpoint, a run, or one on the hub. Its own shape and size of images "
        "count, whatever the other settings are; planes, refinements, dropout and jitter may be others.",
    )
    backbone: str | None = _option(None, "Pretrained vision backbone: an id on the hub, or a folder.")
    backbone_config: Json | str | None = field(
        default=None,
        metadata={"help": "A backbone with random weights instead: its configuration with its model_type, as JSON."},
    )
    head: Literal["spatial", "pooled"] = _option("spatial", "Pooled is the baseline of the data set's authors.")
    planes: list[str] = field(
        default_factory=lambda: list(PLANES), metadata={"help": "Planes that the model uses: bs, fs, or both."}
    )
    implants: Literal["table", "mesh"] = _option(
        "table", "A closed set by ids, or any implants whose meshes the model is given."
    )
    crop_size: int = _option(160, "Edge of the crops around the implants, px of the stored images.")
    map_channels: int = _option(32, "Channels that a crop's features are narrowed to.")
    map_size: int = _option(8, "Cells along an edge of a crop's map of features.")
    hidden_size: int = _option(256, "Width of the head.")
    refinements: int = _option(3, "With meshes: how often a pose is refined by the points of its implant.")
    crop_jitter_px: float = _option(6.0, "Standard deviation by which crops miss the implant in training, px.")
    plane_dropout: float = _option(0.1, "Share of training frames in which one of the planes is hidden.")
    anatomy_dropout: float = _option(0.1, "Share of implants whose identity is hidden in training.")

    def __post_init__(self) -> None:
        self.backbone_config = _mapping("backbone_config", self.backbone_config)
        if self.model is None and (self.backbone is None) == (self.backbone_config is None):
            raise TrainingError(
                "give model (to fine-tune one), or either backbone (pretrained, such as "
                "facebook/convnextv2-tiny-1k-224) or backbone_config (with random weights), got "
                f"{'neither' if self.backbone is None else 'both'}"
            )
        if self.backbone_config is not None:
            _check_backbone(self.backbone_config)

    def model_configuration(self) -> Json:
        """What goes into the model's configuration unchanged."""
        names = [f.name for f in fields(self) if f.name not in ("model", "backbone", "backbone_config")]
        return {name: getattr(self, name) for name in names}


@dataclass
class OptimizationSettings:
    """Optimisation."""

    max_train_steps: int | None = _option(None, "Optimiser steps; else num_train_epochs decides.")
    num_train_epochs: int = _option(50, "Passes over the training split.")
    batch_size: int = _option(32, "Frames of one process and step.")
    gradient_accumulation_steps: int = _option(1, "Batches an optimiser step is made from.")
    learning_rate: float = _option(1e-3, "Highest learning rate, of the head.")
    layer_decay: float = _option(1.0, "Factor on the learning rate from each layer of the backbone to the one below.")
    weight_decay: float = _option(0.05, "Of AdamW; biases and norms are excluded.")
    warmup_steps: int = _option(50, "Steps in which the learning rate rises; it then falls as a cosine.")
    max_grad_norm: float = _option(50.0, "Gradients are clipped to this norm.")
    ema_decay: float = _option(0.99, "Of the average of weights that is evaluated and published; 0 for none.")
    mixed_precision: Literal["no", "fp16", "bf16"] = _option("no", "Precision of the backbone.")
    gradient_checkpointing: bool = _option(False, "Compute activations again instead of keeping them.")
    seed: int = _option(0, "Of weights, order and augmentation.")

    def __post_init__(self) -> None:
        _check_range(self, num_train_epochs=1, batch_size=1, gradient_accumulation_steps=1, max_train_steps=1)
        _check_range(self, weight_decay=0, warmup_steps=0, seed=0)
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1 or not 0 < self.layer_decay <= 1:
            raise TrainingError("ema_decay must be at least 0 and less than 1, layer_decay above 0 and at most 1")

    def steps_of(self, batches: int | None) -> int:
        """Optimiser steps that so many batches of a process make; 0 where their number is not known."""
        return math.ceil((batches or 0) / self.gradient_accumulation_steps)

    def total_steps(self, batches_per_epoch: int | None) -> int:
        """Optimiser steps of the run; TrainingError where neither the settings nor the data limit them."""
        steps = self.max_train_steps or self.steps_of(self.num_train_epochs * (batches_per_epoch or 0))
        if not steps:
            raise TrainingError("these data have no end: limit the training with --max_train_steps")
        return steps


@dataclass
class RunSettings:
    """Results and checkpoints of the run."""

    output_dir: str = _option("run", "Folder to make: best and last checkpoint, settings, metrics.")
    eval_steps: int | None = _option(None, "Steps from one evaluation to the next; an epoch if not given.")
    checkpointing_steps: int | None = _option(None, "Steps from one checkpoint to resume from to the next.")
    trust_frames: int = _option(
        800, "Other frames of randomised worlds, to fit and check how far poses can be trusted; 0 for none."
    )
    resume_from_checkpoint: str | None = _option(None, "Folder of a checkpoint, or latest.")
    with_tracking: bool = _option(False, "Log to a tracker.")
    report_to: Literal["tensorboard", "trackio"] = _option("tensorboard", "Which tracker.")
    push_to_hub: bool = _option(False, "Upload the model to a private repository when done.")
    hub_model_id: str | None = _option(None, "Name of that repository, ORG/NAME.")

    def __post_init__(self) -> None:
        if self.push_to_hub and "/" not in (self.hub_model_id or ""):
            raise TrainingError(f"push_to_hub needs hub_model_id as ORG/NAME, got {self.hub_model_id!r}")
        _check_range(self, eval_steps=1, checkpointing_steps=1, trust_frames=0)
        if self.trust_frames % TRUST_STEP:
            raise TrainingError(f"trust_frames must be a multiple of {TRUST_STEP}, got {self.trust_frames}")


@dataclass
class TrainingSettings:
    """All settings of a run."""

    data: DataSettings
    model: ModelSettings
    optimization: OptimizationSettings
    run: RunSettings

    def as_flat(self) -> dict[str, object]:
        """Every setting by its name, as in a YAML file."""
        return {name: value for group in asdict(self).values() for name, value in group.items()}

    def save(self, path: Path) -> None:
        """Write the YAML file that repeats the run from its beginning: what it was resumed from may be gone."""
        write_file(path, yaml.safe_dump(self.as_flat() | {"resume_from_checkpoint": None}, sort_keys=False))

    def resume_invariants(self) -> dict[str, object]:
        """Settings that a resumed run must share with the interrupted one."""
        free = {f.name for f in fields(RunSettings)}
        free |= {"max_train_steps", "num_train_epochs", "dataset", "cache", "prefetch_factor"}
        if not self.data.streaming:  # each worker shuffles its own part of a stream
            free.add("num_workers")
        return {name: value for name, value in self.as_flat().items() if name not in free}

    def frames_per_step(self) -> int:
        """Frames that a process learns from in one optimiser step."""
        return self.optimization.batch_size * self.optimization.gradient_accumulation_steps


class _Help(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Help with defaults, and with the lines of the description as they are."""


_GROUPS = (DataSettings, ModelSettings, OptimizationSettings, RunSettings)


def parse_settings(
    arguments: Sequence[str], program: str | None = None, description: str | None = None
) -> TrainingSettings:
    """Read ``--config FILE`` (YAML, one setting a line) and the options that override it.

    Parameters
    ----------
    arguments : of the command line.
    program : its name in help and errors; the running script if not given.
    description : its purpose, for ``--help``.

    Raises
    ------
    TrainingError
        If the file cannot be read or names an unknown setting, or a value is invalid.
    SystemExit
        If an option is unknown or its value has another type, after a line on standard error; and for ``--help``.

    """
    settings_help = "--help" if program is None else "`python -m veriserum_hf.training.train --help`"
    parser = HfArgumentParser(
        _GROUPS,  # type: ignore[arg-type] # it takes dataclasses
        prog=program,
        usage=f"%(prog)s --config FILE --dataset DIR --output_dir RUN [--SETTING VALUE ...], all in {settings_help}",
        description=description,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of any of these settings; options override it.")
    for action in parser._actions:
        action.option_strings = action.option_strings[:1]  # --seed_it and --seed-it both work; one is enough to read
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        near = difflib.get_close_matches(unknown[0].split("=")[0], parser._option_string_actions, n=1)
        parser.error(f"no such option: {' '.join(unknown)}{f'; did you mean {near[0]}?' if near else ''}")
    # As options before the others, so that both are checked the same way and the others override.
    written = [] if known.config is None else _from_file(Path(known.config))
    *groups, _ = parser.parse_args_into_dataclasses([*written, *arguments], look_for_args_file=False)
    return TrainingSettings(*groups)


def _from_file(path: Path) -> list[str]:
    """Settings of a YAML file as options of the command line; null keeps the default."""
    try:
        found = load_plain_yaml(read_text(path))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise TrainingError(f"cannot read the configuration {path}: {error}") from error
    known = {f.name for group in _GROUPS for f in fields(group)}
    if not isinstance(found, dict) or not found.keys() <= known:
        unknown = ", ".join(map(str, found.keys() - known)) if isinstance(found, dict) else type(found).__name__
        raise TrainingError(f"{path} holds no such settings: {unknown}; the settings are {', '.join(sorted(known))}")
    options: list[str] = []
    for name, value in found.items():
        if isinstance(value, list):
            options += [f"--{name}", *map(str, value)]
        elif value is not None:
            options.append(f"--{name}={json.dumps(value) if isinstance(value, dict) else value}")
    return options


def _check_range(settings: object, **least: int) -> None:
    for name, lowest in least.items():
        value = getattr(settings, name)
        if value is not None and not value >= lowest:
            raise TrainingError(f"{name} must be at least {lowest}, got {value}")


def _check_backbone(fields: Json) -> None:
    """Check the names in a backbone's configuration: transformers takes any, and ignores what it does not know."""
    model_type = str(fields.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        near = difflib.get_close_matches(model_type, CONFIG_MAPPING, n=3)
        raise TrainingError(
            f"backbone_config: transformers has no model_type {model_type!r}; expected a vision backbone such as "
            f"{', '.join(near) or 'convnextv2, dinov2, vit, swin or resnet'}"
        )
    known = CONFIG_MAPPING[model_type]().to_dict()
    if unknown := fields.keys() - known.keys() - {"model_type"}:
        raise TrainingError(
            f"backbone_config: {model_type} has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}"
        )


def _mapping(name: str, value: Json | str | None) -> Json | None:
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise TrainingError(f'{name} must be JSON, such as \'{{"model_type": "resnet"}}\': {error}') from error
    if not isinstance(found, dict):
        raise TrainingError(f"{name} must be a JSON object, got {value}")
    return found
