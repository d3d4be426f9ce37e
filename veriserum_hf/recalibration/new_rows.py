"""New rows of an archive's tables, in SQLite or in CSV files: all that belong together, or none.

One transaction in SQLite; new CSV files are written next to the old ones, begin with their bytes, and replace them.
"""

import csv
import io
import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from veriserum_hf.archive import VeriserumArchive
from veriserum_hf.core import listed
from veriserum_hf.errors import ArchiveError

Row = dict[str, float | str | None]

_BUSY_S = 3.0  # for which another program may hold the database


class LinkedRows(NamedTuple):
    """Rows of a table of this package that belong to one new row of the lab's.

    Attributes
    ----------
    table, columns : its name, and the columns with their types; it is made if absent.
    key : the column that names the new row.
    rows : without their own id and the key.

    """

    table: str
    columns: Mapping[str, str]
    key: str
    rows: Sequence[Row]


class NewRow(NamedTuple):
    """A row of one of the lab's tables, without its id, and what belongs to it."""

    row: Row
    linked: Sequence[LinkedRows] = ()


def add_rows(archive: VeriserumArchive, table: str, rows: Sequence[NewRow]) -> list[int]:
    """Add rows to one of the lab's tables, and what belongs to each: all, or none.

    Parameters
    ----------
    archive : to be added to.
    table : the lab's.
    rows : at least one; those of one table have the same linked tables.

    Returns
    -------
    Their ids, higher than any that is used.

    Raises
    ------
    ArchiveError
        If the archive cannot be written to. Nothing was changed then.

    """
    layout, named = archive.layout, archive.highest_id_of_poses(table)
    try:
        if layout.database:
            return _add_to_database(layout.database, table, rows, named)
        return _add_to_csv(layout.root, layout.csv_tables, table, rows, named)
    except OSError as error:
        where = error.filename or layout.root
        raise ArchiveError(
            f"{where}: {error.strerror or error}. Nothing was changed; grant yourself write permission, or free "
            "disk space"
        ) from error


def _check_columns(where: str, present: Iterable[str], row: Row) -> dict[str, str]:
    """Columns by their name in lower case."""
    columns = {name.strip().lower(): name for name in present}
    if missing := [name for name in row if name not in columns]:
        raise ArchiveError(
            f"{where}: there is no column {listed(missing, 12)}; found {listed(sorted(columns), 30)}. Nothing was "
            "changed; use the tables of the download unchanged"
        )
    return columns


def _next_id(ids: Iterable[float | str | None]) -> int:
    return 1 + max((int(id) for id in ids if id is not None), default=0)


def _add_to_database(path: Path, table: str, rows: Sequence[NewRow], named: int) -> list[int]:
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_S, isolation_level=None)
        with closing(connection):
            connection.execute("BEGIN EXCLUSIVE")  # so that it fails before anything is touched
            ids = [named, *_ids(connection, table, "id")]
            for linked in (linked for row in rows for linked in row.linked):
                columns = ", ".join(f"{name} {type}" for name, type in linked.columns.items())
                connection.execute(f"CREATE TABLE IF NOT EXISTS {linked.table} ({columns})")
                # A row that refers to nothing yet must not become part of a new one.
                ids += _ids(connection, linked.table, linked.key)
            first = _next_id(ids)
            for id, (row, linked_rows) in enumerate(rows, start=first):
                for linked in linked_rows:
                    own_id = _next_id(_ids(connection, linked.table, "id"))
                    for own in linked.rows:
                        _insert(connection, path, linked.table, {"id": own_id, linked.key: id} | own)
                        own_id += 1
                _insert(connection, path, table, {"id": id} | row)
            connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        raise ArchiveError(f"{path}: {_reason(error)} ({error}). Nothing was changed") from error
    return list(range(first, first + len(rows)))


def _ids(connection: sqlite3.Connection, table: str, column: str) -> list[float | str | None]:
    return [id for (id,) in connection.execute(f"SELECT {column} FROM {table}")]  # noqa: S608 - our own names


