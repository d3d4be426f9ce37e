"""The model card, filled from the files of a run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import EvalResult, ModelCardData, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from veriserum_hf.core import code_span
from veriserum_hf.dataset import DataRecord, is_hub_name
from veriserum_hf.evaluation import Evaluation, Group, accuracy_table, evaluation_tables, overlap_of
from veriserum_hf.hub.benchmark import METRICS, eval_results, figures, tasks
from veriserum_hf.hub.checklist import reporting_table

TEMPLATE = Path(__file__).with_name("model_card_template.md")
_ON_THE_HUB = TEMPLATE.with_name("on_the_hub_template.md")
Document = dict[str, Any]  # of a YAML or JSON file
_TAGS = ["medical", "x-ray", "fluoroscopy", "knee-implant", "pose-estimation", "2d-3d-registration", "custom_code"]
_MEASURED_LICENCE = """The weights come from images that are "In Copyright - Non-Commercial Use Permitted"
(ETH Zurich), and they hold points of the implants' surfaces: they are given under the same terms. The code in this
repository is under the MIT licence."""
_IMPORTED_LICENCE = """The weights come from frames of a laboratory, and they hold points of its implants' surfaces:
they are given under the terms of these frames. The code in this repository is under the MIT licence."""
_CONFIDENCE = "`confidence` is the model's estimated probability that the pose is within 2 mm and 2 degrees."
_TRUST = """`confidence` is the probability that the pose is within 2 mm and 2 degrees, calibrated on randomised
  worlds, `doubt` that it is off by more than 5 mm or 5 degrees. `trusted` is false where the pose should not be
  trusted: there is too much doubt, or the rig is unlike those of the training."""
_SIMULATED_LICENCE = "The weights come from simulated images; they and the code are under the MIT licence."


@dataclass(frozen=True)
class Run:
    """What is known about a training run.

    Attributes
    ----------
    settings : training.yaml as published.
    config : config.json of the model.
    parameters : number of learned parameters.
    data : of `veriserum_hf.dataset.data_record`; None if no data set was used.
    validation : the best checkpoint's figures on the validation split, a group of a summary; None without one.
    evaluation : an evaluation.json as published; None without one.
    results : Markdown of what was measured in other worlds; None without it.

    """

    settings: Document
    config: Document
    parameters: int
    data: DataRecord | None
    validation: Group | None
    evaluation: Evaluation | None
    results: str | None = None

    @property
    def simulated(self) -> bool:
        """Whether the weights depend on no measured data, not even on the shape of an implant."""
        return self.data is None or bool(self.data["simulated"])

    @property
    def imported(self) -> bool:
        """Whether the weights come from a laboratory's own frames, not those of the download."""
        return self.data is not None and bool(self.data.get("imported"))

    @property
    def by_mesh(self) -> bool:
        """Whether the model is given the meshes of implants."""
        return bool(self.config.get("implants") == "mesh")

    @property
    def on_the_fly(self) -> bool:
        """Whether training frames were simulated during the training."""
        return bool(self.settings.get("data", "dataset") != "dataset")


