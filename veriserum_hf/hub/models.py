"""Publish a training run: the weights with their code, the training settings, and a model card."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from veriserum_hf.core import load_plain_yaml
from veriserum_hf.dataset import DataRecord, data_record, public_name
from veriserum_hf.errors import HubError
from veriserum_hf.evaluation import Evaluation
from veriserum_hf.hub.push import CARD, Pushed, push_folder

try:
    import yaml
    from safetensors import SafetensorError, safe_open

    from veriserum_hf.hub.benchmark import eval_results
    from veriserum_hf.hub.model_card import Document, Run, model_card
    from veriserum_hf.inference import load_model, weights_sha256
    from veriserum_hf.modeling import TASK, VeriserumImageProcessor
except ImportError as error:
    raise ImportError('publishing a model needs torch: pip install "veriserum-hf[train]"') from error

_logger = logging.getLogger(__name__)

MODEL_VERSION = "1.0.0"  # of a model whose version is not given
EVALUATION = "evaluation.json"
RESULTS = "results.md"  # what was measured in other worlds, for the card
WEIGHTS = "model.safetensors"
_CODE = Path(__file__).parents[1] / "modeling"
_HANDLER = Path(__file__).with_name("handler.py")
_REQUIREMENTS = "pillow\nroma>=1.5\n"  # of the handler and the model, beside what an endpoint has
_MODEL_CODE = {
    "AutoConfig": "configuration_veriserum.VeriserumPoseConfig",
    "AutoModel": "modeling_veriserum.VeriserumPoseModel",
}
_PROCESSOR_CODE = {"AutoImageProcessor": "image_processing_veriserum.VeriserumImageProcessor"}
_PIPELINE_CODE = {
    TASK: {"impl": "pipeline_veriserum.DualPlanePosePipeline", "pt": ["AutoModel"], "type": "image"},
}
_NAMES = ("dataset", "backbone", "model")  # settings: of a data set and models, or their paths
_SETTING = (str, int, float, list, dict, type(None))
_MOST_SETTINGS = 1_000_000  # bytes of training.yaml
# Paths and options of the training machine, of no use elsewhere.
_PRIVATE_SETTINGS = ("output_dir", "resume_from_checkpoint", "push_to_hub", "hub_model_id", "report_to")


def push_model(
    run: Path,
    repo_id: str,
    *,
    evaluation: Path | None = None,
    version: str = MODEL_VERSION,
    public: bool = False,
    accept_data_licence: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Pushed:
    """Push the best checkpoint of a run, or resume an interrupted push.

    Parameters
    ----------
    run : output folder of a training.
    repo_id, version, public, dry_run, progress : see `veriserum_hf.hub.push.push_folder`.
    evaluation : evaluation.json for the card, or the folder of a report that holds one; if not given,
        that of the run, if it exists.
    accept_data_licence : whether the terms of the images that it was trained on are acknowledged.

    Raises
    ------
    HubError
        If the folder is not a finished run, a licence has to be acknowledged, or as `push_folder` does.
    TrainingError
        If its weights cannot be loaded.

    """
    with tempfile.TemporaryDirectory(prefix="veriserum-push-") as folder:
        made = checkpoint(run, Path(folder), repo_id, evaluation, version)
        overlap = made.evaluation and made.evaluation.get("training_overlap")
        if overlap and overlap["training_trials"]:
            _logger.warning("the evaluation on the card is no test: %s", overlap["statement"])
        if public and not (made.simulated or accept_data_licence):
            terms = (
                "those of a laboratory, whose terms hold for the weights too"
                if made.imported
                else '"In Copyright - Non-Commercial Use Permitted" (ETH Zurich)'
            )
            raise HubError(
                f"the images that this model was trained on are {terms}: acknowledge that with --accept-data-licence "
                "to publish it, or omit --public"
            )
        # Without the card, which is uploaded last.
        files = sorted(
            path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file() and path.name != CARD
        )
        return push_folder(
            Path(folder),
            repo_id,
            repo_type="model",
            files=[*files, Path(CARD)],
            version=version,
            public=public,
            dry_run=dry_run,
            progress=progress,
        )


def checkpoint(
    run: Path, folder: Path, repo_id: str, evaluation: Path | None = None, version: str = MODEL_VERSION
) -> Run:
    """Write the files to publish of a run to an empty folder; the weights are linked, not copied.

    Parameters and errors are those of `push_model`.
    """
    _check_weights(run)
    model = load_model(str(run), "cpu")
    settings = _settings(run)
    metrics = _read_json(run / "metrics.json") or {}
    found = _evaluation(run, evaluation, repo_id)
    known = Run(
        settings=settings,
        config=model.config.to_dict(),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        data=_data(run, metrics),
        validation=metrics.get("validation"),
        evaluation=found,
        results=_results(run),
    )
    config = _read_json(run / "config.json") or {}
    backbone = config["backbone_config"]
    backbone["_name_or_path"] = public_name(backbone.get("_name_or_path") or "")
    _write_json(folder / "config.json", config | {"auto_map": _MODEL_CODE, "custom_pipelines": _PIPELINE_CODE})
    processor = VeriserumImageProcessor(size=model.config.image_size).to_dict()
    _write_json(folder / "preprocessor_config.json", processor | {"auto_map": _PROCESSOR_CODE})
    for source in _CODE.glob("*_veriserum.py"):
        shutil.copyfile(source, folder / source.name)
    shutil.copyfile(_HANDLER, folder / _HANDLER.name)
    (folder / "requirements.txt").write_text(_REQUIREMENTS, encoding="utf-8")
    (folder / WEIGHTS).symlink_to((run / WEIGHTS).resolve())
    (folder / "training.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    if metrics:
        _write_json(folder / "metrics.json", metrics)
    if found:
        _write_json(folder / EVALUATION, found)
    if known.results:
        (folder / RESULTS).write_text(f"{known.results}\n", encoding="utf-8")
    for name, text in eval_results(found, known.data).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / CARD).write_text(model_card(known, repo_id, version), encoding="utf-8")
    return known


def _results(run: Path) -> str | None:
    file = run / RESULTS
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _check_weights(run: Path) -> None:
    missing = [name for name in ("config.json", WEIGHTS, "training.yaml") if not (run / name).is_file()]
    if missing:
        raise HubError(
            f"{run} has no {' and no '.join(missing)}: expected the output folder of a finished training. Nothing "
            "was pushed"
        )
    try:
        with safe_open(run / WEIGHTS, framework="pt"):
            pass
    except SafetensorError as error:
        raise HubError(f"{run / WEIGHTS} holds no weights in safetensors: {error}. Nothing was pushed") from error


def _yaml(run: Path) -> Document:
    file = run / "training.yaml"
    found = None
    try:
        if file.stat().st_size <= _MOST_SETTINGS:
            found = load_plain_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise HubError(f"cannot read {file}: {error}") from error
    if not isinstance(found, dict) or not _are_settings(found):
        raise HubError(f"{file} holds no settings: expected the file that the training wrote")
    return found


def _are_settings(found: Document) -> bool:
    """Whether names are text, and no value is anything else than YAML's plain ones."""
    names = [found.get(name) for name in _NAMES]
    if names[0] is not None:
        names.append(found.get("dataset_config_name", 0))
    return all(isinstance(name, str | None) for name in names) and all(
        isinstance(value, _SETTING) for value in found.values()
    )


