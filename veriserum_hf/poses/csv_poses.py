"""Poses as long CSV, for spreadsheets and other programs: one row an implant and frame, units in the names.

What a Parquet file of poses holds as lists are single columns here: x_mm, y_mm, z_mm; qx, qy, qz, qw, scalar last;
and the 21 different numbers of a covariance, cov_x_x_mm2, cov_x_rx_mm_deg, ... cov_rz_rz_deg2; those of an
image_covariance begin with image_, and all 36 of a cross_covariance with cross_. A time is ISO 8601 with its zone.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from veriserum_hf.core import listed, numbers_of, text_lines
from veriserum_hf.errors import TrainingError
from veriserum_hf.poses.schema import MANUAL_SCHEMA, REGISTERED_SCHEMA, TRUTH_SCHEMA

if TYPE_CHECKING:
    from _csv import Reader

TRANSLATION, QUATERNION = ("x_mm", "y_mm", "z_mm"), ("qx", "qy", "qz", "qw")
_AXES = ("x", "y", "z", "rx", "ry", "rz")
_EVERY_PLACE = [(row, column) for row in range(6) for column in range(6)]
_UPPER = [(row, column) for row, column in _EVERY_PLACE if row <= column]
_PLACES = {"covariance": _UPPER, "image_covariance": _UPPER, "cross_covariance": _EVERY_PLACE}
_UNITS = ("mm2", "mm_deg", "deg2")
COVARIANCES = {
    name: tuple(
        f"{name.removesuffix('covariance')}cov_{_AXES[row]}_{_AXES[column]}_{_UNITS[(row > 2) + (column > 2)]}"
        for row, column in places
    )
    for name, places in _PLACES.items()
}
_LISTS = {"translation_mm": TRANSLATION, "quaternion_xyzw": QUATERNION, **COVARIANCES}
_REQUIRED = ("measurement_id", "anatomy_id", "component", *TRANSLATION, *QUATERNION)
_TYPES = {
    **{field.name: field.type for schema in (TRUTH_SCHEMA, REGISTERED_SCHEMA, MANUAL_SCHEMA) for field in schema},
    **dict.fromkeys((*TRANSLATION, *QUATERNION, *chain(*COVARIANCES.values()), "confidence"), pa.float64()),
}
_SEPARATORS = ",;\t"
_Values = list[int | None] | list[float | None] | list[str | None] | list[datetime | None]


def read_csv_poses(path: Path, most_rows: int) -> pa.Table:
    """Read a long CSV as the table that a Parquet file of poses holds; what it states is not checked further.

    Columns that this package does not know are kept as text.

    Raises
    ------
    TrainingError
        If the file is no such CSV: columns are missing or occur twice, or a line has other counts or a value of
        another type; the line is named.

    """
    lines = text_lines(path, TrainingError)
    separator = max(_SEPARATORS, key=lines[0].count) if lines else ","  # a comma where there is none of them
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        rows = list(_rows(path, reader, header, most_rows))
    except csv.Error as error:
        raise TrainingError(f"{path}, line {reader.line_num}: this is not CSV ({error})") from error
    columns: dict[str, _Values] = {
        name: [_value(path, line, name, row[place]) for line, row in rows]  # type: ignore[misc]
        for place, name in enumerate(header)
    }
    return _table(path, columns, [line for line, _ in rows])


def csv_of_poses(poses: pa.Table) -> str:
    """Long CSV of a table of poses; `read_csv_poses` reads the same values.

    Raises
    ------
    TrainingError
        If a column beside the known ones holds lists or the like, which CSV does not.

    """
    columns: dict[str, Sequence[object]] = {}
    for name in poses.column_names:
        values = poses[name].to_pylist()
        if name in COVARIANCES:
            if poses[name].null_count < len(poses):
                columns |= {
                    column: [None if value is None else value[place[0]][place[1]] for value in values]
                    for column, place in zip(COVARIANCES[name], _PLACES[name], strict=True)
                }
        elif name in _LISTS:
            columns |= dict(zip(_LISTS[name], zip(*values, strict=True), strict=True))
        elif pa.types.is_nested(poses.schema.field(name).type) or pa.types.is_binary(poses.schema.field(name).type):
            raise TrainingError(
                f"the column {name!r} holds {poses.schema.field(name).type}, which CSV cannot; remove it, or write "
                "Parquet"
            )
        elif pa.types.is_timestamp(poses.schema.field(name).type):
            columns[name] = [None if value is None else value.isoformat() for value in values]
        else:
            columns[name] = values
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _check_header(path: Path, header: list[str]) -> None:
    if missing := [name for name in _REQUIRED if name not in header]:
        raise TrainingError(
            f"{path} has no column {listed(missing, 10)}; its first line names {listed(header, 20)}. Expected a CSV "
            f"of poses with {', '.join(_REQUIRED)}"
        )
    if wrong := [name for name in header if name in _LISTS]:
        raise TrainingError(
            f"{path} has the column {wrong[0]!r}; expected its numbers alone: {', '.join(_LISTS[wrong[0]])}"
        )
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise TrainingError(f"{path} has the column {listed(twice)} more than once; expected each name once")
    for parts in COVARIANCES.values():
        there = [part for part in parts if part in header]
        if there and len(there) < len(parts):
            raise TrainingError(
                f"{path} has {len(there)} columns of a covariance; expected all {len(parts)} or none: "
                f"{listed(parts, len(parts))}"
            )


def _rows(path: Path, reader: "Reader", header: list[str], most: int) -> Iterator[tuple[int, list[str]]]:
    """Rows with their line; lines without values may end the file, as spreadsheets write them."""
    blank = 0
    for count, row in enumerate(reader, 1):
        line = reader.line_num
        if not any(row):
            blank = blank or line
            continue
        if blank or len(row) != len(header):
            found = f"line {blank}: found no values" if blank else f"line {line}: found {len(row)} values"
            raise TrainingError(f"{path}, {found}; expected {len(header)}, as the first line has names")
        if count > most:
            raise TrainingError(f"{path} holds more than {most:,} poses, expected at most those of one data set")
        yield line, row


def _value(path: Path, line: int, name: str, text: str) -> int | float | str | datetime | None:
    kind = _TYPES.get(name, pa.string())
    text = text.strip()
    if not text:
        if name in _REQUIRED:
            raise TrainingError(f"{path}, line {line}: {name} is missing")
        return None
    if kind == pa.string():
        return text
    if pa.types.is_timestamp(kind):
        return _time(path, line, name, text)
    try:
        (number,) = numbers_of(text)
    except ValueError:
        number = None
    if number is None or (kind == pa.int64() and not (number == number // 1 and abs(number) < 2**53)):
        expected = "a whole number" if kind == pa.int64() else "a number in ASCII digits with a decimal point"
        raise TrainingError(f"{path}, line {line}: {name} is {text[:40]!r}; expected {expected}")
    return int(number) if kind == pa.int64() else number


def _time(path: Path, line: int, name: str, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter of the first and the last day that Python knows
        pass
    raise TrainingError(
        f"{path}, line {line}: {name} is {text[:40]!r}; expected a time with its zone, such as "
        "2026-11-27T16:30:00+00:00"
    )


def _table(path: Path, columns: dict[str, _Values], lines: list[int]) -> pa.Table:
    list_of = {part: name for name, parts in _LISTS.items() for part in parts}
    arrays: dict[str, pa.Array] = {}
    for column, values in columns.items():
        name = list_of.get(column, column)
        if name in _LISTS and name not in arrays:
            rows = list(zip(*(columns[part] for part in _LISTS[name]), strict=True))
            values_of = _covariances(path, _PLACES[name], rows, lines) if name in COVARIANCES else rows
            arrays[name] = pa.array(values_of, _TYPES[name])
        elif name not in _LISTS:
            arrays[name] = pa.array(values, _TYPES.get(name, pa.string()))
    return pa.table(arrays)


def _covariances(
    path: Path, places: Sequence[tuple[int, int]], rows: list[tuple[float | None, ...]], lines: list[int]
) -> list[list[list[float | None]] | None]:
    found: list[list[list[float | None]] | None] = []
    for line, row in zip(lines, rows, strict=True):
        missing = row.count(None)
        if 0 < missing < len(places):
            raise TrainingError(f"{path}, line {line}: {missing} numbers of a covariance are missing")
        stated = dict(zip(places, row, strict=True))
        full = [[stated[r, c] if (r, c) in stated else stated[c, r] for c in range(6)] for r in range(6)]
        found.append(None if missing else full)
    return found
