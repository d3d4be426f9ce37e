"""Items of the reporting guidelines of the field (CLAIM, TRIPOD+AI), filled from a training run."""

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
    rows = _data_rows(settings, config, data) | _model_rows(settings, config, parameters) | _test_rows(evaluation)
    rows |= {
        "Use in practice": "none: research only; see Intended use and limits",
        "Code, weights and protocol": "in this repository; the settings above repeat the training",
    }
    return Table(["item", "in this model"], list(rows.items()), alignment="ll").markdown()


def _data_rows(settings: dict[str, Any], config: dict[str, Any], data: DataRecord | None) -> dict[str, str]:
    drawn = settings.get("data", "dataset") != "dataset"  # during the training
    known = (config.get("training_data") or {}).get("trials")
    if drawn:
        source, reference = "simulated during the training", "exact poses of the simulation"
    elif data is None:
        source = reference = _NOT_STATED
    elif data["simulated"]:
        source, reference = f"simulated archive {code_span(data['name'])}", "simulated poses, with typical errors"
    else:
        source = f"measured frames, {code_span(data['name'])}"
        reference = "poses of the data set, whose own errors are part of the figures"
    without_persons = "none: implants in holders, or simulated"
    return {
        "Source of the data": source,
        "Participants": _NOT_STATED if data and data.get("imported") else without_persons,
        "Training set": f"{len(known)} trials" if known else "new frames in each step" if drawn else _NOT_STATED,
        "Partition": "by trial, never by frame",
        "Reference standard": reference,
        "Preprocessing": "corrected for distortion; images of other cameras are put on a canvas of the model's size",
        "Missing data": "frames without a readable image or a pose are left out, and listed in rejected.jsonl",
    }


def _model_rows(settings: dict[str, Any], config: dict[str, Any], parameters: int) -> dict[str, str]:
    backbone = code_span(config["backbone_config"]["model_type"])
    other = settings.get("model")
    weights = f"those of {code_span(other)} as" if other else "pretrained" if settings.get("backbone") else "random"
    components = [each["component"] for each in config["anatomies"]]
    known = ", ".join(f"{components.count(name)} of the {name}" for name in COMPONENTS)
    steps, seed = settings.get("max_train_steps") or _NOT_STATED, settings.get("seed", _NOT_STATED)
    alone = config["plane_dropout"] or len(config["planes"]) == 1
    return {
        "Model": f"{backbone} backbone, {weights} initial weights, {parameters:,} parameters",
        "Input and output": "see Input and output",
        "Implants": "any, by its mesh" if config.get("implants") == "mesh" else known,
        "Training": f"steps {steps}, seed {seed}",
        "Choice of the model": "best checkpoint on the validation split"
        if settings.get("dataset")
        else "the last step",
        "Missing input": "one plane alone suffices" if alone else "not handled: both planes are needed",
    }


def _test_rows(evaluation: Evaluation | None) -> dict[str, str]:
    if evaluation is None:
        return {"Test": "none; the figures above are of the validation split, if there are any"}
    about, overall = evaluation["evaluated"], evaluation["overall"]
    size = f"{overall['frames']} frames of {overall['trials']} trials, {overall['count']} poses"
    groups = f"{len(evaluation['by_implant'])} implants, {len(evaluation['by_task'])} activities"
    return {
        "Test": f"{code_span(about['dataset'])}, split {code_span(about['split'])}: {size}",
        "Leakage": overlap_of(evaluation),
        "Measures": "rotation, translation, mTRE, shares within limits; see Accuracy",
        "Uncertainty of the measures": "95 % intervals by bootstrap over trials",
        "Subgroups": f"{groups}; see Accuracy",
        "Failures": f"{1 - overall['success_2mm_2deg']['share']:.1%} of the poses: off by more than 2 mm or 2 deg",
        "External validation": "none, unless the data set above is of another laboratory than that of the training",
    }
