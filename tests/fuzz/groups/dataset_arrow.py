"""Shards of a converted data set in Arrow files."""

from pathlib import Path

import pyarrow as pa

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, Case, Group
from tests.fuzz.commands import check_arrow

arrow = Group("dataset-arrow", "dataset", check_arrow, times=8)

READ = {"image_bs", "camera_fs", "measurement_id", "mesh", "anatomy_id"}


def _shard(case: Case) -> Path:
    case.touch_all()
    path: Path = case.one(sorted((case.data / "arrow").glob("*/*.arrow")))
    return path


def _table(path: Path) -> pa.Table:
    with path.open("rb") as file:
        return pa.ipc.open_stream(file).read_all()


def _write(path: Path, table: pa.Table, **options: int) -> None:
    with path.open("wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, **options)


@arrow(NOTICED)
def cut(case: Case) -> str:
    """A shard breaks off."""
    path = _shard(case)
    content = path.read_bytes()
    path.write_bytes(content[: case.one((0, 4, 100, len(content) // 2))])
    return path.name


@arrow(OPEN)
def bytes_changed(case: Case) -> str:
    """Random bytes of a shard are others."""
    path = _shard(case)
    content = bytearray(path.read_bytes())
    for _ in range(case.one((1, 10, 100))):
        content[case.random.randrange(len(content))] = case.random.randrange(256)
    path.write_bytes(content)
    return path.name


@arrow(OPEN)
def schema_changed(case: Case) -> str:
    """Bytes of a shard's schema are others."""
    path = _shard(case)
    content = bytearray(path.read_bytes())
    for _ in range(case.one((1, 3, 10))):
        content[case.random.randrange(2000)] = case.random.randrange(256)
    path.write_bytes(content)
    return path.name


@arrow(NOTICED)
def column_missing(case: Case) -> str:
    """A column that every data set has is missing."""
    path = _shard(case)
    table = _table(path)
    name = case.one(
        sorted({"image_bs", "camera_fs", "measurement_id", "mesh", "anatomy_id"} & set(table.column_names))
    )
    _write(path, table.drop_columns([name]))
    return f"{path.name} {name}"


@arrow(NOTICED)
def no_arrow(case: Case) -> str:
    """Something else under a shard's name."""
    path = _shard(case)
    path.write_bytes(case.one((b"x" * 999, b"ARROW1\0\0", b"PAR1PAR1", b"\xff\xff\xff\xff" + b"\xff" * 100)))
    return path.name


@arrow(NOTICED)
def shard_missing(case: Case) -> str:
    """A shard that the card names is missing, or a folder."""
    path = _shard(case)
    path.unlink()
    if case.random.random() < 0.5:
        path.mkdir()
    return path.name


@arrow(HARMLESS)
def other_batches(case: Case) -> str:
    """The same rows in batches of one row."""
    path = _shard(case)
    _write(path, _table(path), max_chunksize=1)
    return path.name
