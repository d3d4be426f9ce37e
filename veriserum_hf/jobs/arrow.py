"""Arrow and Parquet files whose errors are Python's own.

Where a disk is full, some of Arrow's writers abort the whole process. Here Arrow never learns of it: the error is
kept, and raised as soon as Arrow has returned.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

Write = Callable[[pa.Table], None]


class _Sink:
    """A file to write that raises no error; see `check`."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write, or ignore what cannot be written."""
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
        return len(data)

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is closed."""

    def close(self) -> None:
        """Do nothing: who opened the file closes it."""

    def check(self) -> None:
        """Raise the first error."""
        if self._error is not None:
            raise self._error


@contextmanager
def parquet_file(path: Path, schema: pa.Schema, **options: object) -> Iterator[Write]:
    """Write a new Parquet file table by table, one or more row groups each.

    Parameters
    ----------
    path : the file, which must not exist.
    schema : of every table.
    options : of `pyarrow.parquet.ParquetWriter`.

    Raises
    ------
    OSError
        If the file cannot be written, such as on a full disk.

    """
    with _sink(path) as (sink, check), pq.ParquetWriter(sink, schema, **options) as writer:

        def write(table: pa.Table) -> None:
            writer.write_table(table)
            check()

        yield write


@contextmanager
def arrow_file(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """The same for a stream of Arrow."""
    with _sink(path) as (sink, check), pa.ipc.new_stream(sink, schema) as stream:

        def write(table: pa.Table) -> None:
            stream.write_table(table)
            check()

        yield write


def parquet_bytes(table: pa.Table, **options: object) -> bytes:
    """Content of a Parquet file; for small tables."""
    buffer = BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


@contextmanager
def _sink(path: Path) -> Iterator[tuple[pa.NativeFile, Callable[[], None]]]:
    with path.open("xb") as file:
        sink = _Sink(file)
        yield pa.PythonFile(sink, "w"), sink.check
        sink.check()
