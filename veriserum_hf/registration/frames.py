"""Frames to register, of a data set or straight from an archive: their pictures one by one, the rest at once."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import trimesh

import veriserum_hf  # noqa: F401 - registers the builder
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.frames import RawFormat
from veriserum_hf.dataset.convert import convert
from veriserum_hf.dataset.load import choose_splits, load_meshes, load_splits
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.errors import ConversionError, FrameError, RegistrationError
from veriserum_hf.geometry.rig import PLANES

Row = dict[str, Any]
_METADATA = (
    "measurement_id",
    "trial_id",
    "frame_index",
    "task",
    *(f"camera_{plane}" for plane in PLANES),
    "femur",
    "tibia",
)


@dataclass(frozen=True, eq=False)
class StoredFrames:
    """Rows of a converted data set, with corrected images."""

    rows: datasets.Dataset

    def __len__(self) -> int:
        return len(self.rows)

    def table(self, *names: str) -> pa.Table:
        """Return some columns of every row; pictures stay where they are."""
        return self.rows.select_columns(list(names)).with_format("arrow")[:]

    def taken(self, indices: Sequence[int]) -> "StoredFrames":
        """Return these rows in this order."""
        return StoredFrames(self.rows.select(indices))

    def read(self) -> Iterator[Row | FrameError]:
        """Every row with its pictures, or why they cannot be had."""
        for index in range(len(self.rows)):
            try:
                yield self.rows[index]
            # The kinds that Pillow raises; pyarrow's are ValueError or OSError.
            except (OSError, SyntaxError, ValueError) as error:
                yield FrameError("unreadable", str(error))


@dataclass(frozen=True, eq=False)
class ArchiveFrames:
    """Rows that an archive would be converted to; their pictures are corrected when they are read.

    Attributes
    ----------
    plan : rows of `veriserum_hf.dataset.plan.make_plan`.
    options, raw : see `veriserum_hf.dataset.convert.convert`.

    """

    plan: pa.Table
    options: Options
    raw: RawFormat

    def __len__(self) -> int:
        return len(self.plan)

    def table(self, *names: str) -> pa.Table:
        """Return some columns of every row."""
        return self.plan.select(names)

    def taken(self, indices: Sequence[int]) -> "ArchiveFrames":
        """Return these rows in this order, in buffers of their own: they travel to other processes."""
        return ArchiveFrames(self.plan.take(pa.array(indices, pa.int64())), self.options, self.raw)

    def read(self) -> Iterator[Row | FrameError]:
        """Every row with its corrected pictures, or why they cannot be had."""
        features = self.options.features
        for index in range(len(self.plan)):
            finished, rejected = convert(self.plan.slice(index, 1), self.options, self.raw)
            if rejected:
                yield FrameError(rejected[0].reason, rejected[0].detail)
            else:
                yield features.decode_example(finished.to_pylist()[0])


Frames = StoredFrames | ArchiveFrames


@dataclass(frozen=True, eq=False)
class FrameSource:
    """Frames of one configuration, and the implants that they may show.

    Attributes
    ----------
    dataset : what was given: a folder, a name on the hub, or an archive.
    config : configuration, such as ``"calibrated"``.
    splits : frames by split.
    meshes : implants by anatomy id, mm.
    identity : digest of all but the pictures.

    """

    dataset: str
    config: str
    splits: Mapping[str, Frames]
    meshes: Mapping[int, trimesh.Trimesh]
    identity: str

    def of_split(self, split: str) -> dict[str, Frames]:
        """Frames of one split by its name, or of all; DataSetError if there is no such split."""
        return choose_splits(self.splits, split, f"{self.dataset} {self.config}")


def open_frames(dataset: str, configs: Sequence[str], *, size: int = 512) -> FrameSource:
    """Open the first of these configurations that there is.

    Parameters
    ----------
    dataset : folder that ``veriserum convert`` made, data set on the hub, or an archive: its folder, database or CSV.
    configs : of calibrated, target and manual.
    size : edge of the images that an archive's frames are corrected to, px; a data set's have their own.

    Raises
    ------
    RegistrationError
        If there is no such data set, it has none of them, or no meshes.
    DataSetError
        If one of them cannot be loaded.
    ArchiveError
        If the archive's structure cannot be relied on.

    """
    if is_archive(dataset):
        return _of_archive(dataset, configs, size)
    try:
        there = datasets.get_dataset_config_names(dataset)
    except (ValueError, OSError) as error:
        raise RegistrationError(
            f"cannot load {dataset}: {str(error).rstrip('.')}. Expected a folder that `veriserum convert` made, a "
            "data set on the hub, or an archive"
        ) from error
    config = next((config for config in configs if config in there), None)
    if config is None or "anatomies" not in there:
        missing = " or ".join(configs) if config is None else "anatomies (the implants' meshes)"
        raise RegistrationError(
            f"{dataset} has no configuration {missing}, only {', '.join(there)}. Give the archive instead, or "
            f"convert it with --config {configs[0]} --config anatomies"
        )
    splits = {name: StoredFrames(rows) for name, rows in load_splits(dataset, config).items()}
    meshes = load_meshes(dataset)
    return FrameSource(dataset, config, splits, meshes, _digest(splits, meshes))


def is_archive(dataset: str) -> bool:
    """Whether a path is that of an archive; a data set's shards lie in a folder for each configuration."""
    path = Path(dataset).expanduser()
    shards = (shard for ending in ("parquet", "arrow") for shard in path.glob(f"*/*.{ending}"))
    return path.is_file() or (path.is_dir() and next(shards, None) is None)


def _of_archive(path: str, configs: Sequence[str], size: int) -> FrameSource:
    archive = VeriserumArchive(path)
    raw = archive.raw_format
    for config in configs:
        # Plain TIFF: nothing is lost on the way, and nothing is stored.
        options = Options(config=config, size=size, encoding="raw")
        try:
            plan = make_plan(archive, options)
        except ConversionError as error:
            nothing = error
            continue
        splits = {split: ArchiveFrames(rows, options, raw) for split, rows in plan.splits.items()}
        identity = hashlib.sha256(json.dumps([archive.fingerprint(), asdict(options)]).encode()).hexdigest()
        return FrameSource(path, config, splits, _meshes(archive), identity)
    raise RegistrationError(f"{path}: {nothing}") from nothing


def _meshes(archive: VeriserumArchive) -> dict[int, trimesh.Trimesh]:
    options = Options(config="anatomies")
    finished, _ = convert(make_plan(archive, options).splits["train"], options, archive.raw_format)
    rows = (options.features.decode_example(row) for row in finished.to_pylist())
    return {row["anatomy_id"]: row["mesh"] for row in rows}


def _digest(splits: Mapping[str, Frames], meshes: Mapping[int, trimesh.Trimesh]) -> str:
    digest = hashlib.sha256()
    for split, frames in splits.items():
        digest.update(json.dumps([split, frames.table(*_METADATA).to_pylist()]).encode())
    for id, mesh in sorted(meshes.items()):
        digest.update(b"%d" % id + mesh.vertices.tobytes())
    return digest.hexdigest()
