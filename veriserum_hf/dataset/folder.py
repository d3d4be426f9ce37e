"""A folder that is ready for the hub, from planned rows: of an archive, or of own frames.

Everything is written below ``OUT.incomplete`` and renamed to ``OUT`` in one step at the end, so that ``OUT`` is
always complete. The division into shards is fixed before the first shard is written, and every shard appears under
its name in one step, after its record of rejected frames: interrupted work resumes where it stopped, and its result
is the same to the byte.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from veriserum_hf.core import ShardFormat, listed
from veriserum_hf.dataset.card import CardText, SplitSize, empty_splits, write_card
from veriserum_hf.dataset.mesh_records import MeshRecord, described_meshes
from veriserum_hf.dataset.plan import Plan
from veriserum_hf.dataset.shards import DATA, RejectedRow, RowMaker, ShardJob, plan_jobs
from veriserum_hf.dataset.splits import SPLIT_SEED
from veriserum_hf.errors import ConversionError
from veriserum_hf.jobs import (
    SUMS,
    damaged_files,
    incomplete_folder,
    keep_whole,
    put_in_place,
    run_jobs,
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


class SourceRecord(TypedDict):
    """What the rows are made from; of own frames, the study."""

    fingerprint: str
    tables: str
    simulated: bool
    imported: NotRequired[bool]  # own frames of a laboratory


class Record(TypedDict):
    """Two conversions with the same record are the same."""

    versions: dict[str, str]
    options: dict[str, object]
    archive: SourceRecord
    decisions: dict[str, dict[str, object]]


@dataclass(frozen=True)
class ConversionResult:
    """What a conversion wrote.

    Attributes
    ----------
    output : the finished folder.
    counts : per configuration: ``measurements`` of the archive (or implants, or phantom frames), ``rows`` by split,
        ``rejected`` by reason, ``without_pose`` of the configuration's kind, and ``filtered`` by the options; the
        latter four add up to the first. Own frames without a pose become rows, and are counted as both.
    rejected : rows that could not be made, as in ``rejected.jsonl``.
    meshes : implants whose mesh was mended, rewritten, or is not a sound solid.
    above_white : per configuration: measurements with a frame of 16 bits that has more than 0.1 % of its pixels
        above white. They are written, clipped.
    problems : of labels and images, such as an order of quaternions that they do not determine, as sentences.
    split : that all rows were requested in; None: several.

    """

    output: Path
    counts: dict[str, Counts]
    rejected: list[RejectedRow]
    meshes: list[MeshRecord]
    above_white: dict[str, list[int]]
    problems: list[str]
    split: str | None = None

    @property
    def empty_splits(self) -> dict[str, list[str]]:
        """By configuration of frames, splits without a row, unless one split was requested.

        See `veriserum_hf.dataset.card.empty_splits`.
        """
        if self.split is not None:
            return {}
        return empty_splits({config: count["rows"] for config, count in self.counts.items()})


@dataclass(frozen=True)
class Work:
    """Planned rows, and what else a finished folder states.

    Attributes
    ----------
    record : what makes two pieces of work the same.
    plans, makers : by configuration.
    card : the text of the card, from the configurations that have rows, and by configuration the number of
        measurements with pixels above white.
    split_by : what the splits go by, for the record.
    unchanged : raises ConversionError where the input has changed since it was planned.
    meshes : implants whose mesh was mended, rewritten, or is not a sound solid; called once, at the end.
    problems : sentences for the result.
    more : further entries of the record that depend on the machine.
    files : content of further files of the folder, by name.
    reads : folders that the makers read.

    """

    record: Record
    plans: Mapping[str, Plan]
    makers: Mapping[str, RowMaker]
    card: Callable[[Sequence[str], Mapping[str, int]], CardText]
    split_by: str
    unchanged: Callable[[Path], None]
    meshes: Callable[[], list[MeshRecord]]
    problems: Sequence[str]
    more: Mapping[str, object]
    files: Mapping[str, str]
    reads: Sequence[Path]


def write_folder(
    work: Work,
    target: Path,
    format: ShardFormat,
    shard_size_bytes: int,
    workers: int | None,
    executor: Executor | None,
    progress: Callable[[int, int], None] | None,
) -> ConversionResult:
    """Make the rows and put the folder in place, or resume work that was interrupted.

    Parameters
    ----------
    work : what there is to do.
    target : folder to create, resolved.
    format : of the shards.
    shard_size_bytes : approximate maximum size of a shard.
    workers : processes; None: one for each core. The result does not depend on it.
    executor : runs the work instead of processes of this machine; see `veriserum_hf.jobs.run_jobs`.
    progress : called with the number of rows done and of all.

    Raises
    ------
    ConversionError
        If the output cannot be made, or the input has changed meanwhile.

    """
    with staging_folder(target, work.record, "conversion", ConversionError) as incomplete:
        keep_whole(incomplete)
        (incomplete / DATA).mkdir(exist_ok=True)
        if (result := finished(target, work.record)) is not None:  # by another process, a moment ago
            return result
        jobs = plan_jobs(work.plans, work.makers, format, shard_size_bytes, incomplete)
        run_jobs(jobs, workers, progress, executor=executor, folder=incomplete, reads=work.reads)
        work.unchanged(incomplete)
        return _finish(work, jobs, target, incomplete)


def finished(target: Path, record: Record) -> ConversionResult | None:
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
    meshes, above_white, problems = (found[name] for name in ("meshes", "above_white", "problems"))
    return ConversionResult(
        target, found["counts"], rejected, meshes, above_white, problems, _requested_split(record)
    )


def _requested_split(record: Record) -> str | None:
    split = record["options"].get("split")
    return None if split is None else str(split)


def _finish(work: Work, jobs: list[ShardJob], target: Path, incomplete: Path) -> ConversionResult:
    """Write card and records, and rename the folder to the output."""
    shard_records = [(job, json.loads(job.record.read_text())) for job in jobs]
    rejected = [row for _, shard_record in shard_records for row in shard_record["rejected"]]
    sizes: dict[str, dict[str, SplitSize]] = {config: {} for config in work.plans}
    for job, shard_record in shard_records:
        size = sizes[job.shard.config].setdefault(job.shard.split, SplitSize())
        size.add(shard_record["rows"], shard_record["bytes"], job.file.stat().st_size)
    above_white: dict[str, list[int]] = {config: [] for config in work.plans}
    for job, shard_record in shard_records:
        above_white[job.shard.config] += shard_record["above_white"]
    counts = {config: _config_counts(plan, sizes[config], rejected, config) for config, plan in work.plans.items()}
    for job in jobs:  # a split without rows is not written
        if not sizes[job.shard.config][job.shard.split].rows:
            job.file.unlink()
    sizes = {c: made for c, splits in sizes.items() if (made := {s: size for s, size in splits.items() if size.rows})}
    if not sizes:
        raise ConversionError(f"no row could be made: {len(rejected)} were rejected, the first for {rejected[0]}")
    data = incomplete / DATA
    write_listed(incomplete, data / "rejected.jsonl", "".join(json.dumps(row) + "\n" for row in rejected))
    trials = {str(id): split for plan in work.plans.values() for id, split in sorted(plan.trials.items())}
    splits = {"split_by": work.split_by, "seed": SPLIT_SEED, "trials": trials}
    write_listed(incomplete, data / "splits.json", json.dumps(splits, indent=1))
    for name, content in work.files.items():
        write_listed(incomplete, data / name, content)
    meshes = work.meshes()
    write_card(
        data / "README.md",
        work.card(list(sizes), {config: len(ids) for config, ids in above_white.items()}),
        {config: work.makers[config].features for config in sizes},
        sizes,
        jobs[0].format,
        identity=hashlib.sha256(json.dumps(work.record, sort_keys=True).encode()).hexdigest()[:16],
        meshes=described_meshes(meshes),
    )
    problems = list(work.problems)
    # Not of the record that a resumed conversion is compared by: another processor may round a score in another way.
    results = {"counts": counts, "above_white": above_white, **work.more, "problems": problems, "meshes": meshes}
    write_listed(incomplete, data / _RECORD, json.dumps(work.record | results, indent=1))
    write_sums(incomplete, data)  # without the card, which its owner may edit
    put_in_place(data, target)
    return ConversionResult(target, counts, rejected, meshes, above_white, problems, _requested_split(work.record))


def _config_counts(plan: Plan, sizes: dict[str, SplitSize], rejected: list[RejectedRow], config: str) -> Counts:
    """Destination of every measurement (or implant) of the archive; nothing is dropped silently."""
    reasons = Counter(str(row["reason"]) for row in rejected if row["config"] == config)
    refused = {row.get("measurement_id") for row in rejected if row["config"] == config}
    rows = {split: size.rows for split, size in sizes.items()}
    if sum(rows.values()) + reasons.total() + plan.without_pose + plan.filtered != plan.measurements:
        raise RuntimeError(f"{config}: {rows}, {reasons} and {plan} do not add up")
    return {
        "measurements": plan.measurements,
        "rows": rows,
        "rejected": dict(sorted(reasons.items())),
        "without_pose": plan.without_pose + len(plan.without_initial - refused),
        "filtered": plan.filtered,
    }
