"""``veriserum convert``: an archive to a folder that is ready for the hub.

Everything is written below ``OUT.incomplete`` and put in place as ``OUT`` in one step at the very end, so that
a folder that looks whole is whole. What goes into which shard is settled before the first shard is written, and
every shard appears under its name in one step, after its record of rejected frames: an interrupted conversion goes
on where it stopped, and its result is the same to the byte.
"""

import json
import multiprocessing
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

import veriserum_hf
from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.dataset.builder import source_hash
from veriserum_hf.dataset.card import SplitSize, write_card
from veriserum_hf.dataset.convert import convert
from veriserum_hf.dataset.plan import Options, Plan, make_plan
from veriserum_hf.dataset.splits import SPLIT_SEED
from veriserum_hf.errors import ConversionError

Format = Literal["parquet", "arrow"]
_ROWS_PER_GROUP = 100
_SAMPLED_ROWS = 8
_RECORD = "conversion.json"
_DATA = "data"  # below OUT.incomplete: what becomes OUT; beside it lie the records of the shards

_worker_state: Any = None  # in a worker process: rows done by all workers, and whether to stop


@dataclass(frozen=True)
class Shard:
    """One file of the result: where it goes, and the rows of the plan it is made of."""

    config: str
    split: str
    index: int
    count: int
    first_row: int
    rows: int

    def file_name(self, format: Format) -> str:
        """Path below the output folder."""
        return f"{self.config}/{self.split}-{self.index:05d}-of-{self.count:05d}.{format}"


@dataclass(frozen=True)
class ConversionResult:
    """What a conversion wrote.

    Attributes
    ----------
    output : the finished folder.
    counts : per configuration: measurements, rows written, rejected and left out.
    rejected : rows that could not be made, as in ``rejected.jsonl``.

    """

    output: Path
    counts: dict[str, dict[str, Any]]
    rejected: list[dict[str, Any]]


