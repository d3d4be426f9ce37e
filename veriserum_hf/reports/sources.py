"""Poses of several sources and the labels of one split, for comparison in a report."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import trimesh

from veriserum_hf.core import COMPONENTS, INITIAL, Component, FloatArray, Poses
from veriserum_hf.dataset import TRAINING_DATA, StoredFrames, TrialOverlap, open_rows, trial_overlap
from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation import pose_errors, sample_points
from veriserum_hf.poses import Estimates, check_poses, estimates_of, is_csv, poses_by_frame, read_poses

CONFIG = "calibrated"
_ABOUT_LABELS = {
    "calibrated": "the data set's own refined poses",
    "manual": "the data set's own manually matched poses",
    "target": "the data set's own target poses",
}
_ABOUT_INITIAL = "the data set's own initial poses"
_LONGEST_SHOWN = 500  # bytes of metadata: longer values, such as those that pandas writes, are not for people
ImplantInFrame = tuple[int, Component]  # measurement id and component


@dataclass(frozen=True, eq=False)
class Reference:
    """A split of a data set, and the labels that poses are compared with.

    Attributes
    ----------
    dataset : folder or name on the hub, as it was given.
    split : train, validation, test or all.
    config : of the rows: calibrated, manual or target.
    rows : of the split.
    meshes : of the implants by anatomy id, mm.
    points_implant_mm : (k, 3) of each implant's surface, for the errors of points.
    labels : None where they are the rows' own.
    about_labels : description of the labels.
    initial : whether the labels are initial poses: differences from them are no errors.

    """

    dataset: str
    split: str
    config: str
    rows: datasets.Dataset
    meshes: Mapping[int, trimesh.Trimesh]
    points_implant_mm: Mapping[int, FloatArray]
    labels: pa.Table | None
    about_labels: Mapping[str, str]
    initial: bool = False

    @property
    def kind(self) -> str:
        """What the labels are, in the singular."""
        return "initial pose" if self.initial else "label"

    def compare(self, name: str, poses: pa.Table, about: Mapping[str, str]) -> "PoseSource":
        """Compare poses of `veriserum_hf.poses.read_poses` with the labels.

        Raises
        ------
        TrainingError
            If they are not of this data set and split, or of an implant without mesh.

        """
        try:
            estimates = estimates_of(poses, self.rows, self.labels)
            errors = pose_errors(estimates, self.points_implant_mm)
        except TrainingError as error:
            raise TrainingError(f"{name} on {self.dataset}, split {self.split}: {error}") from error
        overlap = self._overlap(about)
        shown = {key: value for key, value in about.items() if key != TRAINING_DATA}
        if overlap is not None:
            shown["training trials"] = overlap["statement"]
        return PoseSource(name, shown, estimates, errors, poses_by_frame(poses), poses, overlap)

    def _overlap(self, about: Mapping[str, str]) -> TrialOverlap | None:
        """Trials of the split that a model was trained on; None unless a model alone predicted the poses."""
        if "model" not in about or "start" in about:  # what was registered has seen the images again
            return None
        try:
            training = json.loads(about.get(TRAINING_DATA, "null"))
        except (ValueError, RecursionError):
            training = None
        return trial_overlap(training, self.dataset, StoredFrames(self.rows), self.split)


@dataclass(frozen=True, eq=False)
class PoseSource:
    """Poses of one method, their labels and errors.

    Attributes
    ----------
    name : short and unique.
    about : origin of the poses.
    estimates, errors : n poses with a label, in the same order.
    poses : all of them, by measurement id and component.
    table : the same, as they were read.
    overlap : how many of the trials the model that predicted them was trained on; None for poses of another origin.

    """

    name: str
    about: Mapping[str, str]
    estimates: Estimates
    errors: pa.Table
    poses: Mapping[int, Poses]
    table: pa.Table
    overlap: TrialOverlap | None = None

    def implants(self) -> list[ImplantInFrame]:
        """Measurement and component of every row."""
        return list(zip(self.estimates.measurement_id.tolist(), self.estimates.component.tolist(), strict=True))

    def column(self, name: str) -> list[Any]:
        """The n values of a column of the poses; None where a pose has no value."""
        return [self.poses[measurement][component].get(name) for measurement, component in self.implants()]


def open_reference(dataset: str, split: str, labels: Path | None = None, *, config: str = CONFIG) -> Reference:
    """Load the data set and labels that poses are compared with.

    Parameters
    ----------
    dataset : folder that ``veriserum convert`` made, or a data set on the hub.
    split : train, validation, test or all.
    labels : file of poses to compare with instead of the rows' own.
    config : calibrated, manual or target.

    Raises
    ------
    TrainingError
        If there is no such data set, configuration or split, or the file cannot be used.

    """
    if config not in _ABOUT_LABELS:
        raise TrainingError(f"{config} has no corrected images to report on; choose {' or '.join(_ABOUT_LABELS)}")
    opened = open_rows(dataset, config).checked()
    rows, meshes = opened.joined(split).rows, opened.meshes
    points = sample_points(meshes)
    if labels is not None:
        given = read_poses(labels)
        about = {"labels": str(labels)} | about_file(labels)
        return Reference(dataset, split, config, rows, meshes, points, given, about)
    initial = _are_initial(rows)
    about = {"initial poses": _ABOUT_INITIAL} if initial else {"labels": _ABOUT_LABELS[config]}
    return Reference(dataset, split, config, rows, meshes, points, None, about, initial)


def _are_initial(rows: datasets.Dataset) -> bool:
    """Whether all poses of the rows are initial poses."""
    poses = rows.select_columns(list(COMPONENTS))
    return all(pose.get("kind") == INITIAL for row in poses for pose in row.values() if pose is not None)


def about_file(path: Path) -> dict[str, str]:
    """Hash and metadata of a file that `read_poses` has read already."""
    with path.open("rb") as file:
        found = {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    metadata = {} if is_csv(path) else pq.read_schema(path).metadata or {}
    return found | {_text(key): _metadata_text(_text(key), value) for key, value in sorted(metadata.items())}


def _metadata_text(name: str, value: bytes) -> str:
    """Text of a file's metadata, by whatever program."""
    shown = len(value) <= _LONGEST_SHOWN or name == TRAINING_DATA
    return _text(value) if shown else f"{len(value)} bytes, not shown"


