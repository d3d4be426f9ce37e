"""``load_dataset("veriserum", ...)``: the builder that turns an archive into Arrow shards in the datasets cache.

Its cache is keyed on the archive (tables, frames' names, sizes and times), the options, and the source of
every module that shapes the rows.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path

import datasets
import pyarrow as pa

from veriserum_hf.archive import (
    WAYS_TO_AN_ARCHIVE,
    Findings,
    RawFormat,
    VeriserumArchive,
    chosen_archive,
    find_layout,
    require_agreement,
)
from veriserum_hf.dataset.convert import AboveWhite, convert
from veriserum_hf.dataset.plan import Options, make_plan
from veriserum_hf.dataset.plugin import NAME
from veriserum_hf.dataset.schema import CONFIGS
from veriserum_hf.errors import ArchiveError, SimulationError
from veriserum_hf.jobs import source_hash
from veriserum_hf.simulation import LIBRARIES_OF_FRAMES, SOURCES_OF_FRAMES, Settings

SIMULATED = "simulated"
ROWS_VERSION = "1.0.0"
_SIMULATED_DESCRIPTION = "The same rows as calibrated, of simulated frames: no archive is needed."
_logger = datasets.utils.logging.get_logger(__name__)
# Frames of a shard: the unit that is distributed to processes and to the workers of a streaming loader.
_ROWS_PER_SHARD, _SIMULATED_ROWS_PER_SHARD = 200, 30
_ROWS_PER_TABLE = 16


@dataclass
class VeriserumConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """A configuration and its options.

    See `veriserum_hf.dataset.plan.Options`; the fields after ``white`` request a simulated archive instead of one
    on this machine, see `veriserum_hf.simulation.Settings`.
    """

    size: int = 512
    encoding: str = "jpeg"
    bits: int = 8
    include_obsolete: bool = False
    anatomy_id: int | Sequence[int] | None = None
    split_by: str = "trial"
    white: int | None = None
    trials: int | None = None
    frames_per_trial: int | None = None
    pairs: int | None = None
    seed: int | None = None
    height_px: int | None = None

    @property
    def options(self) -> Options:
        """The options, checked."""
        chosen = {field.name: getattr(self, field.name) for field in fields(Options) if field.name != "config"}
        return Options(config="calibrated" if self.name == SIMULATED else self.name, **chosen)

    @property
    def simulation(self) -> Settings | None:
        """Settings of the simulation, checked; None if the rows come from an archive."""
        names = ("trials", "frames_per_trial", "pairs", "seed", "height_px")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.name != SIMULATED and not given:
            return None
        if self.data_files or self.data_dir:
            requested = ", ".join(given) or f"the configuration {SIMULATED!r}"
            raise SimulationError(
                f"{requested}: with this, load_dataset({NAME!r}) simulates an archive and takes none. Remove it, or "
                "data_files and data_dir."
            )
        return Settings(**given)

    @property
    def archive_path(self) -> str:
        """The path that was given as ``data_files`` or ``data_dir``; without either, that of the chosen archive."""
        files = [str(file) for split in (self.data_files or {}).values() for file in split]
        # With data_dir alone, the library lists every file below it as a data file.
        if self.data_dir is not None and len(files) != 1:
            return str(self.data_dir)
        if not files:
            if chosen := chosen_archive():
                return str(chosen.path)
            raise ArchiveError(
                f"load_dataset({NAME!r}) finds no archive. {WAYS_TO_AN_ARCHIVE}; or give "
                'data_files="PATH/veriserumSqlite3_refined.db" or data_dir="PATH", or trials=20 to simulate one.'
            )
        if len(files) != 1:
            raise ArchiveError(
                f"load_dataset({NAME!r}) takes one archive; got {len(files)} data files. "
                'Give data_files="PATH/veriserumSqlite3_refined.db" or data_dir="PATH".'
            )
        return files[0]

    def create_config_id(
        self, config_kwargs: dict[str, object], custom_features: datasets.Features | None = None
    ) -> str:
        """Name of the cache folder: the configuration, its options, and the current state of the archive."""
        options, simulation = self.options, self.simulation
        if simulation:
            fingerprint = f"{simulation}|{source_hash(*SOURCES_OF_FRAMES, libraries=LIBRARIES_OF_FRAMES)}"
        else:
            fingerprint = find_layout(self.archive_path, Findings()).fingerprint()
        key = hashlib.sha256(f"{options}|{custom_features}|{fingerprint}".encode()).hexdigest()
        return f"{self.name}-{key[:16]}"


class Veriserum(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Builder of every configuration of the data set, from an archive on this machine."""

    BUILDER_CONFIG_CLASS = VeriserumConfig
    BUILDER_CONFIGS = tuple(
        VeriserumConfig(name=name, version=datasets.Version(ROWS_VERSION), description=description)
        for name, description in (CONFIGS | {SIMULATED: _SIMULATED_DESCRIPTION}).items()
    )
    DEFAULT_CONFIG_NAME = "calibrated"

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=self.config.description, features=self.config.options.features)

    def _split_generators(self, dl_manager: object) -> list[datasets.SplitGenerator]:
        simulation = self.config.simulation
        options = self.config.options
        archive = (
            self._deferred(simulation)
            if simulation
            else VeriserumArchive(self.config.archive_path, white_level=options.white)
        )
        if not simulation:  # whose images are not there yet
            for problem in require_agreement(archive).problems:
                _logger.warning(str(problem))
        plan = make_plan(archive, options)
        size = _SIMULATED_ROWS_PER_SHARD if simulation else _ROWS_PER_SHARD
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "shards": [_copied(table, first, size) for first in range(0, table.num_rows, size)],
                    "raw": archive.raw_format,
                    "simulation": simulation,
                },
            )
            for split, table in plan.splits.items()
        ]

    def _deferred(self, simulation: Settings) -> VeriserumArchive:
        """Simulated archive without images, kept in the cache."""
        from veriserum_hf.simulation import DeferredArchive  # its compiler takes a second to import

        key = hashlib.sha256(
            f"{simulation}|{source_hash(*SOURCES_OF_FRAMES, libraries=LIBRARIES_OF_FRAMES)}".encode()
        ).hexdigest()
        return DeferredArchive(Path(self._cache_dir_root).expanduser() / "veriserum-simulated" / key[:16], simulation)

    def _generate_tables(
        self, shards: list[pa.Table], raw: RawFormat, simulation: Settings | None
    ) -> Iterator[tuple[tuple[int, int], pa.Table]]:
        options = self.config.options
        for shard_index, shard in enumerate(shards):
            for first in range(0, shard.num_rows, _ROWS_PER_TABLE):
                rows = shard.slice(first, _ROWS_PER_TABLE)
                bright: list[AboveWhite] = []
                with _with_files(rows, simulation) as rows:
                    table, rejected = convert(rows, options, raw, bright)
                for row in rejected:
                    _logger.warning(f"rejected {shard.column_names[0]} {row.id}: {row.reason}: {row.detail}")
                for each in bright:
                    _logger.warning(f"measurement {each} ({raw.white_level}); white= states another level")
                if table.num_rows:
                    yield (shard_index, first), table


def _with_files(rows: pa.Table, simulation: Settings | None) -> AbstractContextManager[pa.Table]:
    """The rows with existing image files: the archive's, or simulated ones that are removed afterwards."""
    if simulation is None:
        return nullcontext(rows)
    from veriserum_hf.simulation import drawn

    return drawn(rows, simulation)


def _copied(table: pa.Table, first: int, size: int) -> pa.Table:
    """Rows of one shard in separate buffers; a slice would send the whole table to another process."""
    return table.take(pa.array(range(first, min(first + size, table.num_rows))))
