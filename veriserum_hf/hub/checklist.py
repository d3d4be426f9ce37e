"""Items of the reporting guidelines of the field (CLAIM, TRIPOD+AI), filled from a training run."""

from collections.abc import Iterator
from typing import Any

from veriserum_hf.core import COMPONENTS, Table, code_span
from veriserum_hf.dataset import DataRecord
from veriserum_hf.evaluation import Evaluation, overlap_of

_NOT_STATED = "not stated"


def reporting_table(
    settings: dict[str, Any],
    config: dict[str, Any],
    parameters: int,
    data: DataRecord | None,
    evaluation: Evaluation | None,
) -> str:
    """Table of what a report of a study with a model has to state, in Markdown.

    Parameters
    ----------
    settings : training.yaml as published.
    config : config.json of the model.
    parameters : number of learned parameters.
    data, evaluation : of the run, as published.

    """
    rows = [
        *_data_rows(settings, config, data),
        *_model_rows(settings, config, parameters),
        *_evaluation_rows(evaluation),
        ("Use in practice", "none: research only; see Intended use and limits"),
        (
            "Code, weights and protocol",
            "code and weights are in this repository; the settings above repeat the training",
        ),
    ]
    return Table(["item", "in this model"], rows, alignment="ll").markdown()


def _data_rows(
    settings: dict[str, Any], config: dict[str, Any], data: DataRecord | None
) -> Iterator[tuple[str, str]]:
    trials = (config.get("training_data") or {}).get("trials")
    simulated = settings.get("data", "dataset") != "dataset"
    yield "Source of the data", "simulated during the training" if simulated else _source(data)
    yield (
        "Participants",
        _NOT_STATED if data and data.get("imported") else "none: implants in holders, or simulated",
    )
    yield (
        "Training set",
        f"{len(trials)} trials" if trials else "drawn anew in each step" if simulated else _NOT_STATED,
    )
    yield "Partition", "by trial, never by frame; trials with manually matched poses are in the test split"
    if simulated or (data and data["simulated"]):
        yield (
            "Reference standard",
            "exact poses of the simulation" if simulated else "simulated poses, with typical errors",
        )
    else:
        yield (
            "Reference standard",
            "poses of the data set, by 2D/3D registration; their own errors are part of the figures",
        )
    yield "Preprocessing", "corrected for distortion; images of other cameras are put on a canvas of the model's size"
    yield "Missing data", "frames without a readable image or pose are left out, and listed in rejected.jsonl"


def _source(data: DataRecord | None) -> str:
    if data is None:
        return _NOT_STATED
    return f"{'simulated archive' if data['simulated'] else 'measured frames'}, {code_span(data['name'])}"


def _model_rows(settings: dict[str, Any], config: dict[str, Any], parameters: int) -> Iterator[tuple[str, str]]:
    backbone = config["backbone_config"]["model_type"]
    weights = "pretrained" if settings.get("backbone") else "random"
    known = ", ".join(
        f"{sum(each['component'] == name for each in config['anatomies'])} of the {name}" for name in COMPONENTS
    )
    yield "Model", f"{code_span(backbone)} backbone, {weights} initial weights, {parameters:,} parameters"
    yield "Input and output", "see Input and output"
    yield "Implants", "any, by its mesh" if config.get("implants") == "mesh" else known
    yield (
        "Training",
        f"{settings.get('max_train_steps') or _NOT_STATED} steps, seed {settings.get('seed', _NOT_STATED)}",
    )
    yield "Choice of the model", "best checkpoint on the validation split"
    yield (
        "Missing input",
        "one plane alone" if config["plane_dropout"] or len(config["planes"]) == 1 else "not handled",
    )


def _evaluation_rows(evaluation: Evaluation | None) -> Iterator[tuple[str, str]]:
    if evaluation is None:
        yield "Test", "none; figures above are of the validation split, if there are any"
        return
    about, overall = evaluation["evaluated"], evaluation["overall"]
    size = f"{overall['frames']} frames of {overall['trials']} trials, {overall['count']} poses"
    yield "Test", f"{code_span(about['dataset'])}, split {code_span(about['split'])}: {size}"
    yield "Leakage", overlap_of(evaluation)
    yield "Measures", "rotation, translation, mTRE, shares within limits; see Accuracy"
    yield "Uncertainty of the measures", "95 % intervals by bootstrap over trials"
    yield (
        "Subgroups",
        f"{len(evaluation['by_implant'])} implants and {len(evaluation['by_task'])} activities; see Accuracy",
    )
    yield (
        "Failures",
        f"{1 - overall['success_2mm_2deg']['share']:.1%} of the poses are off by more than 2 mm or 2 deg",
    )
    yield "External validation", "none, unless the data set above is of another laboratory than that of the training"
