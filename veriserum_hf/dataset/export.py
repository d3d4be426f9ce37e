"""``veriserum convert``: an archive to a folder that is ready for the hub.

Everything is written below ``OUT.incomplete`` and renamed to ``OUT`` in one step at the end, so that ``OUT`` is
always complete. The division into shards is fixed before the first shard is written, and every shard appears under
its name in one step, after its record of rejected frames: an interrupted conversion resumes where it stopped, and its
result is the same to the byte.
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypedDict

import datasets

from veriserum_hf.archive import (
    DISTORTION_FORM,
    LABELS_AND_IMAGES,
    Findings,
    VeriserumArchive,
    find_layout,
    require_agreement,
)
from veriserum_hf.core import ShardFormat, __version__, listed
from veriserum_hf.dataset.card import SplitSize, empty_splits, write_card
from veriserum_hf.dataset.mesh_records import MeshRecord, described_meshes, mesh_records
from veriserum_hf.dataset.plan import Options, Plan, make_plan
from veriserum_hf.dataset.plugin import SOURCES_OF_ROWS
from veriserum_hf.dataset.shards import DATA, RejectedRow, ShardJob, plan_jobs
from veriserum_hf.dataset.splits import SPLIT_SEED
from veriserum_hf.errors import ConversionError
from veriserum_hf.jobs import (
    SUMS,
    check_place,
    cores,
    damaged_files,
    incomplete_folder,
    keep_whole,
    library_versions,
    put_in_place,
    run_jobs,
    source_hash,
    staging_folder,
    write_listed,
    write_sums,
)

_RECORD = "conversion.json"


class Counts(TypedDict):
    """Destination of the rows of a configuration."""

    measurements: int
    rows: dict[str, int]  # by split
    rejected: dict[str, int]  # by reason
    without_pose: int
    filtered: int


class _Archive(TypedDict):
    fingerprint: str
    tables: str
    simulated: bool


class _Record(TypedDict):
    """Two conversions with the same record are the same."""

    versions: dict[str, str]
    options: dict[str, object]
    archive: _Archive
    decisions: dict[str, dict[str, object]]


@dataclass(frozen=True)
class ConversionResult:
    """What a conversion wrote.

    Attributes
    ----------
    output : the finished folder.
    counts : per configuration: ``measurements`` of the archive (or implants, or phantom frames), ``rows`` by split,
        ``rejected`` by reason, ``without_pose`` of the configuration's kind, and ``filtered`` by the options; the
        latter four add up to the first.
    rejected : rows that could not be made, as in ``rejected.jsonl``.
    meshes : implants whose mesh was mended, rewritten, or is not a sound solid.
    above_white : per configuration: measurements with a frame of 16 bits that has more than 0.1 % of its pixels
        above white. They are written, clipped.
    problems : of labels and images, such as an order of quaternions that they do not determine, as sentences.

    """

    output: Path
    counts: dict[str, Counts]
    rejected: list[RejectedRow]
    meshes: list[MeshRecord]
    above_white: dict[str, list[int]]
    problems: list[str]

    @property
    def empty_splits(self) -> dict[str, list[str]]:
        """By configuration of frames, splits without a row; see `veriserum_hf.dataset.card.empty_splits`."""
        return empty_splits({config: count["rows"] for config, count in self.counts.items()})


def convert_archive(
    archive_path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    configs: tuple[str, ...] = ("calibrated", "anatomies"),
    options: Options | None = None,
    format: ShardFormat = "parquet",
    shard_size_bytes: int = 500_000_000,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionResult:
    """Convert an archive to a folder ready for the hub, or resume an interrupted conversion.

    Parameters
    ----------
    archive_path : the archive's folder, database or pose CSV.
    output : folder to create; it must not exist, or be empty.
    configs : which configurations to write.
    options : see `Options`; its ``config`` is ignored.
    format : of the shards.
    shard_size_bytes : approximate maximum size of a shard.
    workers : processes; None: one for each core. The result does not depend on it.
    progress : called with the number of rows done and of all.

    Raises
    ------
    ArchiveError
        If the archive's structure is invalid, or labels and images do not agree; nothing is written then.
    ConversionError
        If the output cannot be made: it exists, is damaged, belongs to another conversion, is within the archive
        or the archive within it, is the current folder, or the disk is full.

    """
    options = options or Options()
    target = Path(output).expanduser().resolve()
    check_place(target, ConversionError, Path(archive_path).expanduser())
    archive = VeriserumArchive(archive_path, white_level=options.white)
    check_place(target, ConversionError, archive.layout.root)
    per_config = {config: replace(options, config=config) for config in configs}
    record = _record(archive, options, configs, format, shard_size_bytes)
    if (finished := _finished(target, record)) is not None:
        return finished
    agreement = require_agreement(archive)
    plans = {config: make_plan(archive, each) for config, each in per_config.items()}
    raw = archive.raw_format
    del archive  # frees hundreds of MB that the plans do not need
    with staging_folder(target, record, "conversion", ConversionError) as incomplete:
        keep_whole(incomplete)
        (incomplete / DATA).mkdir(exist_ok=True)
        if (finished := _finished(target, record)) is not None:  # by another process, a moment ago
            return finished
        jobs = plan_jobs(plans, per_config, raw, format, shard_size_bytes, incomplete)
        run_jobs(jobs, workers or cores(), progress)
        if find_layout(archive_path, Findings()).fingerprint() != record["archive"]["fingerprint"]:
            raise ConversionError(
                f"{archive_path} has changed while it was converted. {incomplete} may hold rows of both states: "
                "remove it, then run again."
            )
        return _finish(record, plans, per_config, jobs, target, incomplete, agreement)


def _record(
    archive: VeriserumArchive, options: Options, configs: tuple[str, ...], format: ShardFormat, shard_size_bytes: int
) -> _Record:
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


def _finished(target: Path, record: _Record) -> ConversionResult | None:
    """Result of the same conversion if it exists already; ConversionError if that is damaged."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        found = json.loads((target / _RECORD).read_text())
        rejected = [json.loads(line) for line in (target / "rejected.jsonl").read_text().splitlines()]
    except (OSError, ValueError, RecursionError):
        found, rejected = {}, []
    if not isinstance(found, dict) or {name: found.get(name) for name in record} != json.loads(json.dumps(record)):
        raise ConversionError(
            f"{target} exists and is not the result of this conversion (same archive, options and versions). "
            "Nothing was changed. Choose another folder, or remove this one."
        )
    if damaged := damaged_files(target):
        raise ConversionError(
            f"{target} is the result of this conversion, but damaged: {listed(damaged)} missing or not as written "
            f"(see {SUMS}). Remove the folder and run the same command again, or copy it again."
        )
    shutil.rmtree(incomplete_folder(target), ignore_errors=True)  # if killed during the clean-up
    results = (found[name] for name in ("meshes", "above_white", "problems"))
    return ConversionResult(target, found["counts"], rejected, *results)


