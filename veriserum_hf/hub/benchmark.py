"""The benchmark of the data set, and the results of a model in it, in the files by which the hub lists them.

``eval.yaml`` of a data set names its tasks, one number each; ``.eval_results/*.yaml`` of a model holds these numbers
(see https://huggingface.co/docs/hub/eval-results).
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from veriserum_hf.dataset import DataRecord
from veriserum_hf.evaluation import Evaluation, Group, Limits, Metric

CONFIG, SPLIT = "calibrated", "test"
FRAMEWORK = "veriserum-hf"
_METRICS: Mapping[Metric, str] = {
    "rotation_deg": "rotation error, deg",
    "translation_mm": "translation error, mm",
    "mtre_mm": "mTRE, mm",
}
_QUANTILES: Mapping[Literal["median", "p95"], str] = {"median": "Median", "p95": "95 % quantile of"}
_SHARES: Mapping[Limits, str] = {
    "success_1mm_1deg": "Share within 1 mm and 1 deg",
    "success_2mm_2deg": "Share within 2 mm and 2 deg",
}
METRICS = tuple(_METRICS)


def tasks() -> dict[str, str]:
    """Return what each task of the benchmark measures, by the task's id."""
    quantiles = {
        f"{metric}_{quantile}": f"{words} {what}"
        for metric, what in _METRICS.items()
        for quantile, words in _QUANTILES.items()
    }
    return quantiles | dict(_SHARES.items())


def figures(group: Group) -> dict[str, float]:
    """Figures of a group of poses by the task's id; without those that are infinite."""
    quantiles = {
        f"{metric}_{quantile}": group[metric][quantile] for metric in _METRICS for quantile in _QUANTILES
    } | {name: group[name]["share"] for name in _SHARES}
    return {name: value for name, value in quantiles.items() if value is not None}


def eval_yaml(title: str) -> str:
    """Content of a data set's ``eval.yaml``."""
    document = {
        "name": title,
        "description": (
            "Six-degrees-of-freedom poses of the femoral and the tibial component of a knee implant from one frame "
            "of dual-plane fluoroscopy, on trials that no model was trained on. training/evaluate.py of veriserum-hf "
            "computes every figure."
        ),
        "evaluation_framework": FRAMEWORK,
        "tasks": [{"id": task, "config": CONFIG, "split": SPLIT} for task in tasks()],
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def eval_results(evaluation: Evaluation | None, data: DataRecord | None) -> dict[str, str]:
    """Files of a model's results, by their paths in its repository; none unless it was evaluated on the benchmark.

    Parameters
    ----------
    evaluation : as published.
    data : of the training, which knows the commit of its data set.

    """
    if evaluation is None:
        return {}
    about = evaluation["evaluated"]
    name = about["dataset"]
    if "/" not in name or (about["config"], about["split"]) != (CONFIG, SPLIT):
        return {}
    revision = data["revision"] if data and data["on_hub"] and data["name"] == name else None
    entries = list(_entries(evaluation, name, revision))
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
    return {f".eval_results/{name.rpartition('/')[2]}.yaml": text}


def _entries(evaluation: Evaluation, name: str, revision: str | None) -> Iterator[EvalResultEntry]:
    overall = evaluation["overall"]
    planes = " and ".join(evaluation["evaluated"]["planes"])
    notes = f"planes {planes}; {overall['count']} poses of {overall['trials']} trials; {FRAMEWORK}"
    for task, value in figures(overall).items():
        yield EvalResultEntry(dataset_id=name, task_id=task, value=value, dataset_revision=revision, notes=notes)
