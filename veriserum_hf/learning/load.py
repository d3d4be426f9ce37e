"""Splits of a data set, from a folder or the hub."""

from typing import Any

import datasets

import veriserum_hf  # noqa: F401 - registers the builder
from veriserum_hf.errors import TrainingError


def load_splits(dataset: str, config: str) -> dict[str, datasets.Dataset]:
    """Rows of a configuration by split; TrainingError where there is none."""
    loaded: dict[str, datasets.Dataset] = _load(dataset, config)
    return loaded


def load_split(dataset: str, config: str, split: str, *, streaming: bool = False) -> Any:
    """Load a split of a data set.

    Raises
    ------
    TrainingError
        If there is no such data set, configuration or split, or the split is empty.

    """
    rows = _load(dataset, config, split=split, streaming=streaming)
    if next(iter(rows.take(1)), None) is None:
        raise TrainingError(
            f"the split {split} of {dataset} ({config}) is empty: convert more trials, or choose another"
        )
    return rows


def _load(dataset: str, config: str, **options: Any) -> Any:
    try:
        return datasets.load_dataset(dataset, config, **options)
    except (ValueError, OSError, datasets.exceptions.DatasetGenerationError) as error:
        what = f"the split {options['split']} of {dataset} {config}" if options else f"{dataset} {config}"
        raise TrainingError(
            f"cannot load {what}: {str(error).rstrip('.')}. Expected a folder that `veriserum convert` made, or a "
            "data set on the hub; its README.md tells its splits and configurations"
        ) from error