def _insert(connection: sqlite3.Connection, path: Path, table: str, row: Row) -> None:
    present = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    columns = _check_columns(f"{path}, table {table}", present, row)
    names = ", ".join('"' + columns[name].replace('"', '""') + '"' for name in row)
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))  # noqa: S608 - its own


def _reason(error: sqlite3.DatabaseError) -> str:
    message = str(error)
    if "locked" in message or "busy" in message:
        return "another program is using this database; close that program, then run again"
    if "readonly" in message or "unable to open" in message:
        return "the database or its folder cannot be written to; grant yourself write permission, or use a copy"
    return "the database does not take the new row"


def _add_to_csv(root: Path, files: Mapping[str, Path], table: str, rows: Sequence[NewRow], named: int) -> list[int]:
    target = files[table].resolve()
    tables = {linked.table: linked for row in rows for linked in row.linked}
    paths = {name: files.get(name, root / f"{name}.csv").resolve() for name in tables}
    with ExitStack() as stack:
        staged = {target: stack.enter_context(_Staged(target))}
        content = {target: _read(target)}
        ids = [named, *_csv_ids(content[target], "id")]
        for name, path in paths.items():
            staged[path] = stack.enter_context(_Staged(path))
            columns = ",".join(tables[name].columns) + "\n"
            content[path] = _read(path) if path.exists() else columns.encode()
            ids += _csv_ids(content[path], tables[name].key)
        first = _next_id(ids)
        for id, (row, linked_rows) in enumerate(rows, start=first):
            for linked in linked_rows:
                path = paths[linked.table]
                for own_id, own in enumerate(linked.rows, start=_next_id(_csv_ids(content[path], "id"))):
                    content[path] = _with_row(content[path], path, {"id": own_id, linked.key: id} | own)
            content[target] = _with_row(content[target], target, {"id": id} | row)
        for path, each in staged.items():
            each.write(content[path])
        for each in reversed(staged.values()):  # the lab's last: alone no calibration uses the others
            each.put_in_place()
    return list(range(first, first + len(rows)))


class _Staged:
    """The next content of a file, next to it; while it is there no other process writes to the file."""

    def __init__(self, target: Path) -> None:
        self.target, self.partial = target, target.with_name(target.name + ".partial")
        self.placed = False

    def __enter__(self) -> "_Staged":
        try:
            self.partial.touch(exist_ok=False)
        except FileExistsError:
            raise ArchiveError(
                f"{self.partial} is there: another process is writing to {self.target.name}, or was killed while it "
                "did. Nothing was changed; wait for that process, or remove the file if there is none"
            ) from None
        return self

    def __exit__(self, *error: object) -> None:
        if not self.placed:  # else it may be another process's by now
            self.partial.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        with self.partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if self.target.exists():
            shutil.copymode(self.target, self.partial)

    def put_in_place(self) -> None:
        self.partial.replace(self.target)
        self.placed = True


def _read(path: Path) -> bytes:
    if not os.access(path, os.W_OK):  # replacing it would circumvent that
        raise PermissionError(13, "the file is read-only", str(path))
    return path.read_bytes()


def _table(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def _csv_ids(content: bytes, column: str) -> list[int]:
    header, *rows = _table(content)
    index = [name.strip().lower() for name in header].index(column)
    return [int(float(row[index])) for row in rows if row[index] not in ("", "NULL")]


def _with_row(content: bytes, path: Path, row: Row) -> bytes:
    """Content with a row at its end, ended as its first line is."""
    header = _table(content)[0]
    columns = _check_columns(path.name, header, row)
    by_column = {columns[name]: "" if value is None else value for name, value in row.items()}
    end = "\r\n" if content.split(b"\n", 1)[0].endswith(b"\r") else "\n"
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator=end).writerow([by_column.get(name, "") for name in header])
    gap = b"" if content.endswith(b"\n") else end.encode()
    return content + gap + line.getvalue().encode()