def _finish(
    record: _Record,
    plans: dict[str, Plan],
    options: dict[str, Options],
    jobs: list[ShardJob],
    target: Path,
    incomplete: Path,
    agreement: Findings,
) -> ConversionResult:
    """Write card and records, and rename the folder to the output."""
    shard_records = [(job, json.loads(job.record.read_text())) for job in jobs]
    rejected = [row for _, shard_record in shard_records for row in shard_record["rejected"]]
    sizes: dict[str, dict[str, SplitSize]] = {config: {} for config in plans}
    for job, shard_record in shard_records:
        size = sizes[job.shard.config].setdefault(job.shard.split, SplitSize())
        size.add(shard_record["rows"], shard_record["bytes"], job.file.stat().st_size)
    above_white: dict[str, list[int]] = {config: [] for config in plans}
    for job, shard_record in shard_records:
        above_white[job.shard.config] += shard_record["above_white"]
    counts = {config: _config_counts(plan, sizes[config], rejected, config) for config, plan in plans.items()}
    for job in jobs:  # a split without rows is not written
        if not sizes[job.shard.config][job.shard.split].rows:
            job.file.unlink()
    sizes = {c: made for c, splits in sizes.items() if (made := {s: size for s, size in splits.items() if size.rows})}
    if not sizes:
        raise ConversionError(f"no row could be made: {len(rejected)} were rejected, the first for {rejected[0]}")
    data = incomplete / DATA
    write_listed(incomplete, data / "rejected.jsonl", "".join(json.dumps(row) + "\n" for row in rejected))
    trials = {str(id): split for plan in plans.values() for id, split in sorted(plan.trials.items())}
    split_by = next(iter(options.values())).split_by
    splits = {"split_by": split_by, "seed": SPLIT_SEED, "trials": trials}
    write_listed(incomplete, data / "splits.json", json.dumps(splits, indent=1))
    card_options = {config: options[config] for config in sizes}
    identity = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
    simulated = record["archive"]["simulated"]
    meshes = mesh_records(plans["anatomies"].splits["train"]) if "anatomies" in plans else []
    write_card(
        data / "README.md",
        card_options,
        sizes,
        jobs[0].format,
        simulated=simulated,
        identity=identity,
        meshes=described_meshes(meshes),
        above_white={config: len(ids) for config, ids in above_white.items()},
        distortions=str(record["decisions"].get(DISTORTION_FORM, {}).get("answer", "")),
    )
    # Not of the record that a resumed conversion is compared by: another processor may round a score in another way.
    results = {
        "counts": counts,
        "above_white": above_white,
        LABELS_AND_IMAGES: asdict(agreement.decisions[LABELS_AND_IMAGES]),
        "problems": (problems := [str(problem) for problem in agreement.problems]),
        "meshes": meshes,
    }
    write_listed(incomplete, data / _RECORD, json.dumps(record | results, indent=1))
    write_sums(incomplete, data)  # without the card, which its owner may edit
    put_in_place(data, target)
    return ConversionResult(target, counts, rejected, meshes, above_white, problems)


def _config_counts(plan: Plan, sizes: dict[str, SplitSize], rejected: list[RejectedRow], config: str) -> Counts:
    """Destination of every measurement (or implant) of the archive; nothing is dropped silently."""
    reasons = Counter(str(row["reason"]) for row in rejected if row["config"] == config)
    rows = {split: size.rows for split, size in sizes.items()}
    if sum(rows.values()) + reasons.total() + plan.without_pose + plan.filtered != plan.measurements:
        raise RuntimeError(f"{config}: {rows}, {reasons} and {plan} do not add up")
    return {
        "measurements": plan.measurements,
        "rows": rows,
        "rejected": dict(sorted(reasons.items())),
        "without_pose": plan.without_pose,
        "filtered": plan.filtered,
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
