"""Frames to register, of a data set or straight from an archive: their pictures one by one, the rest at once."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import trimesh

from veriserum_hf.archive import RawFormat, VeriserumArchive
from veriserum_hf.core import COMPONENTS, PLANES
from veriserum_hf.dataset.convert import convert
from veriserum_hf.dataset.load import (
    choose_splits,
    is_archive,
    load_meshes,
    load_split_or_all,
    load_splits,
    no_folder,
)
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.errors import ConversionError, FrameError, RegistrationError, TrainingError

Row = dict[str, Any]
_IMAGES = tuple(f"image_{plane}" for plane in PLANES)
_AT_ONCE = 64  # rows whose pictures are held to be hashed
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

    def digest(self) -> str:
        """Hash of what is registered: ids, cameras, poses and the pictures' files."""
        digest = hashlib.sha256(json.dumps(self.table(*_METADATA).to_pylist()).encode())
        pictures = self.rows.select_columns(list(_IMAGES)).with_format("arrow")
        for batch in pictures.iter(_AT_ONCE):
            for name in _IMAGES:
                for picture in batch[name].to_pylist():
                    content = b"" if picture is None else picture["bytes"]
                    digest.update(b"%d|" % len(content) + content)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class ArchiveFrames:
    """Rows that an archive would be converted to; their pictures are corrected when they are read.

    Attributes
    ----------
    plan : rows of `veriserum_hf.dataset.plan.make_plan`.
    options, raw : see `veriserum_hf.dataset.convert.convert`.
    fingerprint : of the archive.

    """

    plan: pa.Table
    options: Options
    raw: RawFormat
    fingerprint: str

    def __len__(self) -> int:
        return len(self.plan)

    def table(self, *names: str) -> pa.Table:
        """Return some columns of every row."""
        return self.plan.select(names)

    def taken(self, indices: Sequence[int]) -> "ArchiveFrames":
        """Return these rows in this order, in buffers of their own: they travel to other processes."""
        return replace(self, plan=self.plan.take(pa.array(indices, pa.int64())))

    def read(self) -> Iterator[Row | FrameError]:
        """Every row with its corrected pictures, or why they cannot be had."""
        features = self.options.features
        for index in range(len(self.plan)):
            finished, rejected = convert(self.plan.slice(index, 1), self.options, self.raw)
            if rejected:
                yield FrameError(rejected[0].reason, rejected[0].detail)
            else:
                yield features.decode_example(finished.to_pylist()[0])

    def digest(self) -> str:
        """Hash of which rows they are, of the archive's tables, and of the name, size and time of its every file."""
        told = [self.fingerprint, asdict(self.options), self.table("measurement_id").to_pylist()]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


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
    without_mesh : why there is none, by anatomy id, of implants whose STL file cannot be used.

    """

    dataset: str
    config: str
    splits: Mapping[str, Frames]
    meshes: Mapping[int, trimesh.Trimesh]
    without_mesh: Mapping[int, str]

    def of_split(self, split: str) -> dict[str, Frames]:
        """Frames of one split by its name, or of all; DataSetError if there is no such split."""
        return choose_splits(self.splits, split, f"{self.dataset} {self.config}")

    def digest(self, chosen: Mapping[str, Frames]) -> str:
        """Hash of all that a registration of the chosen frames sees, implants included; not of where it lies."""
        digest = hashlib.sha256(json.dumps([(split, each.digest()) for split, each in chosen.items()]).encode())
        for id, mesh in sorted(self.meshes.items()):
            digest.update(b"%d|" % id + mesh.vertices.tobytes() + mesh.faces.tobytes())
        return digest.hexdigest()


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
        If there is no such data set, or it has none of them.
    ConversionError
        If an archive has no meshes.
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
            f"cannot load {dataset}: {no_folder(dataset)}{str(error).rstrip('.')}. Expected a folder that `veriserum "
            "convert` made, a data set on the hub, or an archive"
        ) from error
    config = next((config for config in configs if config in there), None)
    if config is None or "anatomies" not in there:
        missing = " or ".join(configs) if config is None else "anatomies (the implants' meshes)"
        raise RegistrationError(
            f"{dataset} has no configuration {missing}, only {', '.join(there)}. Give the archive instead, or "
            f"convert it with --config {configs[0]} --config anatomies"
        )
    splits = {name: StoredFrames(rows) for name, rows in load_splits(dataset, config).items()}
    return FrameSource(dataset, config, splits, load_meshes(dataset), {})


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
        fingerprint = archive.fingerprint()
        splits = {split: ArchiveFrames(rows, options, raw, fingerprint) for split, rows in plan.splits.items()}
        return FrameSource(path, config, splits, *_meshes(archive))
    raise RegistrationError(f"{path}: {nothing}") from nothing


def _meshes(archive: VeriserumArchive) -> tuple[dict[int, trimesh.Trimesh], dict[int, str]]:
    """Implants by anatomy id, and why the others cannot be used."""
    options = Options(config="anatomies")
    finished, rejected = convert(make_plan(archive, options).splits["train"], options, archive.raw_format)
    rows = (options.features.decode_example(row) for row in finished.to_pylist())
    return {row["anatomy_id"]: row["mesh"] for row in rows}, {each.id: each.detail for each in rejected}


def load_frames(dataset: str, config: str = "calibrated", split: str = "test") -> datasets.Dataset:
    """Rows of one split, or of all; at least one has a pose.

    Parameters
    ----------
    dataset : folder that ``veriserum convert`` made, or a data set on the hub.
    config : one with corrected images: calibrated, manual or target.
    split : train, validation, test or all.

    Raises
    ------
    TrainingError
        If there is no such data set, configuration or split, or no row has a pose.

    """
    frames = load_split_or_all(dataset, config, split)
    if missing := {"camera_bs", "image_bs", "femur", "tibia"} - set(frames.column_names):
        raise TrainingError(
            f"{dataset} {config} cannot be evaluated on: it has no {', '.join(sorted(missing))}. Expected corrected "
            "images with poses: the configuration calibrated, manual or target"
        )
    if "distortion_bs" in frames.column_names:
        raise TrainingError(f"{dataset} {config} holds raw frames; choose calibrated, manual or target")
    if not any(anatomy_ids(frames, component) for component in COMPONENTS):
        raise TrainingError(
            f"{dataset} {config}, split {split}: none of its {len(frames)} frames has a pose to compare with"
        )
    return frames


def anatomy_ids(frames: datasets.Dataset, component: str) -> list[int]:
    """Implants that the frames have poses of."""
    table: Any = frames.select_columns([component]).with_format("arrow")[:]
    ids = pc.struct_field(table[component].combine_chunks(), "anatomy_id")
    return sorted(id for id in pc.unique(ids).to_pylist() if id is not None)
