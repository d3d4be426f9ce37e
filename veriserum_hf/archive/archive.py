"""A download as one object: tables, frames, calibrations and poses, checked and in one frame of reference."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import PureWindowsPath
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from veriserum_hf.archive.calibrations import (
    distortions_of_sources,
    inter_plane_rows,
    parse_distortions,
    parse_rig,
    phantom_trials,
)
from veriserum_hf.archive.closer_distortions import with_closer
from veriserum_hf.archive.frames import RawFormat
from veriserum_hf.archive.layout import Layout, find_layout
from veriserum_hf.archive.measurements import read_calibration_frames, read_frames_table
from veriserum_hf.archive.motion import check_motion
from veriserum_hf.archive.plausible_calibrations import compare_distortions, compare_rigs
from veriserum_hf.archive.pose_rows import PoseRows, integers
from veriserum_hf.archive.poses import References, pose_table
from veriserum_hf.archive.problems import Decision, Findings, Problem
from veriserum_hf.archive.refined_sources import bs_centers_mm, read_refined_sources, with_refined_sources
from veriserum_hf.archive.sampled import sample_frames
from veriserum_hf.archive.table_specs import Row
from veriserum_hf.archive.tables import read_tables
from veriserum_hf.calibration import DistortionMap
from veriserum_hf.core import COMPONENTS, PLANES, PlaneName
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import DualPlaneRig

T = TypeVar("T")


@dataclass(frozen=True)
class Anatomy:
    """One implant: its id, what it is, and its STL file (mm) where the archive has it."""

    id: int
    component: str
    category: str
    description: str
    path: str | None


class VeriserumArchive:
    """The Veriserum download, read-only.

    Parameters
    ----------
    path : the archive's folder, its SQLite database, or its pose CSV.
    findings : takes problems instead of raising for the structural ones, where the caller reports them itself.
    white_level : grey level that is white in frames of 16 bits; None: decided by a sample of them.

    Attributes
    ----------
    decisions : questions that the files leave open, with answer and evidence, by a fixed name.
    problems : all that were found.
    frames : one row a measurement, by ``FRAME_SCHEMA``; paths are null where there is no file.
    poses : one row a sound pose in the world frame (mm; quaternion x, y, z, w), current ones first; its source
        calibration is the refined one where its trial has one.
    anatomies : implants by id.
    manual_measurements : ids of the measurements with a manual pose, sound and current or not.
    distortions : distortion of both planes by calibration id, in the form that is used.
    stored_distortions : the same by the lab's own texts; see `with_closer`.
    source_calibrations : the rig by source calibration id; the pose of its ``fs`` intensifier is nominal except
        where the table ``inter_plane_calibration`` has another for that id.
    refined_sources : source calibrations that replace those that the poses of some trials name.
    distortion_trials, source_trials : calibration trials that each calibration was made from, by id and plane.
    calibration_frames : one row a phantom frame that has a file.
    raw_format : what the raw frames have in common: white, and their shape.

    Raises
    ------
    ArchiveError
        If the structure cannot be relied on: see ``veriserum audit``.

    """

    def __init__(
        self, path: str | os.PathLike[str], *, findings: Findings | None = None, white_level: int | None = None
    ) -> None:
        self._findings, self._white_level = findings or Findings(), white_level
        self.layout = self._find_layout(path)
        self._tables = read_tables(self.layout, self._findings)
        self._check_ids()
        self._check_paths()
        self.stored_distortions = self._calibrations("distortion_calibration", parse_distortions)
        self.distortions: dict[int, dict[PlaneName, DistortionMap]] = with_closer(
            self.stored_distortions, self._tables, self.layout, self._findings
        )
        inter_plane = inter_plane_rows(self._tables, self.layout, self._findings)
        refined = read_refined_sources(self._tables, self.layout, self._findings)
        bs_centers = bs_centers_mm(refined)
        self.source_calibrations: dict[int, DualPlaneRig] = self._calibrations(
            "source_int_calibration",
            lambda row: parse_rig(row, inter_plane.get(row["id"], []), bs_centers.get(row["id"])),
        )
        self.refined_sources = [each for each in refined if each.source in self.source_calibrations]
        compare_distortions(self.stored_distortions, self._where("distortion_calibration"), self._findings)
        compare_rigs(self.source_calibrations, self._where("source_int_calibration"), self._findings)
        self.distortion_trials = phantom_trials(self._tables["distortion_calibration"])
        self.source_trials = phantom_trials(self._tables["source_int_calibration"])
        self.poses = self._read_poses()
        self.anatomies = self._read_anatomies()
        self.frames = read_frames_table(self._tables, self.poses, self.layout, self._findings)
        check_motion(self.poses, self._outside, self.frames, self._where("poses"), self._findings)
        self.poses = with_refined_sources(self.poses, self.frames, self.refined_sources)
        self.calibration_frames = read_calibration_frames(self._tables, self.layout)
        if findings is None and self._findings.structural:
            raise self._findings.unusable()
        self.raw_format = self._sample_frames()

    def _find_layout(self, path: str | os.PathLike[str]) -> Layout:
        """Which files there are."""
        return find_layout(path, self._findings)

    def _sample_frames(self) -> RawFormat:
        """What a few frames show; no others are opened here."""
        paths = [path for plane in PLANES for path in self.frames[f"path_{plane}"].to_pylist() if path]
        return sample_frames(paths, self.layout, self._findings, self._white_level)

    @property
    def decisions(self) -> dict[str, Decision]:
        """Questions that the files leave open, and how they were decided."""
        return self._findings.decisions

    @property
    def problems(self) -> list[Problem]:
        """All problems of the archive."""
        return self._findings.problems

    def fingerprint(self) -> str:
        """Hash of the tables' content and of every file's name, size and time."""
        return self.layout.fingerprint()

    def _where(self, table: str) -> str:
        return self.layout.where(table)

    def _check_ids(self) -> None:
        """Refuse ids that are NULL, negative, or in two rows; for poses and calibrations the latter comes later."""
        for name in [name for name in self._tables if name != "poses"]:
            ids = integers(self._tables[name], "id")
            needed = name in ("measurements", "trials", "anatomies")
            if not (numbered := ids >= 0).all():
                self._findings.problem(
                    "no id",
                    self._where(name),
                    f"{int((~numbered).sum())} rows have no id: NULL, or a negative number",
                    "Give every row its own id." if needed else "Give every row its own id; these are not used.",
                    structural=needed,
                )
                self._tables[name] = self._tables[name].filter(pa.array(numbered))
            unique, counts = np.unique(ids[numbered], return_counts=True)
            for id, count in zip(unique[counts > 1], counts[counts > 1], strict=True) if needed else ():
                self._findings.problem(
                    "id twice",
                    f"{self._where(name)}, id {id}",
                    f"this id occurs in {count} rows, expected a number in one row",
                    "Give every row its own id.",
                    structural=True,
                )

    def _check_paths(self) -> None:
        """Refuse paths that climb out of the archive; none is ever followed, frames are found by their names.

        A path with a drive or a share is where the laboratory kept the file and does not concern the download.
        """
        for name, table in self._tables.items():
            ids = table["id"].to_pylist()
            columns = [table[c].to_pylist() for c in ("path", "vicon_path") if c in table.column_names]
            for id, path in (pair for paths in columns for pair in zip(ids, paths, strict=True)):
                if path and _climbs_out(path):
                    self._findings.problem(
                        "path outside",
                        f"{self._where(name)}, id {id}",
                        f"path {path!r} points outside the archive",
                        "Correct the path; files are only ever read from below the archive's folder.",
                        structural=True,
                    )

    def _calibrations(self, name: str, parse: Callable[[Row], T]) -> dict[int, T]:
        """Calibrations by id; an unusable row is structural where a current pose needs it."""
        poses = self._tables["poses"]
        current = poses.filter(pc.equal(pc.fill_null(poses["obsolete"], 0), 0))
        needed = set(current[f"{name}_id"].to_pylist())
        calibrations: dict[int, T] = {}
        for row in self._tables[name].to_pylist():
            where, structural = f"{self._where(name)}, id {row['id']}", row["id"] in needed
            if row["id"] in calibrations:
                remedy = "Give every calibration its own id."
                self._findings.problem("id twice", where, "this id occurs in two rows", remedy, structural=structural)
                continue
            try:
                calibrations[row["id"]] = parse(row)
            except CalibrationError as error:
                remedy = "Restore the row from the download, or mark the poses that use it obsolete."
                self._findings.problem("unusable calibration", where, str(error), remedy, structural=structural)
        return calibrations

    @cached_property
    def distortions_of_sources(self) -> dict[int, int]:
        """Distortion calibration that goes with each source calibration: by use, else by calibration set."""
        return distortions_of_sources(self._tables)

    def highest_id_of_poses(self, table: str) -> int:
        """Highest id of a calibration table that any pose names, obsolete and missing ones too; 0 if none."""
        return pc.max(self._tables["poses"][f"{table}_id"]).as_py() or 0

    def _read_poses(self) -> pa.Table:
        measurements, anatomies = self._tables.get("measurements"), self._tables.get("anatomies")
        references = References(
            rigs=self.source_calibrations,
            source_ids=integers(self._tables["source_int_calibration"], "id"),
            distortion_ids=integers(self._tables["distortion_calibration"], "id"),
            measurement_ids=None if measurements is None else integers(measurements, "id"),
            components=None
            if anatomies is None
            else {row["id"]: _component(row["category"]) for row in anatomies.to_pylist()},
            usable_distortion_ids=list(self.distortions),
        )
        rows = PoseRows(self._tables["poses"], self._where("poses"), self._findings)
        poses = pose_table(rows, references)
        self._outside = rows.ids[rows.outside]
        self._components = references.components or {}
        self.manual_measurements = references.manual_measurements
        return poses

    def _read_anatomies(self) -> dict[int, Anatomy]:
        table = self._tables.get("anatomies")
        rows = {row["id"]: row for row in table.to_pylist()} if table else {}
        used = set(self.poses["anatomy_id"].to_pylist())
        anatomies = {}
        for id, component in sorted(self._components.items()):
            row, file = rows.get(id, {}), self.layout.anatomies.get(id)
            if file is None and id not in used:
                continue  # the laboratory's tables name bones too
            if file is None:
                self._findings.problem(
                    "no implant file",
                    f"ana_{id:06d}.stl",
                    f"anatomy {id} has poses but no STL file",
                    "Put the download's implants below the archive's folder.",
                )
            category = row.get("category") or f"{component}_implant"
            anatomies[id] = Anatomy(
                id, component, category, row.get("description") or "", file.path if file else None
            )
        return anatomies


def _component(category: str | None) -> str:
    for component in COMPONENTS:
        if category and category.lower().startswith(component):
            return component
    return category or ""


def _climbs_out(path: str) -> bool:
    """Whether a relative path leaves the folder it starts in, or names a place on this machine."""
    windows = PureWindowsPath(path)
    if windows.drive:
        parts = windows.parts[1:]
    elif windows.root:
        return True
    else:
        parts = windows.parts
    depth = 0
    for part in parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False
