"""What the hub refuses or finds fault with in the YAML of a card."""

from typing import Any

import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

_LICENCES = {"other", "mit", "apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "bsd-3-clause"}  # of many
_TASKS = {"image-feature-extraction", "keypoint-detection", "image-to-3d", "other"}  # of many
_SIZES = {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "n>1M"}  # up to the largest here


def check_card(content: str, repo_type: str) -> tuple[list[str], list[str]]:
    """Errors and warnings of a README.md with its YAML."""
    parts = content.split("---\n", 2)
    if not content.startswith("---\n") or len(parts) < 3:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {error}"], []
    if not isinstance(data, dict):
        return ["YAML metadata must be an object"], []
    errors, warnings = [], []
    if data.get("license", "other") not in _LICENCES:
        errors.append(f'"license" must be one of {sorted(_LICENCES)}')
    for name in ("license_name", "license_link"):
        if data.get("license") == "other" and not isinstance(data.get(name), str):
            errors.append(f'"{name}" is required with "license: other"')
    for name in ("tags", "task_categories", "size_categories"):
        if not all(isinstance(item, str) for item in data.get(name, [])):
            errors.append(f'"{name}" must be a list of strings')
    if repo_type == "dataset":
        errors += [f'"task_categories": unknown {t!r}' for t in data.get("task_categories", []) if t not in _TASKS]
        errors += [f'"size_categories": unknown {s!r}' for s in data.get("size_categories", []) if s not in _SIZES]
        errors += _configs(data)
    elif "model-index" in data:
        try:
            model_index_to_eval_results(data["model-index"])
        except (KeyError, TypeError, ValueError) as error:
            errors.append(f'"model-index" is not as expected: {error!r}')
    return errors, warnings


def _configs(data: dict[str, Any]) -> list[str]:
    """Errors of the configurations' files and infos."""
    errors = []
    for index, config in enumerate(data.get("configs", [])):
        files = config.get("data_files")
        if not config.get("config_name") or not files:
            errors.append(f'"configs[{index}]" needs "config_name" and "data_files"')
        elif not all(isinstance(f, dict) and {"split", "path"} <= f.keys() for f in files):
            errors.append(f'"configs[{index}].data_files" must be a list of split and path')
    infos = data.get("dataset_info", [])
    for index, info in enumerate(infos if isinstance(infos, list) else [infos]):
        if "features" not in info or "splits" not in info:
            errors.append(f'"dataset_info[{index}]" needs "features" and "splits"')
    return errors
