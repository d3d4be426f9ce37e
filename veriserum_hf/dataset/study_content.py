"""What a study's files hold, but for the pixels of its images, and the options of its import."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from veriserum_hf.archive import ImplantMesh
from veriserum_hf.core import Component, Encoding, PlaneName
from veriserum_hf.dataset.splits import SPLITS
from veriserum_hf.dataset.study import Study
from veriserum_hf.dataset.study_cameras import PlaneCamera, cameras_of_study
from veriserum_hf.dataset.study_images import PlaneImages
from veriserum_hf.dataset.study_implants import PosesRead, meshes_of, poses_of
from veriserum_hf.dataset.study_rows import PlaneRecipe
from veriserum_hf.dataset.study_sources import names_of
from veriserum_hf.errors import ConversionError


@dataclass(frozen=True)
class ImportOptions:
    """Options of the rows.

    Attributes
    ----------
    encoding : of the images: ``png`` (lossless), ``jpeg`` (quality 95) or ``raw`` (plain TIFF).
    bits : depth of the images, 8 or 16.
    white : grey level that is white in images of 16 bits; None: as the files state it, or decided by a sample.
    split : that all rows are in; None: by trial.

    Raises
    ------
    ConversionError
        If a value is invalid.

    """

    encoding: Encoding = "png"
    bits: int = 8
    white: int | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("encoding", self.encoding, get_args(Encoding)),
            ("bits", self.bits, (8, 16)),
            ("split", self.split, (None, *SPLITS)),
        ):
            if value not in allowed:
                choices = ", ".join(str(each) for each in allowed if each is not None)
                raise ConversionError(f"{name} must be one of {choices}; got {value!r}")
        if self.white is not None and not (isinstance(self.white, int) and 255 <= self.white <= 65535):
            raise ConversionError(f"white must be a grey level of 16 bits, from 255 to 65535; got {self.white!r}")
        if self.bits == 16 and self.encoding == "jpeg":
            raise ConversionError('JPEG holds 8 bits: for bits=16 choose encoding="png" or "raw"')


@dataclass(frozen=True)
class StudyContent:
    """A study, its options, and what its files hold.

    Attributes
    ----------
    study, options : of the import.
    images, cameras : by the column of the plane.
    meshes, poses : of the implants.
    recipes : how images become those of rows, in the order of the planes.
    names : of all files and patterns, for card and records; see `names_of`.

    """

    study: Study
    options: ImportOptions
    images: Mapping[PlaneName, PlaneImages]
    cameras: Mapping[PlaneName, PlaneCamera]
    meshes: Mapping[Component, ImplantMesh]
    poses: PosesRead
    recipes: tuple[PlaneRecipe, ...]
    names: Mapping[Path, str]


def content_of(
    study: Study, images: Mapping[PlaneName, PlaneImages], inputs: Sequence[Path], options: ImportOptions
) -> StudyContent:
    """Read cameras, meshes and poses, and decide how images become those of rows.

    Parameters
    ----------
    study, images, options : of the import.
    inputs : every file of the study.

    Raises
    ------
    ConversionError
        If one of them cannot be used.

    """
    cameras = cameras_of_study(study, images)
    meshes = meshes_of(study)
    counts = [len(shown) for shown in images["bs"].by_trial]
    poses = poses_of(study, counts, cameras, meshes)
    recipes = tuple(
        PlaneRecipe(
            plane.column,
            plane.distortion,
            cameras[plane.column].size,
            options.white or images[plane.column].white_level(),
            plane.inverted,
        )
        for plane in study.planes
    )
    patterns = [study.path_of(each) for trial in study.trials for some in trial.images.values() for each in some]
    names = names_of(study, [*inputs, *patterns])
    return StudyContent(study, options, images, cameras, meshes, poses, recipes, names)
