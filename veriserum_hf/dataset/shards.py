"""Shards of a conversion: which rows go where, each written in one step."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
from datasets import Features

from veriserum_hf.core import ShardFormat
from veriserum_hf.dataset.convert import AboveWhite, Rejected
from veriserum_hf.dataset.plan import Plan
from veriserum_hf.jobs import arrow_file, listed_path, parquet_file, write_listed

DATA = "data"  # below the folder of unfinished work: the future result; the shards' records are next to it
# Writer and reader hold one group of rows in memory.
_MOST_ROWS_PER_GROUP, _BYTES_PER_GROUP = 25, 16_000_000
# Small archives too have enough shards for several workers; their number does not depend on that of workers.
_FEWEST_SHARDS, _FEWEST_ROWS_PER_SHARD = 16, 200
_SAMPLED_ROWS = 8
RejectedRow = dict[str, int | str]  # config, split, id, reason and detail


class RowMaker(Protocol):
    """Makes finished rows of a configuration from any slice of its plan; it travels to other processes."""

    @property
    def features(self) -> Features:
        """Features of the finished rows."""

    def make(self, plan: pa.Table, bright: list[AboveWhite]) -> tuple[pa.Table, list[Rejected]]:
        """Finished rows, and those that could not be made; adds to the frames that are brighter than white."""


@dataclass(frozen=True)
class Shard:
    """One file of the result: its place, and the rows of the plan that it is made from."""

    config: str
    split: str
    index: int
    count: int
    first_row: int
    rows: int
    rows_per_group: int

    def file_name(self, format: ShardFormat) -> str:
        """Path below the output folder."""
        return f"{self.config}/{self.split}-{self.index:05d}-of-{self.count:05d}.{format}"


@dataclass(frozen=True)
class ShardJob:
    """One shard to write, with everything that a worker process needs.

    Attributes
    ----------
    shard : its place.
    plan : the rows of the plan that it is made from.
    maker : makes them.
    format : of the file.
    incomplete : folder of unfinished work.

    """

    shard: Shard
    plan: pa.Table
    maker: RowMaker
    format: ShardFormat
    incomplete: Path

    @property
    def file(self) -> Path:
        """The shard under its own name."""
        return self.incomplete / DATA / self.shard.file_name(self.format)

    @property
    def record(self) -> Path:
        """Rejected rows and sizes of the shard; written before the shard appears under its name."""
        return self.incomplete / f"{self.shard.file_name(self.format).replace('/', '-')}.json"

    @property
    def units(self) -> int:
        """Rows, which progress is counted in."""
        return self.shard.rows

    @property
    def done(self) -> bool:
        """Whether the shard is finished."""
        return self.file.exists() and self.record.exists()

    def run(self, advance: Callable[[int], None]) -> None:
        """Write the shard, one row group after the other, so that memory does not grow with it."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        rejected: list[RejectedRow] = []
        bright: list[AboveWhite] = []
        rows_written = bytes_written = 0
        with listed_path(self.incomplete, self.file) as partial:
            with _writer(partial, self.maker.features.arrow_schema, self.format) as write:
                for first in range(0, self.plan.num_rows, self.shard.rows_per_group):
                    rows = self.plan.slice(first, self.shard.rows_per_group)
                    table, refused = self.maker.make(rows, bright)
                    if table.num_rows:  # readers do not expect an empty group
                        write(table)
                    where: RejectedRow = {"config": self.shard.config, "split": self.shard.split}
                    rejected += [
                        where | {self.plan.column_names[0]: r.id, "reason": r.reason, "detail": r.detail}
                        for r in refused
                    ]
                    rows_written, bytes_written = rows_written + table.num_rows, bytes_written + table.nbytes
                    del table  # before the next group is made, so that memory holds one
                    advance(rows.num_rows)
            about = {"rows": rows_written, "bytes": bytes_written, "rejected": rejected}
            about["above_white"] = sorted({each.measurement_id for each in bright})
            write_listed(self.incomplete, self.record, json.dumps(about))


def _writer(path: Path, schema: pa.Schema, format: ShardFormat) -> AbstractContextManager[Callable[[pa.Table], None]]:
    if format == "arrow":
        return arrow_file(path, schema)
    return parquet_file(
        path,
        schema,
        use_dictionary=["task", "implant_pair"],
        # With content-defined chunks the hub stores only the differences between two versions of a data set.
        use_content_defined_chunking=True,
        write_page_index=True,
    )


def plan_jobs(
    plans: Mapping[str, Plan],
    makers: Mapping[str, RowMaker],
    format: ShardFormat,
    shard_size_bytes: int,
    incomplete: Path,
) -> list[ShardJob]:
    """Every shard of a conversion, by configuration and split, with the rows that it is made from.

    Parameters
    ----------
    plans, makers : by configuration.
    format : see `ShardJob`.
    shard_size_bytes : approximate maximum size of a shard.
    incomplete : folder of unfinished work. The division into shards is kept there: a resumed conversion does
        not depend on the sample of rows that determined it.

    """
    kept = incomplete / "shards.json"
    if kept.exists():
        shards = [Shard(**shard) for shard in json.loads(kept.read_text())]
    else:
        shards = [
            shard
            for config, plan in plans.items()
            for shard in _divided(config, plan, shard_size_bytes, _bytes_per_row(plan, makers[config]))
        ]
        write_listed(incomplete, kept, json.dumps([asdict(shard) for shard in shards]))

    def rows(shard: Shard) -> pa.Table:
        # In separate buffers; a slice would send the whole plan to the worker.
        indices = pa.array(range(shard.first_row, shard.first_row + shard.rows))
        return plans[shard.config].splits[shard.split].take(indices)

    return [ShardJob(shard, rows(shard), makers[shard.config], format, incomplete) for shard in shards]


def _bytes_per_row(plan: Plan, maker: RowMaker) -> float:
    """Estimated from a few finished rows from all parts of the plan."""
    every = pa.concat_tables(plan.splits.values())
    sample = range(0, every.num_rows, max(1, every.num_rows // _SAMPLED_ROWS))
    sizes = [
        (table.nbytes, table.num_rows)
        for table, _ in (maker.make(every.take(pa.array([index])), []) for index in sample)
    ]
    bytes_made, rows_made = map(sum, zip(*sizes, strict=True))
    return bytes_made / rows_made if rows_made else 1_000_000.0


def _divided(config: str, plan: Plan, shard_size_bytes: int, bytes_per_row: float) -> Iterator[Shard]:
    all_rows = sum(rows.num_rows for rows in plan.splits.values())
    rows_of_equal_shards = max(_FEWEST_ROWS_PER_SHARD, all_rows // _FEWEST_SHARDS)
    rows_per_shard = max(1, min(int(shard_size_bytes / bytes_per_row), rows_of_equal_shards))
    rows_per_group = max(1, min(_MOST_ROWS_PER_GROUP, int(_BYTES_PER_GROUP / bytes_per_row)))
    for split, rows in plan.splits.items():
        count = -(-rows.num_rows // rows_per_shard)
        edges = [rows.num_rows * index // count for index in range(count + 1)]
        for index in range(count):
            size = edges[index + 1] - edges[index]
            yield Shard(config, split, index, count, edges[index], size, rows_per_group)
