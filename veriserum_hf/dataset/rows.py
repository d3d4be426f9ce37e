"""Opened rows: by split or concatenated, and the implants that they may show."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Generic, TypeVar

import trimesh

from veriserum_hf.calibration import RefinedCameras
from veriserum_hf.core import COMPONENTS, FloatArray
from veriserum_hf.dataset.frames import Frames, check_frames
from veriserum_hf.dataset.stored import StoredFrames, StreamedFrames, concatenated
from veriserum_hf.errors import DataSetError, TrainingError

ALL = "all"  # of its splits
Meshes = Mapping[int, trimesh.Trimesh]
Implants = tuple[Meshes, Mapping[int, str]]  # by anatomy id, and why others cannot be used
F = TypeVar("F", bound=Frames | StreamedFrames)
G = TypeVar("G", bound=Frames)


@dataclass(frozen=True, eq=False)
class Rows(Generic[F]):
    """Rows of one configuration, and the implants that they may show.

    Attributes
    ----------
    dataset : what was given: a folder, a name on the hub, or an archive.
    config : configuration, such as ``"calibrated"``.
    splits : rows by split.
    open_meshes : reads implants by anatomy id, mm, and why others cannot be used.
    where : a column and its value that all rows of a stream have, if one was requested.
    open_components : reads the component of each implant by anatomy id.
    plane_covariances : of refined cameras by trial, (6, 6), see `veriserum_hf.calibration.RefinedRig`.

    """

    dataset: str
    config: str
    splits: Mapping[str, F]
    open_meshes: Callable[[], Implants]
    where: tuple[str, int] | None = None
    open_components: Callable[[], Mapping[int, str]] = dict
    plane_covariances: Mapping[int, FloatArray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.dataset} {self.config}"

    @cached_property
    def _meshes(self) -> Implants:
        return self.open_meshes()

    @property
    def meshes(self) -> Meshes:
        """Implants by anatomy id, mm, read on first use; DataSetError if there are none."""
        return self._meshes[0]

    @property
    def without_mesh(self) -> Mapping[int, str]:
        """By anatomy id, why the STL file of an implant of an archive cannot be used."""
        return self._meshes[1]

    @cached_property
    def components(self) -> Mapping[int, str]:
        """Component of each implant by anatomy id, read on first use; DataSetError if there are no implants."""
        return self.open_components()

    def checked(self, *, raw: bool = False) -> "Rows[F]":
        """Return the rows, if they hold corrected images, or raw frames if these are accepted; see `check_frames`."""
        for frames in self.splits.values():
            check_frames(frames.column_names, self.name, raw=raw)
        return self

    def of_split(self, split: str) -> dict[str, F]:
        """Rows of one split by its name, or of all; DataSetError if there is no such split."""
        if split != ALL and split not in self.splits:
            raise DataSetError(
                f"{self.name} has no split {split}; there are {', '.join(self.splits) or 'no rows'} and {ALL}"
            )
        return {name: frames for name, frames in self.splits.items() if split in (ALL, name)}

    def with_cameras(self: "Rows[G]", cameras: RefinedCameras) -> "Rows[G]":
        """Return the rows with refined cameras, where their trial has some; CalibrationError if they are others."""
        splits = {name: frames.with_cameras(cameras) for name, frames in self.splits.items()}
        covariances = {trial: rig.plane_covariance for rig in cameras.rigs for trial in rig.trials}
        return replace(self, splits=splits, plane_covariances=covariances)

    def joined(self: "Rows[StoredFrames]", split: str) -> StoredFrames:
        """Rows of one split, or of all concatenated; DataSetError if there is no such split."""
        return concatenated(list(self.of_split(split).values()))

    def labelled(self: "Rows[StoredFrames]", split: str) -> StoredFrames:
        """Corrected images of one split, or of all; TrainingError if none has a pose to compare with."""
        frames = self.checked().joined(split)
        if not any(frames.anatomy_ids(component) for component in COMPONENTS):
            raise TrainingError(
                f"{self.name}, split {split}: none of its {len(frames)} frames has a pose to compare with"
            )
        return frames

    def digest(self: "Rows[Frames]", chosen: Mapping[str, Frames]) -> str:
        """Hash of the input of a registration of the chosen frames, implants included; independent of its path."""
        digest = hashlib.sha256(json.dumps([(split, each.digest()) for split, each in chosen.items()]).encode())
        for id, mesh in sorted(self.meshes.items()):
            digest.update(b"%d|" % id + mesh.vertices.tobytes() + mesh.faces.tobytes())
        return digest.hexdigest()
