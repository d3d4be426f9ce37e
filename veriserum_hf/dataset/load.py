"""Splits and implants of a data set, from a folder or the hub; without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import datasets
import trimesh

from veriserum_hf.errors import DataSetError

ALL = "all"  # of its splits
_TABLES = ("*.db", "*.sqlite", "*.sqlite3", "*pose_reloaded*.csv")  # of an archive
Rows = TypeVar("Rows")


def load_splits(dataset: str, config: str) -> dict[str, datasets.Dataset]:
    """Rows of a configuration by split; DataSetError where there is none."""
    loaded: dict[str, datasets.Dataset] = _load(dataset, config)
    return loaded


def stream_splits(
    dataset: str, config: str, where: tuple[str, int] | None = None
) -> dict[str, datasets.IterableDataset]:
    """Rows of a configuration by split, read as they are asked for and never stored.

    Parameters
    ----------
    dataset : folder that ``veriserum convert`` made, or a data set on the hub.
    config : configuration, such as ``"calibrated"``.
    where : a column and its value; rows with others may be left out, which takes less to read.

    Raises
    ------
    DataSetError
        If there is no such data set or configuration.

    """
    loaded: dict[str, datasets.IterableDataset] = _load(dataset, config, where=where, streaming=True)
    return loaded


def load_split(dataset: str, config: str, split: str, *, streaming: bool = False) -> Any:
    """Load a split of a data set.

    Raises
    ------
    DataSetError
        If there is no such data set, configuration or split, or the split is empty.

    """
    rows = _load(dataset, config, split=split, streaming=streaming)
    if next(iter(rows.take(1)), None) is None:
        raise DataSetError(
            f"the split {split} of {dataset} ({config}) is empty: convert more trials, or choose another"
        )
    return rows


def load_split_or_all(dataset: str, config: str, split: str) -> datasets.Dataset:
    """Rows of one split, or of all of them one after another; DataSetError where there are none."""
    chosen = choose_splits(load_splits(dataset, config), split, f"{dataset} {config}")
    return datasets.concatenate_datasets(list(chosen.values()))


def load_meshes(dataset: str, *, streaming: bool = False) -> dict[int, trimesh.Trimesh]:
    """Meshes of a data set's implants by anatomy id, mm; DataSetError where it has none."""
    splits = stream_splits(dataset, "anatomies") if streaming else load_splits(dataset, "anatomies")
    return {row["anatomy_id"]: row["mesh"] for rows in splits.values() for row in rows}


def choose_splits(splits: Mapping[str, Rows], split: str, of: str) -> dict[str, Rows]:
    """One of these splits by its name, or all.

    Parameters
    ----------
    splits : by name.
    split : one of the names, or `ALL`.
    of : what they are of, for the message.

    Raises
    ------
    DataSetError
        If there is no such split.

    """
    if split != ALL and split not in splits:
        raise DataSetError(f"{of} has no split {split}; there are {', '.join(splits) or 'no rows'} and {ALL}")
    return {name: rows for name, rows in splits.items() if split in (ALL, name)}


def is_archive(dataset: str) -> bool:
    """Whether a path is that of an archive: its database or CSV, or a folder with them, or with a folder with them.

    Poses in a Parquet file beside the tables do not make it a data set; nor do tables further down make a data set an
    archive, whose shards lie in a folder for each configuration.
    """
    path = Path(dataset).expanduser()
    if not path.is_dir():
        return path.is_file() and path.suffix not in (".parquet", ".arrow")
    if _has_tables(path):
        return True
    shards = (shard for ending in ("parquet", "arrow") for shard in path.glob(f"*/*.{ending}"))
    return next(shards, None) is None and any(_has_tables(folder) for folder in path.rglob("*/"))


def _has_tables(folder: Path) -> bool:
    tables = (file for pattern in _TABLES for file in folder.glob(pattern))
    return any(file.name.lower() != "thumbs.db" for file in tables)  # which Windows leaves among pictures


def no_folder(name: str) -> str:
    """How a message about a data set or model that cannot be loaded goes on where its name is that of no folder."""
    return "" if Path(name).exists() else "there is no such folder, and on the hub: "


def _load(dataset: str, config: str, *, where: tuple[str, int] | None = None, **options: Any) -> Any:
    if is_archive(dataset):
        raise DataSetError(
            f"{dataset} is an archive, not a data set: `veriserum convert {dataset} OUT`, then give OUT"
        )
    try:
        # Of Parquet, only those groups of rows are read that may hold the value; of Arrow, all.
        if where and hasattr(datasets.load_dataset_builder(dataset, config).config, "filters"):
            options["filters"] = [(where[0], "==", where[1])]
        return datasets.load_dataset(dataset, config, **options)
    except (ValueError, OSError, datasets.exceptions.DatasetGenerationError) as error:
        what = f"the split {options['split']} of {dataset} {config}" if "split" in options else f"{dataset} {config}"
        raise DataSetError(
            f"cannot load {what}: {no_folder(dataset)}{str(error).rstrip('.')}. Expected a folder that `veriserum "
            "convert` made, or a data set on the hub; its README.md tells its splits and configurations"
        ) from error
