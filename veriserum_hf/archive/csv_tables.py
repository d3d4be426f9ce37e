"""The lab's tables from the authors' CSV files, by the column names in their first line."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from veriserum_hf.archive.columns import checked_table, wanted_columns
from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.table_specs import MOST_ROWS, SPECS
from veriserum_hf.core import listed

if TYPE_CHECKING:
    from _csv import Reader

_LARGEST_BYTES = 200_000_000  # the largest of the authors' files has about 25 MB
_SEPARATORS = ",;\t"
_AGAIN = "Download the file again."


def read_csv_folder(layout: Layout, findings: Findings) -> dict[str, pa.Table]:
    """Read every table that is there; see `veriserum_hf.archive.tables.read_tables`."""
    for name, spec in SPECS.items():
        if spec.in_every_csv_folder and name not in layout.csv_tables:
            raise findings.stop(
                "missing table",
                str(layout.root),
                f"there is no {name}_reloaded.csv next to the pose table",
                "Copy it here from the authors' repository.",
            )
    return {name: _read_csv(layout.csv_tables[name], name, findings) for name in SPECS if name in layout.csv_tables}


def _read_csv(path: Path, name: str, findings: Findings) -> pa.Table:
    if (size := path.stat().st_size) > _LARGEST_BYTES:
        what = f"the file has {size:,} bytes, expected at most {_LARGEST_BYTES:,}"
        raise findings.stop("not a table", str(path), what, _AGAIN)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = _without_nul(file)
            first = next(lines, "")
            separator = max(_SEPARATORS, key=first.count)  # a comma where there is none of them
            reader = csv.reader(chain([first], lines), delimiter=separator, strict=True)
            header = [column.strip().lower() for column in next(reader, [])]
            _check_header(path, header, findings)
            wanted = wanted_columns(path.name, header, SPECS[name], findings)
            columns = _values(reader, path, header, [header.index(column) for column in wanted], findings)
    except (UnicodeDecodeError, csv.Error) as error:
        raise findings.stop("not a table", str(path), f"this is not CSV text ({error})", _AGAIN) from error
    return checked_table(columns, wanted, path.name, findings)


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise csv.Error("it holds NUL bytes")
        yield line


def _check_header(path: Path, header: list[str], findings: Findings) -> None:
    if twice := [column for column, count in Counter(filter(None, header)).items() if count > 1]:
        raise findings.stop(
            "column twice",
            f"{path.name}, line 1",
            f"the column {listed(twice)} occurs more than once, expected each name once",
            "Remove or rename the columns that do not belong to the download.",
        )


def _values(
    reader: "Reader", path: Path, header: list[str], places: list[int], findings: Findings
) -> list[list[str | None]]:
    """Values of the columns at ``places``; None where nothing, or NULL, is written."""
    columns: list[list[str | None]] = [[] for _ in places]
    blank_line = 0
    for row in reader:
        if not any(row):  # lines without values may end the file, as spreadsheets write them
            blank_line = blank_line or reader.line_num
            continue
        if len(row) != len(header) or (blank_line and len(header) > 1):
            line, found = (blank_line, "no values") if blank_line else (reader.line_num, f"{len(row)} values")
            raise findings.stop(
                "not a table", f"{path.name}, line {line}", f"found {found}, expected {len(header)}", _AGAIN
            )
        if len(columns[0]) == MOST_ROWS:
            raise findings.stop("not a table", str(path), f"there are more than {MOST_ROWS:,} rows", _AGAIN)
        for column, place in zip(columns, places, strict=True):
            value = row[place]
            column.append(value if value not in ("", "NULL") else None)
    return columns
