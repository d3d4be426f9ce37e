"""``load_dataset("veriserum", ...)``: the builder that turns an archive into Arrow shards in the datasets cache.

The library has no way to plug a builder in, so `register` puts it into the library's own table of packaged
modules. Its cache is keyed on the archive (tables, frames' names, sizes and times), the options, and the source of
every module that shapes the rows.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import datasets
import pyarrow as pa
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.archive.frames import RawFormat
from veriserum_hf.archive.layout import find_layout
from veriserum_hf.archive.problems import Findings
from veriserum_hf.dataset.convert import convert
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.dataset.schema import CONFIGS
from veriserum_hf.errors import ArchiveError
from veriserum_hf.jobs.provenance import ROOMS_OF_ROWS, source_hash

NAME = "veriserum"
VERSION = "1.0.0"
_logger = datasets.utils.logging.get_logger(__name__)
# Frames a shard: the unit that is shared out to processes and to the workers of a streaming loader.
_ROWS_PER_SHARD = 200
_ROWS_PER_TABLE = 16


@dataclass
class VeriserumConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """A configuration and its options; see `veriserum_hf.dataset.plan.Options`."""

    size: int = 512
    encoding: str = "jpeg"
    bits: int = 8
    include_obsolete: bool = False
    anatomy_id: int | Sequence[int] | None = None
    split_by: str = "trial"

    @property
    def options(self) -> Options:
        """The options, checked."""
        chosen = {field.name: getattr(self, field.name) for field in fields(Options) if field.name != "config"}
        return Options(config=self.name, **chosen)

    @property
    def archive_path(self) -> str:
        """The path that was given as ``data_files`` or ``data_dir``."""
        files = [str(file) for split in (self.data_files or {}).values() for file in split]
        # With data_dir alone, the library lists every file below it as a data file.
        if self.data_dir is not None and len(files) != 1:
            return str(self.data_dir)
        if len(files) != 1:
            raise ArchiveError(
                f"load_dataset({NAME!r}) takes one archive; got {len(files)} data files. "
                'Give data_files="PATH/veriserumSqlite3_refined.db" or data_dir="PATH".'
            )
        return files[0]

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """Name of the cache folder: the configuration, its options, and the archive as it is now."""
        options = self.options
        fingerprint = find_layout(self.archive_path, Findings()).fingerprint()
        key = hashlib.sha256(f"{options}|{custom_features}|{fingerprint}".encode()).hexdigest()
        return f"{self.name}-{key[:16]}"


class Veriserum(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Builder of every configuration of the data set, from an archive on this machine."""

    BUILDER_CONFIG_CLASS = VeriserumConfig
    BUILDER_CONFIGS = tuple(
        VeriserumConfig(name=name, version=datasets.Version(VERSION), description=description)
        for name, description in CONFIGS.items()
    )
    DEFAULT_CONFIG_NAME = "calibrated"

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=CONFIGS[self.config.name], features=self.config.options.features)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        archive = VeriserumArchive(self.config.archive_path)
        plan = make_plan(archive, self.config.options)
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "shards": [_copied(table, first) for first in range(0, table.num_rows, _ROWS_PER_SHARD)],
                    "raw": archive.raw_format,
                },
            )
            for split, table in plan.splits.items()
        ]

    def _generate_tables(self, shards: list[pa.Table], raw: RawFormat) -> Iterator[tuple[Any, pa.Table]]:
        options = self.config.options
        for shard_index, shard in enumerate(shards):
            for first in range(0, shard.num_rows, _ROWS_PER_TABLE):
                table, rejected = convert(shard.slice(first, _ROWS_PER_TABLE), options, raw)
                for row in rejected:
                    _logger.warning(f"rejected {shard.column_names[0]} {row.id}: {row.reason}: {row.detail}")
                if table.num_rows:
                    yield (shard_index, first), table


def _copied(table: pa.Table, first: int) -> pa.Table:
    """Rows of one shard in buffers of their own; a slice would carry the whole table to another process."""
    return table.take(pa.array(range(first, min(first + _ROWS_PER_SHARD, table.num_rows))))


def register() -> None:
    """Make ``load_dataset("veriserum", ...)`` find this builder."""
    _PACKAGED_DATASETS_MODULES[NAME] = (__name__, source_hash(*ROOMS_OF_ROWS))
