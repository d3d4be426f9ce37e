"""``veriserum import``: own frames, described by a YAML file, to a folder as `veriserum convert` makes it."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import datasets

from veriserum_hf.core import PlaneName, ShardFormat, __version__, one_line
from veriserum_hf.dataset.folder import ConversionResult, Record, Work, finished, write_folder
from veriserum_hf.dataset.mesh_records import MeshRecord
from veriserum_hf.dataset.plan import Plan
from veriserum_hf.dataset.plugin import SOURCES_OF_STUDY_ROWS
from veriserum_hf.dataset.replaced_cameras import CamerasFile, plan_with_cameras
from veriserum_hf.dataset.shards import RowMaker
from veriserum_hf.dataset.study import CameraFile, Study
from veriserum_hf.dataset.study_cameras import correction_files, proposals_of
from veriserum_hf.dataset.study_card import study_card
from veriserum_hf.dataset.study_content import ImportOptions, StudyContent, content_of
from veriserum_hf.dataset.study_file import read_study
from veriserum_hf.dataset.study_images import PlaneImages, every_file, images_of
from veriserum_hf.dataset.study_rows import FrameRows, ImplantRows, plan_frames, plan_implants
from veriserum_hf.dataset.study_sources import SOURCES, sources_text
from veriserum_hf.dataset.study_unusual import unusual_cameras
from veriserum_hf.errors import ConversionError
from veriserum_hf.jobs import check_place, library_versions, source_hash


def import_study(
    study_path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    options: ImportOptions | None = None,
    cameras: str | os.PathLike[str] | None = None,
    format: ShardFormat = "parquet",
    shard_size_bytes: int = 500_000_000,
    workers: int | None = None,
    executor: Executor | None = None,
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
    cameras : file of refined cameras, which replace those of the study.
    format : of the shards.
    shard_size_bytes : approximate maximum size of a shard.
    workers : processes; None: one for each core. The result does not depend on it.
    executor : runs the work instead of processes of this machine; see `veriserum_hf.jobs.run_jobs`.
    progress : called with the number of rows done and of all.

    Raises
    ------
    CalibrationError
        If the refined cameras cannot be read, or are not those of all trials.
    ConversionError
        If the study, one of its files, or the output cannot be used, or the disk is full.

    """
    options = options or ImportOptions()
    refined = None if cameras is None else CamerasFile.read(Path(cameras))
    target = Path(output).expanduser().resolve()
    study = read_study(Path(study_path))
    check_place(target, ConversionError, study.file)
    images = images_of(study)
    inputs = _inputs(study, images)
    check_place(target, ConversionError, *{path.parent.resolve() / path.name for path in inputs})
    before = _states(inputs)  # before their content is read, which takes minutes where there are many
    record = _record(study, inputs, options, format, shard_size_bytes)
    if refined is not None:
        record["options"] |= refined.about
    if (result := finished(target, record)) is not None:
        return result
    content = content_of(study, images, inputs, options)

    def unchanged(incomplete: Path) -> None:
        if _states(inputs) != before:
            raise ConversionError(
                f"{study.file}, or a file that it names, has changed while it was imported. {incomplete} may hold "
                "rows of both states: remove it, then run again."
            )

    work = _work(content, record, unchanged, refined, sorted({path.absolute().parent for path in inputs}))
    return write_folder(work, target, format, shard_size_bytes, workers, executor, progress)


def _work(
    content: StudyContent,
    record: Record,
    unchanged: Callable[[Path], None],
    refined: CamerasFile | None,
    reads: Sequence[Path],
) -> Work:
    """The planned rows of a study, and what else its folder states."""
    study, options, images, cameras = content.study, content.options, content.images, content.cameras
    frames = plan_frames(study, images, cameras, content.poses.T_world_implant, options.split)
    if refined is not None:
        frames = plan_with_cameras(frames, refined.cameras)
    plans: dict[str, Plan] = {"calibrated": frames}
    makers: dict[str, RowMaker] = {"calibrated": FrameRows(content.recipes, options.encoding, options.bits)}
    if study.implants:
        plans["anatomies"], makers["anatomies"] = plan_implants(study), ImplantRows()
    notes = [note for each in images.values() for note in each.notes]
    notes += [*unusual_cameras(study, cameras), *proposals_of(study, images, cameras), *content.poses.notes]
    return Work(
        record,
        plans,
        makers,
        card=partial(study_card, content),
        split_by=f"all in {options.split}" if options.split else "trial",
        unchanged=unchanged,
        meshes=partial(_mesh_records, content),
        problems=notes,
        more={},
        files={SOURCES: sources_text(frames, content.names)},
        reads=reads,
    )


def _mesh_records(content: StudyContent) -> list[MeshRecord]:
    """Implants whose mesh was mended, rewritten, or is not a sound solid."""
    return [
        {
            "anatomy_id": (implant := content.study.implants[component]).anatomy_id,
            "file": content.names[implant.mesh],
            "rewritten": mesh.rewritten,
            "mended": list(mesh.mended),
            "faults": list(mesh.faults),
        }
        for component, mesh in content.meshes.items()
        if mesh.rewritten or mesh.faults
    ]


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
        "archive": {
            "fingerprint": _fingerprint(study, inputs),
            "tables": study.file.name,
            "simulated": False,
            "imported": True,
        },
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
