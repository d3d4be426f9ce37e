"""Opens rows of frames: of a converted folder, a data set on the hub, or an archive; without torch."""

import errno
import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import datasets
import pyarrow as pa
import trimesh
import yaml

from veriserum_hf.archive import VeriserumArchive
from veriserum_hf.core import masked
from veriserum_hf.dataset.archive_frames import frames_of_archive, meshes_of_archive
from veriserum_hf.dataset.frames import Frames
from veriserum_hf.dataset.plan import Options
from veriserum_hf.dataset.provenance import check_reachable
from veriserum_hf.dataset.rows import Implants, Rows
from veriserum_hf.dataset.splits import SPLITS
from veriserum_hf.dataset.stored import StoredFrames, StreamedFrames
from veriserum_hf.errors import ConversionError, DataSetError, NothingThereError

SPECIAL = ("*", "?", "[", "::")  # in a folder's path datasets takes them for parts of a pattern
_TABLES = ("*.db", "*.sqlite", "*.sqlite3", "*pose_reloaded*.csv")  # of an archive
_EXPECTED = "a folder that `veriserum convert` or `veriserum import` made, a data set on the hub, or an archive"
_EXPECTED_SET = (
    "a folder that `veriserum convert` or `veriserum import` made, or a data set on the hub; its README.md lists its "
    "splits and configurations"
)
# What datasets raises for a folder whose card or shards are not as they were converted; it does not check the types
# of what a card states.
_LIBRARY_ERRORS = (
    *(ValueError, TypeError, LookupError, AttributeError, ImportError, OSError, RecursionError),
    *(datasets.exceptions.DatasetsError, pa.ArrowException, yaml.YAMLError),
)
_IDS = ("measurement_id", "anatomy_id")  # of a row, by configuration
T = TypeVar("T")
_Loaded = dict[str, datasets.Dataset] | dict[str, datasets.IterableDataset]  # by split


@overload
def open_rows(
    dataset: str, config: str, *, split: str | None = None, streaming: Literal[False] = False
) -> Rows[StoredFrames]: ...
@overload
def open_rows(
    dataset: str,
    config: str,
    *,
    split: str | None = None,
    streaming: Literal[True],
    where: tuple[str, int] | None = None,
) -> Rows[StreamedFrames]: ...
@overload
def open_rows(dataset: str, config: Sequence[str], *, archive_px: int) -> Rows[Frames]: ...
def open_rows(
    dataset: str,
    config: str | Sequence[str],
    *,
    split: str | None = None,
    streaming: bool = False,
    where: tuple[str, int] | None = None,
    archive_px: int | None = None,
) -> Rows[StoredFrames] | Rows[StreamedFrames] | Rows[Frames]:
    """Open the rows of a configuration.

    Parameters
    ----------
    dataset : folder that ``veriserum convert`` made, or a data set on the hub; with ``archive_px`` also an archive:
        its folder, database or CSV.
    config : configuration, such as ``"calibrated"``; with ``archive_px`` several, of which the first that exists
        is opened, if there are meshes too.
    split : the only one to open; all if not given.
    streaming : read rows on demand, and store none.
    where : of a stream, a column and its value: only rows that have it. Of Parquet, only row groups that may hold it
        are read.
    archive_px : edge of the images that an archive's frames are corrected to, px; those of a data set keep theirs.

    Raises
    ------
    DataSetError
        If there is no such data set, configuration or split, it cannot be loaded, or ``split`` is empty;
        NothingThereError if none of several configurations exists.
    ConversionError
        If an archive has no meshes.
    ArchiveError
        If an archive's structure is invalid.

    """
    if archive_px is not None and is_archive(dataset):
        return _open_archive(dataset, config, archive_px)
    name = config if isinstance(config, str) else _first_there(dataset, config)
    loaded = _load(dataset, name, split, where, streaming)

    def implants() -> Implants:
        splits = _load(dataset, "anatomies", streaming=streaming)
        try:
            return {row["anatomy_id"]: _one_mesh(row["mesh"]) for rows in splits.values() for row in rows}, {}
        except _LIBRARY_ERRORS as error:
            raise DataSetError(f"cannot read the meshes of {dataset}: {_why(error)}. Convert again") from error

    def components() -> Mapping[int, str]:
        splits = _load(dataset, "anatomies", streaming=streaming)
        rows = (row for each in splits.values() for row in each.select_columns(["anatomy_id", "component"]))
        return {row["anatomy_id"]: row["component"] for row in rows}

    if streaming:
        streams = {split: StreamedFrames(rows, where) for split, rows in loaded.items()}
        return Rows(dataset, name, streams, implants, where, components)
    stored = {split: StoredFrames(rows) for split, rows in loaded.items()}
    return Rows(dataset, name, stored, implants, open_components=components)


def _open_archive(path: str, configs: Sequence[str], size: int) -> Rows[Frames]:
    archive = VeriserumArchive(path)
    for config in configs:
        try:
            splits = frames_of_archive(archive, Options(config=config, size=size))
        except ConversionError as error:
            nothing = error
        else:
            components = {anatomy.id: str(anatomy.component) for anatomy in archive.anatomies.values()}
            meshes = meshes_of_archive(archive)
            covariances = {each.trial: each.plane_covariance for each in archive.refined_sources}
            return Rows(path, config, splits, _known(meshes), None, _known(components), covariances)
    raise NothingThereError(f"{path}: {nothing}") from nothing


def _one_mesh(decoded: trimesh.Trimesh | trimesh.Scene | None) -> trimesh.Trimesh:
    """One mesh of a file of several solids, which `veriserum convert` joins but other programs may not."""
    if decoded is None:
        raise ValueError("a row of the anatomies has no mesh")
    return decoded.to_mesh() if isinstance(decoded, trimesh.Scene) else decoded