def model_card(run: Run, repo_id: str, version: str) -> str:
    """Text of the README.md of a model repository, whose code is loaded at the tag of this version."""
    backbone = run.settings.get("backbone")
    terms = _terms(run)
    base_model = backbone if backbone and is_loaded_model(backbone) else None
    data = ModelCardData(
        model_name=repo_id.split("/")[-1],
        license=terms.license,
        license_name=terms.license_name,
        license_link=terms.license_link,
        library_name="transformers",
        base_model=base_model,
        datasets=[run.data["name"]] if run.data and run.data["on_hub"] else None,
        tags=_TAGS + ["synthetic"] * run.simulated,
        metrics=list(METRICS),
        pipeline_tag="keypoint-detection",
        eval_results=list(_results(run)) or None,
    )
    body = TEMPLATE.read_text(encoding="utf-8").format(
        title=repo_id.split("/")[-1],
        repo_id=repo_id,
        without_package=_without_package(repo_id, version),
        trained=_trained(run),
        planes=" and ".join(f"`image_{plane}`" for plane in run.config["planes"]),
        image_size=run.config["image_size"],
        head=run.config["head"],
        confidence=_confidence(run),
        implants=_implants(run),
        accuracy="\n\n### In other worlds\n\n".join([_accuracy(run), *([run.results] if run.results else [])]),
        base_model=f"[{base_model}](https://huggingface.co/{base_model})" if base_model else _backbone(run),
        data=_data(run),
        parameters=f"{run.parameters:,}",
        settings=yaml.safe_dump(run.settings, sort_keys=False).strip(),
        shape_limit="It finds implants by their meshes: with another mesh than that of the implant the pose is wrong."
        if run.by_mesh
        else "It knows the implants listed above only. For an implant of another shape the pose is meaningless, "
        "without a warning.",
        confidence_limit="The confidence was calibrated on randomised worlds, not on real frames."
        if run.config.get("trust")
        else "The confidence was not calibrated on other data than those above.",
        data_limit="\n- It was trained on simulated images: on measured ones it is less accurate than in the table."
        if run.simulated or run.on_the_fly
        else "",
        checklist=reporting_table(run.settings, run.config, run.parameters, run.data, run.evaluation),
        licence=terms.text,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


class _Terms(NamedTuple):
    """Licence of the weights, as the card's head and its text state it."""

    license: str | None  # none in the head where the laboratory states it: the hub wants a link with "other"
    license_name: str | None
    license_link: str | None
    text: str


def _terms(run: Run) -> _Terms:
    if run.simulated:
        return _Terms("mit", None, None, _SIMULATED_LICENCE)
    if run.imported:
        return _Terms(None, None, None, _IMPORTED_LICENCE)
    link = "https://rightsstatements.org/page/InC-NC/1.0/"
    return _Terms("other", "in-copyright-non-commercial-use-permitted", link, _MEASURED_LICENCE)


def _results(run: Run) -> Iterator[EvalResult]:
    """Figures that are in no file of `eval_results`: of the evaluation, else of the validation split."""
    if eval_results(run.evaluation, run.data):
        return
    if run.evaluation:
        about, group = run.evaluation["evaluated"], run.evaluation["overall"]
        name, config, split = about["dataset"], about["config"], about["split"]
    elif run.validation and run.data:
        name, config, group = run.data["name"], run.settings["dataset_config_name"], run.validation
        split = "validation"
    else:
        return
    revision = run.data["revision"] if run.data and run.data["on_hub"] and run.data["name"] == name else None
    for metric, value in figures(group).items():
        yield EvalResult(
            task_type="pose-estimation",
            task_name="Dual-plane pose estimation",
            dataset_type=name,
            dataset_name=f"{name} ({config})",
            dataset_config=config,
            dataset_split=split,
            dataset_revision=revision,
            metric_type=metric,
            metric_name=tasks()[metric],
            metric_value=value,
        )


def _without_package(repo_id: str, version: str) -> str:
    """How a model on the hub is loaded without this package; nothing of one beside the package."""
    if "/" not in repo_id:
        return ""
    text = _ON_THE_HUB.read_text(encoding="utf-8")
    return f"\n{text.format(repo_id=repo_id, version=version)}"


def _confidence(run: Run) -> str:
    if run.config["head"] != "spatial":
        return "This head estimates no confidence."
    return _TRUST if run.config.get("trust") else _CONFIDENCE


def _implants(run: Run) -> str:
    if run.by_mesh:
        return "any: it is given the mesh of each."
    known = ", ".join(f"{one['component']} {one['id']}" for one in run.config["anatomies"]) or "none"
    return (
        f"{known}.\n  The ids are those of the data set's archive: implant 1 of another archive is another implant."
    )


def _trained(run: Run) -> str:
    if run.on_the_fly:
        return "Trained on frames that were simulated during the training."
    name = run.data["name"] if run.data else ""
    return f"Trained on simulated frames, {code_span(name)}." if run.simulated else f"Trained on {code_span(name)}."


def _backbone(run: Run) -> str:
    kind = run.config["backbone_config"]["model_type"]
    if other := run.settings.get("model"):
        return f"{code_span(other)} (as named at training), with a `{kind}`"
    return (
        f"a `{kind}` from {code_span(run.settings['backbone'])} (as named at training)"
        if run.settings.get("backbone")
        else f"none; a `{kind}` from scratch"
    )


def _data(run: Run) -> str:
    """Data set and revision, in one sentence."""
    parts = ["frames simulated during the training"] if run.on_the_fly else []
    if run.data:
        name = run.data["name"]
        shown = (
            f"[{name}](https://huggingface.co/datasets/{name})"
            if run.data["on_hub"]
            else f"{code_span(name)}, a local folder"
        )
        simulated = ", simulated" if run.data["simulated"] else ""
        use = " for validation and the implants' shapes" if run.on_the_fly else ""
        revision = f"revision `{run.data['revision']}`" if run.data["revision"] else "its revision was not recorded"
        parts.append(
            f"{shown}{simulated}, configuration {code_span(run.settings['dataset_config_name'])}{use}; {revision}"
        )
    return "; ".join(parts)


def _accuracy(run: Run) -> str:
    if run.evaluation:
        about = run.evaluation["evaluated"]
        heading = (
            f"On {code_span(about['dataset'])} (configuration `{about['config']}`), split `{about['split']}`, from "
            f"{' and '.join(about['planes'])}: {run.evaluation['overall']['count']} poses."
        )
        return "\n\n".join(
            [heading, overlap_of(run.evaluation), *(table.markdown() for table in evaluation_tables(run.evaluation))]
        )
    if run.validation:
        heading = "On the validation split, by which this checkpoint was chosen: errors on unseen frames are larger."
        return f"{heading}\n\n{accuracy_table({'validation': run.validation}).markdown()}"
    why = "The weights are those of the last step: there was no validation split to choose them by."
    return why if run.results else f"Not measured. {why}"


def is_loaded_model(name: str) -> bool:
    """Whether this names a model of the hub that was loaded on this machine; otherwise it may be a folder."""
    try:
        return is_hub_name(name) and isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        return False
