"""A study of own frames: one or two planes with their images and cameras, the implants, initial poses and trials."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from veriserum_hf.core import CameraRow, Component, PlaneName
from veriserum_hf.dataset.study_fields import expanded


@dataclass(frozen=True)
class CameraFile:
    """Camera of a plane in a file of another program, and the edge of a pixel where the file does not state it."""

    kind: Literal["mayacam", "jointtrack"]
    path: Path
    pixel_size_mm: float | None


@dataclass(frozen=True)
class CameraMatrices:
    """Camera of a plane in the YAML file itself, as in a row, and (rows, columns) of its images where it has them."""

    row: CameraRow
    size: tuple[int, int] | None


@dataclass(frozen=True)
class StudyPlane:
    """One plane: its name in the study, its column of a row, its camera and its distortion.

    ``inverted``: metal is bright in its images, and their files do not state it.
    """

    name: str
    column: PlaneName
    camera: CameraFile | CameraMatrices
    distortion: Path | None
    inverted: bool = False


@dataclass(frozen=True)
class StudyImplant:
    """One implant: its mesh or label volume, its id, and the number of its label where the volume has several."""

    mesh: Path
    anatomy_id: int
    label: int | None


@dataclass(frozen=True)
class PoseFile:
    """Initial poses of one implant: a file, and the plane whose camera they refer to, where they do."""

    path: Path
    plane: str | None


@dataclass(frozen=True)
class StudyTrial:
    """One trial.

    Attributes
    ----------
    id, task, subject, frame_rate_hz : of the trial.
    images : patterns of the image files, by plane.
    initial_poses : by component.

    """

    id: int
    task: str | None
    subject: int | None
    frame_rate_hz: float | None
    images: Mapping[PlaneName, list[str]]
    initial_poses: Mapping[Component, PoseFile]


@dataclass(frozen=True)
class Study:
    """A study as its YAML file describes it; the files that it names have not been read.

    Attributes
    ----------
    file : the YAML file.
    planes : one or two; the first fills the ``bs`` columns of a row, the second ``fs``.
    side : of the knee.
    implants : by component.
    trials : in their order.
    description, license : text for the card; a license may be an id of the hub, such as ``cc-by-4.0``.

    """

    file: Path
    planes: tuple[StudyPlane, ...]
    side: str | None
    implants: Mapping[Component, StudyImplant]
    trials: tuple[StudyTrial, ...]
    description: str | None = None
    license: str | None = None

    @property
    def folder(self) -> Path:
        """What paths in the file are relative to."""
        return self.file.parent

    def path_of(self, pattern: str) -> Path:
        """Path or pattern of the file, relative to it or absolute."""
        return self.folder / expanded(pattern)

    def name_of(self, path: Path) -> str:
        """Name of a file relative to the YAML file; of one elsewhere, its last part, without local folders."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else path.name
