"""Files of poses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, SAFE, Case, Group, replaced
from tests.fuzz.commands import check_poses
from tests.fuzz.strange import HUGE, STRANGE_TEXT

poses = Group("pose-files", "dataset", check_poses, times=6)


def _file(case: Case) -> Path:
    return case.data / "poses.parquet"


def _rows(case: Case, change: Callable[[list[dict[str, Any]]], object]) -> str:
    """Change the rows; those of the first frame, which is drawn, are the first."""
    table = pq.read_table(_file(case))
    rows = table.to_pylist()
    text = change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), _file(case))
    return str(text)


def _every(case: Case, name: str, value: object) -> str:
    def change(rows: list[dict[str, Any]]) -> str:
        for row in rows:
            row[name] = value
        return f"{name} = {str(value)[:60]}"

    return _rows(case, change)


@poses(NOTICED)
def cut(case: Case) -> str:
    """The file breaks off, is empty, or something else."""
    content = _file(case).read_bytes()
    _file(case).write_bytes(
        case.one(
            (b"", content[:4], content[: len(content) // 2], content[:-1], b"PAR1PAR1", b"x" * 99, b"a,b\n1,2\n")
        )
    )
    return ""


@poses(OPEN)
def bytes_changed(case: Case) -> str:
    """Random bytes are others."""
    content = bytearray(_file(case).read_bytes())
    for _ in range(case.one((1, 4, 40))):
        content[case.random.randrange(len(content))] = case.random.randrange(256)
    _file(case).write_bytes(content)
    return ""


@poses(OPEN)
def bytes_of_the_footer(case: Case) -> str:
    """Bytes of the schema and the counts are others."""
    content = bytearray(_file(case).read_bytes())
    length = int.from_bytes(content[-8:-4], "little")
    for _ in range(case.one((1, 3, 10))):
        content[-8 - case.random.randrange(length) - 1] = case.random.randrange(256)
    _file(case).write_bytes(content)
    return ""


@poses(NOTICED)
def column_missing(case: Case) -> str:
    """A column that every file of poses has is missing."""
    name = case.one(("measurement_id", "anatomy_id", "translation_mm", "quaternion_xyzw"))
    pq.write_table(pq.read_table(_file(case)).drop_columns([name]), _file(case))
    return name


@poses(NOTICED)
def column_of_another_type(case: Case) -> str:
    """A column of another type."""
    table = pq.read_table(_file(case))
    name = case.one(("measurement_id", "anatomy_id", "translation_mm", "quaternion_xyzw"))
    kind, value = case.one(
        ((pa.string(), "x"), (pa.binary(), b"x"), (pa.bool_(), True), (pa.list_(pa.string()), ["x"]))
    )
    pq.write_table(
        table.set_column(table.column_names.index(name), name, pa.array([value] * len(table), kind)), _file(case)
    )
    return f"{name} {kind}"


@poses(NOTICED)
def number_impossible(case: Case) -> str:
    """Translations or rotations are impossible."""
    value = case.one((float("nan"), *HUGE[:5]))
    name, length = case.one((("translation_mm", 3), ("quaternion_xyzw", 4)))
    return _every(case, name, [value] * length)


@poses(NOTICED)
def length_wrong(case: Case) -> str:
    """A translation of two or four numbers, a quaternion of three."""
    table = pq.read_table(_file(case))
    name = case.one(("translation_mm", "quaternion_xyzw"))
    value = case.one(([], [0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0], None))
    column = pa.array([value] * len(table), pa.list_(pa.float64()))
    pq.write_table(table.set_column(table.column_names.index(name), name, column), _file(case))
    return f"{name} = {value}"


@poses(NOTICED)
def quaternion_not_unit(case: Case) -> str:
    """A quaternion's length is not one, or it is zero."""
    return _every(case, "quaternion_xyzw", case.one(([0.0] * 4, [1.0] * 4, [0.5, 0.0, 0.0, 0.0], [1e-200] * 4)))


@poses(OPEN)
def id_null_or_strange(case: Case) -> str:
    """Ids are null or those of nothing."""
    return _every(case, case.one(("measurement_id", "anatomy_id")), case.one((None, -1, 2**62, 0)))


@poses(NOTICED)
def pose_twice(case: Case) -> str:
    """A pose is there twice, at two places."""

    def change(rows: list[dict[str, Any]]) -> None:
        rows.append(rows[0] | {"translation_mm": [0.0, 0.0, 300.0]})

    return _rows(case, change)


@poses(NOTICED)
def no_rows(case: Case) -> str:
    """A file without a row."""
    pq.write_table(pq.read_table(_file(case)).slice(0, 0), _file(case))
    return ""


@poses(OPEN)
def fewer_rows(case: Case) -> str:
    """Only some of the poses."""
    pq.write_table(pq.read_table(_file(case)).slice(0, case.random.randint(1, 5)), _file(case))
    return ""


@poses(SAFE)
def more_columns(case: Case) -> str:
    """Columns that nobody knows."""
    table = pq.read_table(_file(case))
    pq.write_table(table.append_column("note", pa.array([case.one(STRANGE_TEXT)] * len(table))), _file(case))
    return ""


@poses(HARMLESS)
def other_form(case: Case) -> str:
    """Rows in another order, columns in another order, another compression."""
    table = pq.read_table(_file(case))
    order, names = list(range(len(table))), list(table.column_names)
    case.random.shuffle(order)
    case.random.shuffle(names)
    pq.write_table(table.take(order).select(names), _file(case), compression=case.one(("gzip", "none", "zstd")))
    return ""


@poses(OPEN)
def text_strange(case: Case) -> str:
    """Texts of the file are strange."""
    table = pq.read_table(_file(case))
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    return _every(case, case.one(texts), case.one(STRANGE_TEXT)) if texts else "no text"


@poses(NOTICED)
def special_file(case: Case) -> str:
    """A pipe, a device or a folder in the place of the file."""
    return replaced(case, _file(case), ("pipe", "folder", "/dev/zero"))


@poses(OPEN)
def million_rows(case: Case) -> str:
    """A million poses of measurements that are not there."""
    table = pq.read_table(_file(case))
    many = pa.concat_tables([table] * 25_000)
    ids = pa.array(range(10**6, 10**6 + len(many)))
    many = many.set_column(many.column_names.index("measurement_id"), "measurement_id", ids)
    pq.write_table(pa.concat_tables([table, many.cast(table.schema)]), _file(case))
    return f"{len(many)}"
