"""``veriserum import``: own frames, described by a YAML file, to a folder as `veriserum convert` makes it."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import datasets

from veriserum_hf.core import Encoding, PlaneName, ShardFormat, __version__, one_line
from veriserum_hf.dataset.card import CardText
from veriserum_hf.dataset.folder import ConversionResult, Record, Work, finished, write_folder
from veriserum_hf.dataset.mesh_records import MeshRecord
from veriserum_hf.dataset.plan import Plan
from veriserum_hf.dataset.plugin import SOURCES_OF_STUDY_ROWS
from veriserum_hf.dataset.shards import RowMaker
from veriserum_hf.dataset.splits import SPLITS
from veriserum_hf.dataset.study import CameraFile, Study
from veriserum_hf.dataset.study_cameras import cameras_of_study, correction_files, proposals_of
from veriserum_hf.dataset.study_card import study_card
from veriserum_hf.dataset.study_file import read_study
from veriserum_hf.dataset.study_images import PlaneImages, every_file, images_of
from veriserum_hf.dataset.study_implants import meshes_of, poses_of
from veriserum_hf.dataset.study_rows import FrameRows, ImplantRows, PlaneRecipe, plan_frames, plan_implants
from veriserum_hf.dataset.study_unusual import unusual_cameras
from veriserum_hf.errors import ConversionError
from veriserum_hf.jobs import check_place, library_versions, source_hash


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


def import_study(
    study_path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    options: ImportOptions | None = None,
    format: ShardFormat = "parquet",
    shard_size_bytes: int = 500_000_000,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionResult:
    """Make a folder ready for the hub from own frames, or resume an import that was interrupted.

    Everything is checked before anything is written, except for the pixels of the images: a frame whose image is
    damaged is rejected, as `convert_archive` does.

    Parameters
    ----------
    study_path : the YAML file; see `veriserum_hf.dataset.study.Study`.
    output : folder to create; it must not exist, or be empty.
    options : see `ImportOptions`.
    format : of the shards.
    shard_size_bytes : approximate maximum size of a shard.
    workers : processes; None: one for each core. The result does not depend on it.
    progress : called with the number of rows done and of all.

    Raises
    ------
    ConversionError
        If the study, one of its files, or the output cannot be used, or the disk is full.

    """
    options = options or ImportOptions()
    target = Path(output).expanduser().resolve()
    study = read_study(Path(study_path))
    check_place(target, ConversionError, study.file)
    images = images_of(study)
    inputs = _inputs(study, images)
    check_place(target, ConversionError, *{path.parent.resolve() / path.name for path in inputs})
    before = _states(inputs)  # before their content is read, which takes minutes where there are many
    record = _record(study, inputs, options, format, shard_size_bytes)
    if (result := finished(target, record)) is not None:
        return result
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
        )
        for plane in study.planes
    )
    plans: dict[str, Plan] = {"calibrated": plan_frames(study, images, cameras, poses.T_world_implant, options.split)}
    makers: dict[str, RowMaker] = {"calibrated": FrameRows(recipes, options.encoding, options.bits)}
    if study.implants:
        plans["anatomies"], makers["anatomies"] = plan_implants(study), ImplantRows()

    def unchanged(incomplete: Path) -> None:
        if _states(inputs) != before:
            raise ConversionError(
                f"{study.file}, or a file that it names, has changed while it was imported. {incomplete} may hold "
                "rows of both states: remove it, then run again."
            )

    def card(configs: Sequence[str], above_white: Mapping[str, int]) -> CardText:
        return study_card(study, images, cameras, recipes, options, configs, above_white.get("calibrated", 0))

    def mesh_records() -> list[MeshRecord]:
        return [
            {
                "anatomy_id": study.implants[component].anatomy_id,
                "file": study.name_of(study.implants[component].mesh),
                "rewritten": mesh.rewritten,
                "mended": list(mesh.mended),
                "faults": list(mesh.faults),
            }
            for component, mesh in meshes.items()
            if mesh.rewritten or mesh.faults
        ]

    notes = [note for each in images.values() for note in each.notes]
    notes += [*unusual_cameras(study, cameras), *proposals_of(study, images, cameras), *poses.notes]
    split_by = f"all in {options.split}" if options.split else "trial"
    work = Work(record, plans, makers, card, split_by, unchanged, mesh_records, notes, {})
    return write_folder(work, target, format, shard_size_bytes, workers, progress)


def _inputs(study: Study, images: Mapping[PlaneName, PlaneImages]) -> list[Path]:
    """Every file that the rows are made from, without the YAML file."""
    files = [plane.camera.path for plane in study.planes if isinstance(plane.camera, CameraFile)]
    files += [path for plane in study.planes if plane.distortion for path in correction_files(plane.distortion)]
    files += [implant.mesh for implant in study.implants.values()]
    files += [given.path for trial in study.trials for given in trial.initial_poses.values()]
    for path in files:
        if not os.path.isfile(path):  # noqa: PTH113 - nor is one whose name is too long
            raise ConversionError(
                f"{study.file.name}: there is no file {one_line(study.name_of(path))}, expected it relative to the "
                "folder of the YAML file"
            )
    return [*files, *every_file(images)]


def _states(inputs: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Size and time of every file; None where it is gone."""
    return [(path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else None for path in inputs]


def _record(
    study: Study, inputs: Sequence[Path], options: ImportOptions, format: ShardFormat, shard_size_bytes: int
) -> Record:
    """What makes two imports the same: the content of the study and of its files, the options, and the versions."""
    versions = {
        "veriserum_hf": __version__,
        "source": source_hash(*SOURCES_OF_STUDY_ROWS),
        "datasets": datasets.__version__,
    }
    return {
        "versions": versions | library_versions(),
        "options": asdict(options)
        | {"configs": ["calibrated", "anatomies"][: 1 + bool(study.implants)], "format": format}
        | {"shard_size_bytes": shard_size_bytes},
        "archive": {"fingerprint": _fingerprint(study, inputs), "tables": study.file.name, "simulated": False},
        "decisions": {},
    }


def _fingerprint(study: Study, inputs: Sequence[Path]) -> str:
    """Hash of the study as it is described, and of the content of its files; independent of where they lie."""
    described = json.dumps(asdict(study) | {"file": ""}, default=study.name_of)
    digest = hashlib.sha256(described.encode())
    for path in inputs:
        with path.open("rb") as content:
            digest.update(f"{study.name_of(path)}|".encode() + hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
