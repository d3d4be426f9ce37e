"""The lab's tables, from SQLite or CSV, as checked Arrow tables: columns by name, values of the right type."""

import pyarrow as pa

from veriserum_hf.archive.csv_tables import read_csv_folder
from veriserum_hf.archive.database import read_database
from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.problems import Findings


def read_tables(layout: Layout, findings: Findings) -> dict[str, pa.Table]:
    """Read every table that is there.

    Returns
    -------
    Table name to Arrow table with exactly the columns of ``SPECS`` that the file has.

    Raises
    ------
    ArchiveError
        If the file cannot be read or is being written to, a needed table or column is missing, a value does not have
        its column's type, or the file asks for more than its tables: see `read_database`.

    """
    try:
        if layout.database:
            return read_database(layout.database, findings)
        return read_csv_folder(layout, findings)
    except OSError as error:
        where = str(error.filename or layout.root)
        raise findings.stop("unreadable", where, str(error.strerror), "Grant yourself read permission.") from error
