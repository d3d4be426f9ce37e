"""Rows of the pose table, and which of them are sound."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from veriserum_hf.archive.problems import Findings
from veriserum_hf.core import BoolArray, FloatArray


def integers(table: pa.Table, column: str) -> NDArray[np.int64]:
    """Column as int64, -1 where it is null."""
    return np.asarray(pc.fill_null(table[column], -1).to_numpy(), dtype=np.int64)


def numbers(table: pa.Table, *columns: str) -> FloatArray:
    """Columns as (rows, columns) float64, NaN where null; without rows where one of them is absent."""
    if any(column not in table.column_names for column in columns):
        return np.full((table.num_rows, len(columns)), np.nan)
    return np.stack(
        [np.asarray(pc.fill_null(table[c], np.nan).to_numpy(), dtype=np.float64) for c in columns], axis=1
    )


class PoseRows:
    """The pose table while it is checked: a row that has a fault is reported once and excluded from there on.

    Parameters
    ----------
    table : the pose table as read.
    where : name of its file and table, for messages.
    findings : takes problems and decisions.

    """

    def __init__(self, table: pa.Table, where: str, findings: Findings) -> None:
        self.table, self.where, self.findings = table, where, findings
        self.ids = integers(table, "id")
        self.measurements = integers(table, "measurement_id")
        self.anatomies = integers(table, "anatomy_id")
        self.sources = integers(table, "source_int_calibration_id")
        self.distortions = integers(table, "distortion_calibration_id")
        self.obsolete = integers(table, "obsolete") > 0
        self.sound = np.ones(len(self.ids), dtype=bool)
        self.outside = np.zeros(len(self.ids), dtype=bool)  # reported for lying in neither plane's field, and kept

    @property
    def used(self) -> BoolArray:
        """Rows that are sound and not obsolete."""
        return self.sound & ~self.obsolete

    def present(self, *columns: str) -> BoolArray:
        """Rows in which not all of these columns are null."""
        present = [c for c in columns if c in self.table.column_names]
        if len(present) < len(columns):
            return np.zeros(len(self.ids), dtype=bool)
        return np.asarray(np.any([pc.is_valid(self.table[c]).to_numpy() for c in columns], axis=0))

    def report(self, bad: BoolArray, kind: str, what: Callable[[int], str], remedy: str) -> None:
        """Report the rows of a mask that are sound so far, and exclude them from here on.

        A fault in a row that is in use is structural; a row marked obsolete is only excluded.
        """
        for row in np.flatnonzero(bad & self.sound).tolist():
            obsolete = bool(self.obsolete[row])
            self.findings.problem(
                kind,
                f"{self.where}, id {self.ids[row]}",
                what(row),
                "The pose is marked obsolete and excluded; there is nothing to do." if obsolete else remedy,
                structural=not obsolete,
            )
        self.sound &= ~bad