def _known(value: T) -> Callable[[], T]:
    return lambda: value


def _first_there(dataset: str, configs: Sequence[str]) -> str:
    """The first of these configurations that a data set with meshes has."""
    check_reachable(dataset, dataset, DataSetError, _EXPECTED)
    try:
        with _literal_folders():
            there = datasets.get_dataset_config_names(dataset)
    except _LIBRARY_ERRORS as error:
        _check_cache(error)
        why = f"{no_folder(dataset)}{_why(error)}"
        raise DataSetError(f"cannot load {dataset}: {why}. Expected {_EXPECTED}") from error
    config = next((config for config in configs if config in there), None)
    if config is None or "anatomies" not in there:
        missing = " or ".join(configs) if config is None else "anatomies (the implants' meshes)"
        raise NothingThereError(
            f"{dataset} has no configuration {missing}, only {', '.join(there)}. Give the archive instead, or "
            f"convert it with --config {configs[0]} --config anatomies; import own frames with their implants"
        )
    return config


def is_archive(dataset: str) -> bool:
    """Whether a path is an archive: its database or CSV, a folder with them, or a folder above that.

    A Parquet file of poses next to the tables does not make it a data set. Tables further down do not make a data set
    an archive; its shards are in a folder for each configuration.
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
    return any(file.name.lower() != "thumbs.db" for file in tables)  # which Windows leaves among images


def no_folder(name: str) -> str:
    """Part of the message for a data set or model that cannot be loaded, if its name is not that of a folder."""
    return "" if Path(name).exists() else "there is no such folder, and on the hub: "


@contextmanager
def _literal_folders() -> Iterator[None]:
    """Let datasets take the path of a folder literally; the library has no interface for that."""
    resolve = datasets.data_files.resolve_pattern

    def resolve_below(pattern: str, base_path: str, *arguments: Any, **options: Any) -> list[str]:
        folder = glob.escape(base_path) if Path(base_path).is_dir() else base_path
        paths: list[str] = resolve(pattern, folder, *arguments, **options)
        return paths

    datasets.data_files.resolve_pattern = resolve_below
    try:
        yield
    finally:
        datasets.data_files.resolve_pattern = resolve


def _check_cache(error: Exception) -> None:
    """Raise DataSetError where an error is one of the cache of datasets, which cannot be written to."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    cache = Path(datasets.config.HF_DATASETS_CACHE).absolute()
    file = Path(str(getattr(error, "filename", None) or ""))
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        raise DataSetError(f"{file}: {error.strerror}. Rename the folder of the data set") from error
    in_cache = file.is_absolute() and (file.is_relative_to(cache) or cache.is_relative_to(file))
    if isinstance(error, OSError) and (in_cache or error.errno in (errno.ENOSPC, errno.EDQUOT)):
        raise DataSetError(
            f"the cache of datasets, {cache}, cannot be written to: {error.strerror or error}. Set HF_HOME to a "
            "folder with free space that you may write to"
        ) from error


def _load(
    dataset: str,
    config: str,
    split: str | None = None,
    where: tuple[str, int] | None = None,
    streaming: bool = False,
) -> _Loaded:
    """Rows of ``load_dataset`` by split."""
    if is_archive(dataset):
        raise DataSetError(
            f"{dataset} is an archive, not a data set: `veriserum convert {dataset} OUT`, then give OUT"
        )
    what = f"{dataset} {config}" if split is None else f"the split {split} of {dataset} {config}"
    check_reachable(dataset, what, DataSetError, _EXPECTED_SET)
    options: dict[str, object] = {"streaming": streaming}
    try:
        with _literal_folders():
            # Of Parquet, only row groups that may hold the value are read; of Arrow, all.
            if where and hasattr(datasets.load_dataset_builder(dataset, config).config, "filters"):
                options["filters"] = [(where[0], "==", where[1])]
            loaded = datasets.load_dataset(dataset, config, split=split, **options)
            empty = split is not None and next(iter(loaded.take(1)), None) is None
    except _LIBRARY_ERRORS as error:
        if split in SPLITS and str(error).startswith(("Unknown split", "Bad split")):  # of rows, and of a stream
            raise DataSetError(
                f"{what} does not exist: {str(error).rstrip('.')}. A split that no trial is in is not written; "
                "choose another one, or convert more trials"
            ) from error
        _check_cache(error)
        if "::" in dataset and Path(dataset).is_dir():
            raise DataSetError(
                f"{dataset}: datasets takes :: in a path for a file within another one. Rename the folder"
            ) from error
        raise DataSetError(
            f"cannot load {what}: {no_folder(dataset)}{_why(error)}. Expected {_EXPECTED_SET}"
        ) from error
    if empty:
        raise DataSetError(
            f"the split {split} of {dataset} ({config}) is empty: convert more trials, or choose another"
        )
    by_split: _Loaded = dict(loaded) if split is None else {split: loaded}
    for name, rows in by_split.items():
        _check_ids(rows, f"{dataset} {config} {name}")
    return by_split


def _check_ids(rows: datasets.Dataset | datasets.IterableDataset, name: str) -> None:
    """Raise DataSetError where stored rows have no id; those of a stream are not known yet."""
    for column in _IDS if isinstance(rows, datasets.Dataset) else ():
        if column in rows.column_names and (without := rows.data.column(column).null_count):
            raise DataSetError(f"{name}: {without} rows have no {column}, expected one in each. Convert again")


def _why(error: BaseException) -> str:
    """What an error of the library states, on one line."""
    if isinstance(error, datasets.exceptions.SplitsVerificationError):
        return "its splits are not those that its README.md lists: a shard is missing, or the README.md was changed"
    text = " ".join(masked(str(error)).split()).rstrip(".")
    return text if text and isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}"
