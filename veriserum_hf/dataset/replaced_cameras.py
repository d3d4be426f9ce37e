"""Refined cameras in place of those that rows store, in whole tables, before any image is read."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from veriserum_hf.calibration import RefinedCameras, read_refined_cameras, refined_cameras_sha256
from veriserum_hf.core import CAMERA_OF, PLANES
from veriserum_hf.dataset.plan import Plan

_IDS = ("measurement_id", "trial_id")


class CamerasFile(NamedTuple):
    """Refined cameras of a file, and what identifies them."""

    cameras: RefinedCameras
    name: str
    sha256: str

    @classmethod
    def read(cls, path: Path) -> "CamerasFile":
        """Read a file; CalibrationError if it is invalid."""
        cameras = read_refined_cameras(path)
        return cls(cameras, path.name, refined_cameras_sha256(cameras))

    @property
    def about(self) -> dict[str, str]:
        """What records of results state of it."""
        return {"cameras": self.name, "cameras_sha256": self.sha256}


def with_cameras(table: pa.Table, cameras: RefinedCameras) -> pa.Table:
    """Table of rows, with their ids and cameras, whose cameras are replaced; trials without refined ones stay.

    Raises
    ------
    CalibrationError
        If a camera is not the one that is replaced; the first such measurement is named.

    """
    refined = {id for rig in cameras.rigs for id in rig.trials}
    for plane in PLANES:
        name = CAMERA_OF[plane]
        known: dict[tuple[int, str], object] = {}  # few, of many frames
        replaced = []
        for row in table.select([*_IDS, name]).to_pylist():
            key = row["trial_id"], repr(row[name])
            if key not in known:
                known[key] = cameras.replaced(row, plane) if row["trial_id"] in refined else row[name]
            replaced.append(known[key])
        column = table.schema.get_field_index(name)
        field = table.schema.field(column)
        table = table.set_column(column, field, pa.array(replaced, field.type))
    return table


def check_trials(cameras: RefinedCameras, trial_ids: Iterable[int]) -> None:
    """Raise CalibrationError unless there are refined cameras of all these trials."""
    for id in sorted(set(trial_ids)):
        cameras.of_trial(id)


def plan_with_cameras(plan: Plan, cameras: RefinedCameras) -> Plan:
    """Plan of frames with their cameras replaced; CalibrationError unless those of every row can be."""
    for table in plan.splits.values():
        check_trials(cameras, table["trial_id"].to_pylist())
    return replace(plan, splits={split: with_cameras(table, cameras) for split, table in plan.splits.items()})
