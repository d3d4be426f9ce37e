"""The lab's tables from its SQLite file: read-only, from plain tables alone, within limits on time and memory.

A database may hold more than data: views, virtual tables and generated columns compute what they give, and may take
any time and memory for it. None of that is part of the download, so none of it is ever run.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from veriserum_hf.archive.columns import checked_table, wanted_columns
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.table_specs import MOST_ROWS, SPECS, TableSpec
from veriserum_hf.core import listed

_LONGEST_BYTES = 100_000  # of one value; the longest of the download, a distortion, has about 1,500
_LONGEST_CPU_S = 20.0  # the download takes half a second
_ROWS_AT_ONCE = 2_000
_CHECKED_EVERY = 100_000  # instructions of SQLite
_UNCHANGED = "Use the database of the download unchanged."
_CATALOG = {"sqlite_master", "sqlite_schema"}


def read_database(path: Path, findings: Findings) -> dict[str, pa.Table]:
    """Read every table that is there; see `veriserum_hf.archive.tables.read_tables`."""
    for suffix in ("-journal", "-wal"):
        journal = path.with_name(path.name + suffix)
        try:
            size = journal.stat().st_size
        except FileNotFoundError:  # queried only once: another program's commit may delete it at any moment
            continue
        if size > 0:
            raise _being_written(path, f"{journal.name} holds changes that are not in it yet", findings)
    before = path.stat()
    if before.st_size == 0:
        raise findings.stop("not a database", str(path), "the file has 0 bytes", "Download the database again.")
    try:
        with closing(_connect(path)) as connection:
            connection.execute("BEGIN")  # one consistent state for all tables
            kinds = _kinds_of_tables(connection)
            tables = {
                name: _read_table(connection, path, name, spec, findings)
                for name, spec in SPECS.items()
                if _is_there(name, spec, kinds, path, findings)
            }
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # SQLite quotes names in its messages, as they are
        if "locked" in str(error) or "busy" in str(error):
            raise _being_written(path, str(error), findings) from error
        raise findings.stop(
            "not a database",
            str(path),
            f"SQLite cannot read it ({_reason(error)}; {before.st_size} bytes)",
            "Download the database again and compare its size with the source.",
        ) from error
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _being_written(path, "it changed while it was read", findings)
    return tables


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a name in it is not UTF-8"
    if "interrupted" in str(error):
        return f"it took more than {_LONGEST_CPU_S:.0f} s of processor time"
    if "too big" in str(error):
        return f"a value has more than {_LONGEST_BYTES:,} bytes"
    if "prohibited" in str(error) or "not authorized" in str(error):
        return f"a column is computed, expected stored values: {error}"
    return str(error)


def _connect(path: Path) -> sqlite3.Connection:
    """Open read-only; nothing is created next to the database, so that a read-only folder is enough."""
    with path.open("rb") as file:
        write_ahead = file.read(20)[18:] == b"\2\2"
    # In write-ahead mode SQLite creates files next to a database even to read it. Without a journal it is complete.
    immutable = "&immutable=1" if write_ahead else ""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro{immutable}", uri=True, timeout=1.0)
    connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_BYTES)
    connection.set_authorizer(_allow)
    started = time.thread_time()
    connection.set_progress_handler(lambda: time.thread_time() - started > _LONGEST_CPU_S, _CHECKED_EVERY)
    return connection


def _allow(
    action: int, first: str | None, second: str | None, database: str | None, through: str | None
) -> int:  # the arguments that SQLite gives an authorizer
    """Allow a transaction, the list of a table's columns, and reading columns of plain tables."""
    allowed = (
        action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_TRANSACTION)
        or (action == sqlite3.SQLITE_PRAGMA and first == "table_xinfo")
        or (
            action == sqlite3.SQLITE_READ
            and through is None  # the name of a view or trigger that asks for it
            and (first or "").lower() in _CATALOG | SPECS.keys()
        )
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _kinds_of_tables(connection: sqlite3.Connection) -> dict[str, str]:
    """What each table and view of the database is, by its name in lower case."""
    return {
        str(name).lower(): "a virtual table" if type == "table" and not root else f"a {type}"
        for type, name, root in connection.execute("SELECT type, name, rootpage FROM sqlite_master")
        if type in ("table", "view")
    }


def _is_there(name: str, spec: TableSpec, kinds: dict[str, str], path: Path, findings: Findings) -> bool:
    kind = kinds.get(name)
    if kind is None and spec.in_every_database:
        raise findings.stop(
            "missing table",
            path.name,
            f"there is no table {name}; found {listed(sorted(kinds), 12) or 'no table at all'}",
            _UNCHANGED,
        )
    if kind not in (None, "a table"):
        raise findings.stop(
            "not a table",
            f"{path.name}, {name}",
            f"it is {kind}, which is computed when it is read; expected a table of stored values",
            f"{_UNCHANGED} In a copy, what a view gives can be stored in a table of its name.",
        )
    return kind is not None


def _read_table(
    connection: sqlite3.Connection, path: Path, name: str, spec: TableSpec, findings: Findings
) -> pa.Table:
    where = f"{path.name}, table {name}"
    columns = list(connection.execute(f'PRAGMA table_xinfo("{name}")'))
    present = {column[1].lower(): column[1] for column in columns}
    wanted = wanted_columns(where, present.keys(), spec, findings)
    if computed := [column[1] for column in columns if column[1].lower() in wanted and column[6] in (2, 3)]:
        raise findings.stop(
            "computed column",
            where,
            f"the column {listed(computed)} is computed when it is read; expected stored values",
            _UNCHANGED,
        )
    # Names come from the database's own list of columns.
    selected = ", ".join('"' + present[column].replace('"', '""') + '"' for column in wanted)
    cursor = connection.execute(f'SELECT {selected} FROM "{name}" ORDER BY "{present["id"]}"')  # noqa: S608
    parts, rows_read = [], 0
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        if rows_read + len(rows) > MOST_ROWS:
            raise findings.stop("too large", where, f"there are more than {MOST_ROWS:,} rows", _UNCHANGED)
        parts.append(checked_table(list(zip(*rows, strict=True)), wanted, where, findings, rows_before=rows_read))
        rows_read += len(rows)
    empty = checked_table([()] * len(wanted), wanted, where, findings)
    return pa.concat_tables([empty, *parts]).combine_chunks()


def _being_written(path: Path, why: str, findings: Findings) -> Exception:
    return findings.stop(
        "being written",
        str(path),
        f"another program is writing to this database: {why}",
        "Close that program, then run again; if there is none, run VACUUM in it once with sqlite3, which cleans up.",
    )
