"""``veriserum convert``: an archive to a folder that is ready for the hub."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, replace
from pathlib import Path

import datasets

from veriserum_hf.archive import (
    DISTORTION_FORM,
    LABELS_AND_IMAGES,
    Findings,
    VeriserumArchive,
    find_layout,
    require_agreement,
)
from veriserum_hf.core import ShardFormat, __version__
from veriserum_hf.dataset.card import CardText, archive_card
from veriserum_hf.dataset.convert import ArchiveRows
from veriserum_hf.dataset.folder import ConversionResult, Record, Work, finished, write_folder
from veriserum_hf.dataset.mesh_records import mesh_records
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.dataset.plugin import SOURCES_OF_ROWS
from veriserum_hf.dataset.replaced_cameras import CamerasFile, plan_with_cameras
from veriserum_hf.dataset.schema import KIND_OF_CONFIG
from veriserum_hf.errors import ConversionError
from veriserum_hf.jobs import check_place, library_versions, source_hash


def convert_archive(
    archive_path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    configs: tuple[str, ...] = ("calibrated", "anatomies"),
    options: Options | None = None,
    cameras: str | os.PathLike[str] | None = None,
    format: ShardFormat = "parquet",
    shard_size_bytes: int = 500_000_000,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionResult:
    """Convert an archive to a folder ready for the hub, or resume an interrupted conversion.

    Parameters
    ----------
    archive_path : the archive's folder, database or pose CSV.
    output : folder to create; it must not exist, or be empty.
    configs : which configurations to write.
    options : see `Options`; its ``config`` is ignored.
    cameras : file of refined cameras, which replace those of the archive.
    format : of the shards.
    shard_size_bytes : approximate maximum size of a shard.
    workers : processes; None: one for each core. The result does not depend on it.
    executor : runs the work instead of processes of this machine; see `veriserum_hf.jobs.run_jobs`.
    progress : called with the number of rows done and of all.

    Raises
    ------
    ArchiveError
        If the archive's structure is invalid, or labels and images do not agree; nothing is written then.
    CalibrationError
        If the refined cameras cannot be read, or are not those of all trials; nothing is written then.
    ConversionError
        If the output cannot be made: it exists, is damaged, belongs to another conversion, is within the archive
        or the archive within it, is the current folder, or the disk is full.

    """
    options = options or Options()
    refined = None if cameras is None else CamerasFile.read(Path(cameras))
    target = Path(output).expanduser().resolve()
    check_place(target, ConversionError, Path(archive_path).expanduser())
    archive = VeriserumArchive(archive_path, white_level=options.white)
    check_place(target, ConversionError, archive.layout.root)
    per_config = {config: replace(options, config=config) for config in configs}
    record = _record(archive, options, configs, format, shard_size_bytes)
    if refined is not None:
        record["options"] |= refined.about
    if (result := finished(target, record)) is not None:
        return result
    agreement = require_agreement(archive)
    plans = {config: make_plan(archive, each) for config, each in per_config.items()}
    if refined is not None:
        plans |= {
            config: plan_with_cameras(plan, refined.cameras)
            for config, plan in plans.items()
            if config in KIND_OF_CONFIG
        }
    raw = archive.raw_format
    reads = sorted({archive.layout.root, *(Path(file.path).parent for file in archive.layout.every_file())})
    del archive  # frees hundreds of MB that the plans do not need

    def unchanged(incomplete: Path) -> None:
        if find_layout(archive_path, Findings()).fingerprint() != record["archive"]["fingerprint"]:
            raise ConversionError(
                f"{archive_path} has changed while it was converted. {incomplete} may hold rows of both states: "
                "remove it, then run again."
            )

    def card(configs: Sequence[str], above_white: Mapping[str, int]) -> CardText:
        shown = {config: per_config[config] for config in configs}
        distortions = str(record["decisions"].get(DISTORTION_FORM, {}).get("answer", ""))
        return archive_card(shown, above_white, distortions, simulated=record["archive"]["simulated"])

    work = Work(
        record,
        plans,
        {config: ArchiveRows(each, raw) for config, each in per_config.items()},
        card,
        options.split_by,
        unchanged,
        lambda: mesh_records(plans["anatomies"].splits["train"]) if "anatomies" in plans else [],
        [str(problem) for problem in agreement.problems],
        {LABELS_AND_IMAGES: asdict(agreement.decisions[LABELS_AND_IMAGES])},
        {},
        reads,
    )
    return write_folder(work, target, format, shard_size_bytes, workers, executor, progress)


def _record(
    archive: VeriserumArchive, options: Options, configs: tuple[str, ...], format: ShardFormat, shard_size_bytes: int
) -> Record:
    choices = {name: value for name, value in asdict(options).items() if name != "config"}
    source = source_hash(*SOURCES_OF_ROWS)
    versions = {"veriserum_hf": __version__, "source": source, "datasets": datasets.__version__}
    return {
        "versions": versions | library_versions(),
        "options": choices | {"configs": list(configs), "format": format, "shard_size_bytes": shard_size_bytes},
        "archive": {
            "fingerprint": archive.fingerprint(),
            "tables": archive.layout.where("poses"),
            "simulated": archive.layout.simulated,
        },
        "decisions": {name: asdict(decision) for name, decision in archive.decisions.items()},
    }


def parse_size(text: str) -> int:
    """Bytes of a size such as ``500MB``, ``1.5GB`` or ``300000``.

    Raises
    ------
    ConversionError
        If it is not such a size.

    """
    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
    match = re.fullmatch(r"([0-9.]+)\s*([KMG]?)B?", text.strip().upper())
    try:
        size = int(float(match[1]) * units[match[2]]) if match else 0
    except ValueError:
        size = 0
    if size < 1:
        raise ConversionError(f"expected a size such as 500MB or 1.5GB, got {text!r}")
    return size