def export(
    archive_path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    configs: tuple[str, ...] = ("calibrated", "anatomies"),
    options: Options | None = None,
    format: Format = "parquet",
    shard_size_bytes: int = 500_000_000,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionResult:
    """Convert an archive to a folder ready for the hub, or go on with a conversion that was interrupted.

    Parameters
    ----------
    archive_path : the archive's folder, database or pose CSV.
    output : folder to make; it must not exist, or be empty.
    configs : which configurations to write.
    options : see `Options`; its ``config`` is ignored.
    format : of the shards.
    shard_size_bytes : size that a shard comes close to.
    workers : processes; None for one a core. The result does not depend on it.
    progress : called with the number of rows done and of all.

    Raises
    ------
    ArchiveError
        If the archive's structure cannot be relied on; no frame is read then.
    ConversionError
        If the output cannot be made: it exists, belongs to another conversion, or the disk is full.

    """
    options = options or Options()
    target = Path(output).expanduser().absolute()
    incomplete = target.with_name(target.name + ".incomplete")
    archive = VeriserumArchive(archive_path)
    per_config = {config: replace(options, config=config) for config in configs}
    record = _record(archive, options, configs, format, shard_size_bytes)
    if (finished := _finished(target, record)) is not None:
        return finished
    plans = {config: make_plan(archive, each) for config, each in per_config.items()}
    with _working_in(target, incomplete, record):
        for abandoned in incomplete.glob("**/.*.partial"):  # of a process that was killed
            abandoned.unlink(missing_ok=True)
        shards = _shards(plans, per_config, archive.white_level, shard_size_bytes, incomplete)
        jobs = [
            _Job(
                shard,
                _rows(plans[shard.config], shard),
                per_config[shard.config],
                archive.white_level,
                format,
                incomplete,
            )
            for shard in shards
        ]
        _run(jobs, workers or os.cpu_count() or 1, progress)
        return _finish(record, plans, per_config, jobs, target, incomplete)


def _record(
    archive: VeriserumArchive, options: Options, configs: tuple[str, ...], format: Format, shard_size_bytes: int
) -> dict[str, Any]:
    """What makes two conversions the same."""
    choices = {name: value for name, value in asdict(options).items() if name != "config"}
    libraries = {"datasets": datasets.__version__, "pyarrow": pa.__version__}
    return {
        "versions": {"veriserum_hf": veriserum_hf.__version__, "source": source_hash(), **libraries},
        "options": choices | {"configs": list(configs), "format": format, "shard_size_bytes": shard_size_bytes},
        "archive": {"fingerprint": archive.fingerprint(), "tables": archive.layout.tables_file},
        "decisions": {name: asdict(decision) for name, decision in archive.decisions.items()},
    }


def _finished(target: Path, record: dict[str, Any]) -> ConversionResult | None:
    """Result of the same conversion where it is there already."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        found = json.loads((target / _RECORD).read_text())
    except (OSError, ValueError):
        found = {}
    if {name: found.get(name) for name in record} != json.loads(json.dumps(record)):
        raise ConversionError(
            f"{target} exists and is not the result of this conversion (same archive, options and versions). "
            "Nothing was changed. Choose another folder, or remove this one."
        )
    shutil.rmtree(target.with_name(target.name + ".incomplete"), ignore_errors=True)  # if killed while tidying up
    rejected = [json.loads(line) for line in (target / "rejected.jsonl").read_text().splitlines()]
    return ConversionResult(target, found["counts"], rejected)


@contextmanager
def _working_in(target: Path, incomplete: Path, record: dict[str, Any]) -> Iterator[None]:
    """Hold the folder of unfinished work, made anew or left by the same conversion; say what the disk says."""
    if target.is_mount():
        raise ConversionError(
            f"{target} is a mount point and cannot be put in place in one step. Choose a folder in it."
        )
    try:
        (incomplete / _DATA).mkdir(parents=True, exist_ok=True)
        with FileLock(incomplete / "lock", timeout=0):
            record_file = incomplete / "record.json"
            if not record_file.exists():
                _write(record_file, json.dumps(record))
            elif json.loads(record_file.read_text()) != json.loads(json.dumps(record)):
                raise ConversionError(
                    f"{incomplete} holds an unfinished conversion of another archive, or with other options or "
                    "versions. Finish it with those, choose another folder, or remove it."
                )
            yield
    except Timeout:
        raise ConversionError(f"Another conversion is writing to {incomplete}. Wait for it, or stop it.") from None
    except OSError as error:
        raise ConversionError(
            f"Cannot write below {incomplete}: {error.strerror or error}. Finished shards are kept: make room or "
            "give the folder's rights, then run the same command again."
        ) from error


def _write(path: Path, text: str) -> None:
    """Write a small file in one step."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _rows(plan: Plan, shard: Shard) -> pa.Table:
    """Rows of a shard in buffers of their own; a slice would carry the whole plan to the worker."""
    return plan.splits[shard.split].take(pa.array(range(shard.first_row, shard.first_row + shard.rows)))


def _shards(
    plans: dict[str, Plan], options: dict[str, Options], white_level: int, shard_size_bytes: int, incomplete: Path
) -> list[Shard]:
    """Divide the plans so that shards come close to their size, judged by a sample of finished rows.

    The division is kept beside the work: going on with it does not depend on the sample being the same.
    """
    kept = incomplete / "shards.json"
    if kept.exists():
        return [Shard(**shard) for shard in json.loads(kept.read_text())]
    shards = []
    for config, plan in plans.items():
        every = pa.concat_tables(plan.splits.values())
        sample = range(0, every.num_rows, max(1, every.num_rows // _SAMPLED_ROWS))
        table, _ = convert(every.take(pa.array(sample)), options[config], white_level)
        rows_per_shard = max(1, shard_size_bytes * max(1, table.num_rows) // max(1, table.nbytes))
        for split, rows in plan.splits.items():
            count = -(-rows.num_rows // rows_per_shard)
            edges = [rows.num_rows * index // count for index in range(count + 1)]
            for index in range(count):
                shards.append(Shard(config, split, index, count, edges[index], edges[index + 1] - edges[index]))
    _write(kept, json.dumps([asdict(shard) for shard in shards]))
    return shards


@dataclass(frozen=True)
class _Job:
    """One shard to write, with all that a worker process needs."""

    shard: Shard
    plan: pa.Table
    options: Options
    white_level: int
    format: Format
    incomplete: Path

    @property
    def file(self) -> Path:
        return self.incomplete / _DATA / self.shard.file_name(self.format)

    @property
    def record(self) -> Path:
        """Rejected rows and sizes of the shard; written before the shard appears under its name."""
        return self.incomplete / f"{self.shard.file_name(self.format).replace('/', '-')}.json"

    @property
    def done(self) -> bool:
        return self.file.exists() and self.record.exists()

    def run(self, advance: Callable[[int], None]) -> None:
        """Write the shard, one row group after the other, so that memory does not grow with it."""
        partial = self.file.with_name(f".{self.file.name}.{os.getpid()}.partial")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        rejected: list[dict[str, Any]] = []
        rows_written = bytes_written = 0
        try:
            with _writer(partial, self.options.features.arrow_schema, self.format) as write:
                for first in range(0, self.plan.num_rows, _ROWS_PER_GROUP):
                    rows = self.plan.slice(first, _ROWS_PER_GROUP)
                    table, refused = convert(rows, self.options, self.white_level)
                    write(table)
                    where = {"config": self.shard.config, "split": self.shard.split}
                    rejected += [
                        where | {self.plan.column_names[0]: r.id, "reason": r.reason, "detail": r.detail}
                        for r in refused
                    ]
                    rows_written, bytes_written = rows_written + table.num_rows, bytes_written + table.nbytes
                    advance(rows.num_rows)
            _write(self.record, json.dumps({"rows": rows_written, "bytes": bytes_written, "rejected": rejected}))
            partial.replace(self.file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def _writer(path: Path, schema: pa.Schema, format: Format) -> Iterator[Callable[[pa.Table], None]]:
    if format == "arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            yield stream.write_table
    else:
        # Chunks cut by content let the hub store only what differs between two versions of a data set.
        with pq.ParquetWriter(
            path,
            schema,
            use_dictionary=["task", "implant_pair"],
            use_content_defined_chunking=True,
            write_page_index=True,
        ) as parquet:
            yield parquet.write_table


def _run(jobs: list[_Job], workers: int, progress: Callable[[int, int], None] | None) -> None:
    """Run the jobs that are not done, the long ones first, in this process or in several."""
    total = sum(job.shard.rows for job in jobs)
    done_before = sum(job.shard.rows for job in jobs if job.done)
    report = progress or (lambda done, all: None)
    report(done_before, total)
    waiting = sorted((job for job in jobs if not job.done), key=lambda job: -job.shard.rows)
    if workers == 1 or len(waiting) <= 1:
        done = done_before

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            report(done, total)

        for job in waiting:
            job.run(advance)
        return
    # A fresh interpreter each: forking a process that has threads (OpenCV, Arrow) is not safe.
    context = multiprocessing.get_context("spawn")
    state = (context.Value("q", 0), context.Event())
    pool = ProcessPoolExecutor(min(workers, len(waiting)), context, initializer=_start_worker, initargs=state)
    try:
        with _interrupts_held():  # the workers start with the first submission, and inherit it
            pending: set[Future[None]] = {pool.submit(_run_in_worker, job) for job in waiting}
        while pending:
            finished, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            report(done_before + state[0].value, total)
            for future in finished:
                future.result()
    except BrokenProcessPool as error:
        raise ConversionError(
            "A worker process was killed, perhaps for want of memory. Finished shards are kept: run the same command "
            "again, with fewer --workers."
        ) from error
    finally:
        state[1].set()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold interrupts back, for processes started in here for good: the parent is told and says when to stop."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, where `_start_worker` has to do
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(*state: Any) -> None:
    global _worker_state  # noqa: PLW0603 - the pool offers no other way to hand a worker what it shares
    _worker_state = state
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_in_worker(job: _Job) -> None:
    counter, stop = _worker_state

    def advance(rows: int) -> None:
        with counter.get_lock():
            counter.value += rows
        parent = multiprocessing.parent_process()
        if stop.is_set() or (parent and not parent.is_alive()):
            raise ConversionError("stopped")

    job.run(advance)


def _finish(
    record: dict[str, Any],
    plans: dict[str, Plan],
    options: dict[str, Options],
    jobs: list[_Job],
    target: Path,
    incomplete: Path,
) -> ConversionResult:
    """Write what describes the whole, and put the folder in its place."""
    shard_records = [(job, json.loads(job.record.read_text())) for job in jobs]
    rejected = [row for _, shard_record in shard_records for row in shard_record["rejected"]]
    sizes: dict[str, dict[str, SplitSize]] = {config: {} for config in plans}
    for job, shard_record in shard_records:
        size = sizes[job.shard.config].setdefault(job.shard.split, SplitSize())
        size.add(shard_record["rows"], shard_record["bytes"], job.file.stat().st_size)
    counts = {config: _config_counts(plan, sizes[config], rejected, config) for config, plan in plans.items()}
    data = incomplete / _DATA
    _write(data / "rejected.jsonl", "".join(json.dumps(row) + "\n" for row in rejected))
    trials = {str(id): split for plan in plans.values() for id, split in sorted(plan.trials.items())}
    split_by = next(iter(options.values())).split_by
    _write(data / "splits.json", json.dumps({"split_by": split_by, "seed": SPLIT_SEED, "trials": trials}, indent=1))
    write_card(data / "README.md", options, sizes, jobs[0].format)
    _write(data / _RECORD, json.dumps(record | {"counts": counts}, indent=1))
    if target.exists():
        target.rmdir()  # empty, or it would not have come this far
    data.rename(target)
    shutil.rmtree(incomplete)
    return ConversionResult(target, counts, rejected)


def _config_counts(
    plan: Plan, sizes: dict[str, SplitSize], rejected: list[dict[str, Any]], config: str
) -> dict[str, Any]:
    reasons = Counter(row["reason"] for row in rejected if row["config"] == config)
    return {
        "rows": {split: size.rows for split, size in sizes.items()},
        "rejected": dict(sorted(reasons.items())),
        "without_pose": plan.without_pose,
        "filtered": plan.filtered,
    }


def parse_size(text: str) -> int:
    """Bytes of a size such as ``500MB``, ``1.5GB`` or ``300000``.

    Raises
    ------
    ConversionError
        If it is no such size.

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
