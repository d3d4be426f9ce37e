"""A download as one object: tables, frames, calibrations and poses, checked and in one frame of reference."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from veriserum_hf.archive.frames import read_frame
from veriserum_hf.archive.layout import find_layout, name_frames
from veriserum_hf.archive.poses import COMPONENTS, PoseReader, integers
from veriserum_hf.archive.problems import Decision, Findings, Problem
from veriserum_hf.archive.tables import read_tables
from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.errors import CalibrationError, FrameError
from veriserum_hf.geometry.rig import PLANES, DualPlaneRig, PlaneName

FRAME_SCHEMA = pa.schema(
    {
        "measurement_id": pa.int64(),
        "trial_id": pa.int64(),
        "frame_index": pa.int64(),
        "task": pa.string(),
        "subject": pa.int64(),
        "path_bs": pa.string(),
        "path_fs": pa.string(),
    }
)
CALIBRATION_FRAME_SCHEMA = pa.schema(
    {
        "calibration_measurement_id": pa.int64(),
        "calibration_trial_id": pa.int64(),
        "phantom": pa.string(),
        "plane": pa.string(),
        "path": pa.string(),
    }
)
_SAMPLED_FRAMES = 24
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

    Attributes
    ----------
    decisions : what the files leave open, how it was decided and why, by a fixed name.
    problems : everything that is wrong.
    frames : one row a measurement, by ``FRAME_SCHEMA``; paths are null where there is no file.
    poses : one row a sound pose in the world frame (mm; quaternion x, y, z, w), current ones first.
    anatomies : implants by id.
    distortions : distortion of both planes by calibration id.
    source_calibrations : the rig by source calibration id.
    calibration_frames : one row a phantom frame that has a file.
    white_level : grey level that counts as white in the raw frames.

    Raises
    ------
    ArchiveError
        If the structure cannot be relied on: see ``veriserum audit``.

    """

    def __init__(self, path: str | os.PathLike[str], *, findings: Findings | None = None) -> None:
        self._findings = findings or Findings()
        self.layout = find_layout(path, self._findings)
        self._tables = read_tables(self.layout, self._findings)
        self._check_paths()
        self.distortions: dict[int, dict[PlaneName, Distortion]] = self._calibrations(
            "distortion_calibration", _distortions
        )
        self.source_calibrations: dict[int, DualPlaneRig] = self._calibrations("source_int_calibration", _rig)
        self.poses = self._read_poses()
        self.anatomies = self._read_anatomies()
        self.frames = self._read_frames()
        self.calibration_frames = self._read_calibration_frames()
        self.white_level = self._decide_white_level()
        if findings is None and self._findings.structural:
            raise self._findings.unusable()

    @property
    def decisions(self) -> dict[str, Decision]:
        """What the files leave open, and how it was decided."""
        return self._findings.decisions

    @property
    def problems(self) -> list[Problem]:
        """Everything that is wrong with the archive."""
        return self._findings.problems

    def fingerprint(self) -> str:
        """Hash of the tables' content and of every file's name, size and time."""
        return self.layout.fingerprint()

    def _where(self, table: str) -> str:
        return f"{self.layout.tables_file}, table {table}"

    def _check_paths(self) -> None:
        """Refuse paths that climb out of the archive; none is ever followed, frames are found by their names.

        A path with a drive or a share is where the laboratory kept the file and says nothing about the download.
        """
        for name, table in self._tables.items():
            if "path" not in table.column_names:
                continue
            for id, path in zip(table["id"].to_pylist(), table["path"].to_pylist(), strict=True):
                if path and _climbs_out(path):
                    self._findings.problem(
                        "path outside",
                        f"{self._where(name)}, id {id}",
                        f"path {path!r} points outside the archive",
                        "Correct the path; files are only ever read from below the archive's folder.",
                        structural=True,
                    )

    def _calibrations(self, name: str, parse: Callable[[dict[str, Any]], T]) -> dict[int, T]:
        """Calibrations by id; an unusable row is structural where a current pose needs it."""
        poses = self._tables["poses"]
        current = poses.filter(pc.equal(pc.fill_null(poses["obsolete"], 0), 0))
        needed = set(current[f"{name}_id"].to_pylist())
        calibrations: dict[int, T] = {}
        for row in self._tables[name].to_pylist():
            where, structural = f"{self._where(name)}, id {row['id']}", row["id"] in needed
            if row["id"] in calibrations:
                remedy = "Give every calibration an id of its own."
                self._findings.problem("id twice", where, "this id stands in two rows", remedy, structural=structural)
                continue
            try:
                calibrations[row["id"]] = parse(row)
            except CalibrationError as error:
                remedy = "Restore the row from the download, or mark the poses that use it obsolete."
                self._findings.problem("unusable calibration", where, str(error), remedy, structural=structural)
        return calibrations

    def _read_poses(self) -> pa.Table:
        measurements, anatomies = self._tables.get("measurements"), self._tables.get("anatomies")
        reader = PoseReader(
            table=self._tables["poses"],
            where=self._where("poses"),
            rigs=self.source_calibrations,
            source_ids=integers(self._tables["source_int_calibration"], "id"),
            distortion_ids=integers(self._tables["distortion_calibration"], "id"),
            measurement_ids=None if measurements is None else integers(measurements, "id"),
            components={row["id"]: _component(row["category"]) for row in anatomies.to_pylist()} if anatomies else {},
            findings=self._findings,
        )
        poses = reader.read()
        self._components = reader.components
        return poses

    def _read_anatomies(self) -> dict[int, Anatomy]:
        table = self._tables.get("anatomies")
        rows = {row["id"]: row for row in table.to_pylist()} if table else {}
        used = set(self.poses["anatomy_id"].to_pylist())
        anatomies = {}
        for id, component in sorted(self._components.items()):
            row, file = rows.get(id, {}), self.layout.anatomies.get(id)
            if file is None and id in used:
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

    def _read_frames(self) -> pa.Table:
        measurement_ids, trial_ids = self._trials()
        pose_measurements = np.asarray(self.poses["measurement_id"])
        numbers_of = name_frames(
            self.layout, measurement_ids, np.asarray(self.poses["pose_id"]), pose_measurements, self._findings
        )
        trials = self._tables.get("trials")
        by_trial = {row["id"]: row for row in trials.to_pylist()} if trials else {}
        seen: dict[int, int] = {}
        rows: list[dict[str, Any]] = []
        for measurement, trial in zip(measurement_ids.tolist(), trial_ids.tolist(), strict=True):
            details, number = by_trial.get(trial, {}), numbers_of.get(measurement, -1)
            files = {plane: self.layout.frames[plane].get(number) for plane in PLANES}
            rows.append(
                {
                    "measurement_id": measurement,
                    "trial_id": trial,
                    "frame_index": seen.get(trial, 0),
                    "task": details.get("task"),
                    "subject": details.get("subject_id"),
                    **{f"path_{plane}": file.path if file else None for plane, file in files.items()},
                }
            )
            seen[trial] = seen.get(trial, 0) + 1
        self._check_frame_files(rows, set(numbers_of.values()), set(pose_measurements.tolist()))
        return pa.Table.from_pylist(rows, FRAME_SCHEMA)

    def _trials(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Measurement ids in ascending order, and the trial of each."""
        measurements, trials = self._tables.get("measurements"), self._tables.get("trials")
        if measurements is None:
            return self._trials_by_poses()
        order = np.argsort(ids := integers(measurements, "id"))
        ids, trial_ids = ids[order], integers(measurements, "trials_id")[order]
        where = self._where("measurements")
        for id in np.unique(ids[1:][ids[1:] == ids[:-1]]):
            self._findings.problem(
                "id twice",
                f"{where}, id {id}",
                "this id stands in two rows",
                "Give every measurement its own.",
                structural=True,
            )
        if trials is not None:
            needed = np.isin(ids, np.asarray(self.poses["measurement_id"]))
            for row in np.flatnonzero(~np.isin(trial_ids, integers(trials, "id"))):
                self._findings.problem(
                    "dangling id",
                    f"{where}, id {ids[row]}",
                    f"refers to trials id {trial_ids[row] if trial_ids[row] >= 0 else 'NULL'}, which is not there",
                    "Add the row to trials, or mark the poses of this measurement obsolete.",
                    structural=bool(needed[row]),
                )
        return ids, trial_ids

    def _trials_by_poses(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Trials where no table tells them: runs of frames of the same implants and calibrations.

        Such a run may hold several trials, never a part of one, so splits by it leak nothing.
        """
        columns = ("measurement_id", "anatomy_id", "source_calibration_id", "distortion_calibration_id")
        rows = np.unique(np.stack([np.asarray(self.poses[column]) for column in columns], axis=1), axis=0)
        ids, first = np.unique(rows[:, 0], return_index=True)
        settings = [tuple(map(tuple, group[:, 1:].tolist())) for group in np.split(rows, first[1:])]
        starts = [i == 0 or settings[i] != settings[i - 1] for i in range(len(ids))]
        trial_ids = ids[starts][np.cumsum(starts) - 1] if len(ids) else ids
        self._findings.decide(
            "trials",
            "Which frames belong to one trial?",
            f"runs of frames with the same implants and calibrations, {sum(starts)} in all",
            "there is no table of measurements; a trial's id is the first measurement of its run",
        )
        return ids, trial_ids

    def _check_frame_files(self, rows: list[dict[str, Any]], numbers_used: set[int], with_pose: set[int]) -> None:
        """Note frames that are missing, empty or of one plane only, and files that no row asks for."""
        empty = {file.path for file in self.layout.every_file() if file.size_bytes == 0}
        restore = "Restore the file from the download; until then the frame is rejected."
        for row in rows:
            paths = {plane: row[f"path_{plane}"] for plane in PLANES}
            missing = [plane for plane, path in paths.items() if path is None]
            where = f"measurement {row['measurement_id']}"
            if len(missing) == 2 and row["measurement_id"] in with_pose:
                self._findings.problem("missing", where, "neither plane has a frame", restore)
            elif len(missing) == 1:
                self._findings.problem("one plane only", where, f"there is no {missing[0]} frame", restore)
            for path in filter(empty.__contains__, paths.values()):
                self._findings.problem("zero bytes", self.layout.relative(path), "the file is empty", restore)
        named_by_pose = (
            set(self.poses["pose_id"].to_pylist()) if "pose" in self.decisions["frame_id"].answer else set()
        )
        for files in self.layout.frames.values():
            for number in files.keys() - numbers_used - named_by_pose:
                self._findings.problem(
                    "file without row",
                    self.layout.relative(files[number].path),
                    f"no {'pose' if named_by_pose else 'measurement'} has the id {number}",
                    "It is left out; remove it if it does not belong here.",
                )

    def _read_calibration_frames(self) -> pa.Table:
        measurements, trials = (self._tables.get(f"calibration_{name}") for name in ("measurements", "trials"))
        phantoms = dict(zip(*(trials[c].to_pylist() for c in ("id", "phantom")), strict=True)) if trials else {}
        rows = [
            {
                "calibration_measurement_id": row["id"],
                "calibration_trial_id": row["calibration_trials_id"],
                "phantom": phantoms.get(row["calibration_trials_id"]),
                "plane": plane,
                "path": self.layout.calibration_frames[plane][row["id"]].path,
            }
            for row in (measurements.to_pylist() if measurements else [])
            for plane in PLANES
            if row["id"] in self.layout.calibration_frames[plane]
        ]
        return pa.Table.from_pylist(rows, CALIBRATION_FRAME_SCHEMA)

    def _decide_white_level(self) -> int:
        """White of the raw frames: 255, or of 16-bit files the depth that a sample of them uses."""
        paths = [path for plane in PLANES for path in self.frames[f"path_{plane}"].to_pylist() if path]
        sampled = [path for path in paths if not path.lower().endswith((".jpg", ".jpeg"))]
        deep = []
        for path in sampled[:: max(1, len(sampled) // _SAMPLED_FRAMES)]:
            try:
                frame = read_frame(path)
            except FrameError:
                continue  # the conversion reports it with its reason
            if frame.dtype == np.uint16:
                deep.append(int(frame.max()))
        if not deep:
            answer, evidence, white = "8-bit, white is 255", f"{len(paths)} files are JPEG or hold 8 bits", 255
        else:
            bits = max(8, max(deep).bit_length() + max(deep).bit_length() % 2)
            white = 2**bits - 1
            answer = f"{bits} of 16 bits, white is {white}"
            evidence = f"the highest of {len(deep)} sampled frames is {max(deep)}"
        self._findings.decide("grey_levels", "What is white in the raw frames?", answer, evidence)
        return white


def _component(category: str | None) -> str:
    for component in COMPONENTS:
        if category and category.lower().startswith(component):
            return component
    return category or ""


def _distortions(row: dict[str, Any]) -> dict[PlaneName, Distortion]:
    distortions = {}
    for plane in PLANES:
        text = row[f"distortion_result_{plane}"]
        try:
            distortions[plane] = Distortion.from_string(text or "")
        except CalibrationError as error:
            raise CalibrationError(f"distortion_result_{plane}: {error}") from error
        if distortions[plane].folds():
            raise CalibrationError(f"distortion_result_{plane}: the polynomial folds over inside the raw frame")
    return distortions


def _rig(row: dict[str, Any]) -> DualPlaneRig:
    value = {name: float("nan") if number is None else number for name, number in row.items()}
    return DualPlaneRig.from_calibration(
        principal_point_bs_mm=(value["principalp_h_bs"], value["principalp_v_bs"]),
        sid_bs_mm=value["sid_bs"],
        principal_point_fs_mm=(value["principalp_h_fs"], value["principalp_v_fs"]),
        sid_fs_mm=value["sid_fs"],
    )


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