def _settings(run: Path) -> Document:
    """Training settings of the run, without paths of the training machine."""
    found = _yaml(run)
    kept = {name: value for name, value in found.items() if value is not None and name not in _PRIVATE_SETTINGS}
    for name in _NAMES:
        if name in kept:
            kept[name] = public_name(kept[name])
    return kept


def _data(run: Path, metrics: Document) -> DataRecord | None:
    """The run's record of its data set; for a run without one, what can be determined now."""
    if "data" in metrics:
        kept: DataRecord | None = metrics["data"]
        return kept
    record = data_record(_yaml(run).get("dataset"))
    # A folder does not change; the present revision on the hub may be newer than the run.
    return {**record, "revision": None} if record and record["on_hub"] else record


def _evaluation(run: Path, path: Path | None, repo_id: str) -> Evaluation | None:
    """An evaluation of this run, without local paths."""
    if path is None and not (run / EVALUATION).is_file():
        return None
    file = path or run
    file = file / EVALUATION if file.is_dir() else file
    found: Evaluation | None = _read_json(file)
    if not isinstance(found, dict) or not {"overall", "by_implant", "evaluated"} <= found.keys():
        raise HubError(
            f"{file} is not an evaluation: expected the {EVALUATION} that training/evaluate.py --output_dir writes"
        )
    about = found["evaluated"]
    if Path(about["model"]).is_dir() and not Path(about["model"]).samefile(run):
        raise HubError(
            f"{file} is the evaluation of {about['model']}, not of {run}: evaluate this run, or give its own "
            "evaluation"
        )
    if about.get("weights_sha256") not in (None, weights_sha256(str(run))):
        raise HubError(
            f"{file} is the evaluation of other weights than {run / WEIGHTS} holds now: evaluate this run again with "
            "training/evaluate.py"
        )
    return {**found, "evaluated": {**about, "model": repo_id, "dataset": public_name(about["dataset"])}}


def _read_json(path: Path) -> Any:
    """Content of a JSON file; None if there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise HubError(f"cannot read {path}: {error}") from error


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