def _text(text: bytes) -> str:
    return text.decode(errors="replace")


def predicted(
    name: str,
    dataset: str,
    split: str,
    progress: Callable[[int, int], None] | None = None,
    *,
    config: str = CONFIG,
) -> tuple[pa.Table, dict[str, str]]:
    """Poses that a model predicts for a split, and the identity of the model.

    Parameters
    ----------
    name : see `veriserum_hf.inference.load_model`.
    dataset, split : as of `open_reference`.
    progress : called with the number of frames done and of all.
    config : as of `open_reference`.

    Raises
    ------
    TrainingError
        If there is no such model, it is for other images or implants, or a predicted pose is invalid.
    ImportError
        If torch is not installed; the message names what to install.

    """
    from veriserum_hf.inference import fit_to, load_model, predict_table, weights_sha256

    model = load_model(name)
    rows = open_rows(dataset, config).checked()
    frames = rows.joined(split)
    fit_to(model, frames, rows)
    poses = predict_table(model, frames, batch_size=16, progress=progress)
    check_poses(poses, name)
    import torch  # after the inference room, whose error names what to install

    weights = weights_sha256(name) or "several files"
    about = {"model": name, "weights_sha256": weights, "torch": torch.__version__}
    return poses, about | {TRAINING_DATA: json.dumps(model.config.training_data)}


def common_implants(sources: Sequence[PoseSource]) -> set[ImplantInFrame] | None:
    """Implants and frames that every source has; None where all sources have the same."""
    of_source = [set(source.implants()) for source in sources]
    common = set.intersection(*of_source)
    return None if all(implants == common for implants in of_source) else common


def source_names(names: Sequence[str]) -> list[str]:
    """Short names of files and models: the last part without ending, or the full path where that is not unique.

    Raises
    ------
    TrainingError
        If one is given twice.

    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TrainingError(f"{twice[0]} is given twice; expected each file and model once")
    short = [Path(name).stem if Path(name).suffix == ".parquet" else Path(name).name for name in names]
    return [each if short.count(each) == 1 else name for each, name in zip(short, names, strict=True)]
