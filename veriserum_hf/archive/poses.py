"""What the pose table means: kind, component, rotation, and the frame of reference; every pose in the world frame."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from veriserum_hf.archive.problems import Findings, listed
from veriserum_hf.geometry.pose import (
    angle_between_deg,
    canonical_quaternion,
    euler_zxy_to_matrix,
    matrix_to_quaternion,
    quaternion_to_matrix,
)
from veriserum_hf.geometry.rig import PLANES, DualPlaneRig

FloatArray = NDArray[np.float64]
Bools = NDArray[np.bool_]
Component = Literal["femur", "tibia"]
COMPONENTS: tuple[Component, Component] = ("femur", "tibia")
KINDS = ("target", "refined", "manual")

_NORM_TOLERANCE = 1e-3
_ROTATION_TOLERANCE_DEG = 0.1
POSE_SCHEMA = pa.schema(
    {
        "pose_id": pa.int64(),
        "measurement_id": pa.int64(),
        "anatomy_id": pa.int64(),
        "component": pa.string(),
        "kind": pa.string(),
        "obsolete": pa.bool_(),
        "translation_mm": pa.list_(pa.float64(), 3),
        "quaternion_xyzw": pa.list_(pa.float64(), 4),
        "source_calibration_id": pa.int64(),
        "distortion_calibration_id": pa.int64(),
    }
)


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


@dataclass
class PoseReader:
    """Reads the pose table once everything it refers to is known.

    Attributes
    ----------
    table : the pose table as read.
    where : name of its file and table, for messages.
    rigs : source calibration id to rig, for the usable ones.
    source_ids, distortion_ids : ids of all calibrations that are there.
    measurement_ids : ids in the table of measurements, or None where there is no such table.
    components : anatomy id to component; empty where there is no table of anatomies.
    findings : takes problems and decisions.

    """

    table: pa.Table
    where: str
    rigs: dict[int, DualPlaneRig]
    source_ids: NDArray[np.int64]
    distortion_ids: NDArray[np.int64]
    measurement_ids: NDArray[np.int64] | None
    components: dict[int, str]
    findings: Findings

    def __post_init__(self) -> None:
        self.ids = integers(self.table, "id")
        self.measurements = integers(self.table, "measurement_id")
        self.anatomies = integers(self.table, "anatomy_id")
        self.sources = integers(self.table, "source_int_calibration_id")
        self.distortions = integers(self.table, "distortion_calibration_id")
        self.obsolete = integers(self.table, "obsolete") > 0
        self.sound = np.ones(len(self.ids), dtype=bool)

    def read(self) -> pa.Table:
        """Check every row and return the sound ones, in the world frame, by ``POSE_SCHEMA``.

        A fault in a row that is in use is structural; a row marked obsolete is only left out.
        """
        self._check_references()
        translation = numbers(self.table, "tx", "ty", "tz")
        self._report(
            np.asarray(~np.isfinite(translation).all(axis=1)),
            "pose not finite",
            lambda row: f"translation (tx, ty, tz) is {tuple(translation[row].tolist())}, expected three finite mm",
            "Mark the pose obsolete or correct it.",
        )
        quaternion = self._rotations()
        translation = self._in_world(translation)
        components = self._components(translation)
        kinds = self._kinds()
        self._check_unique(components, kinds)
        # One that is sound and current comes before one that is obsolete, and newer before older.
        order = np.lexsort((-self.ids, self.obsolete, self.measurements))
        kept = order[self.sound[order]]
        columns = {
            "pose_id": self.ids,
            "measurement_id": self.measurements,
            "anatomy_id": self.anatomies,
            "component": components,
            "kind": kinds,
            "obsolete": self.obsolete,
            "source_calibration_id": self.sources,
            "distortion_calibration_id": self.distortions,
        }
        arrays = {name: pa.array(values[kept]) for name, values in columns.items()}
        for name, values in (("translation_mm", translation), ("quaternion_xyzw", quaternion)):
            flat = pa.array(values[kept].ravel())
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        return pa.table({field.name: arrays[field.name] for field in POSE_SCHEMA}).cast(POSE_SCHEMA)

    def _report(self, bad: Bools, kind: str, what: Any, remedy: str) -> None:
        """Report the rows of a mask that are sound so far, and leave them out from here on."""
        for row in np.flatnonzero(bad & self.sound):
            obsolete = bool(self.obsolete[row])
            self.findings.problem(
                kind,
                f"{self.where}, id {self.ids[row]}",
                what(row) + (" (the pose is marked obsolete and left out)" if obsolete else ""),
                remedy,
                structural=not obsolete,
            )
        self.sound &= ~bad

    def _check_references(self) -> None:
        unique, counts = np.unique(self.ids, return_counts=True)
        self._report(
            np.asarray(np.isin(self.ids, unique[counts > 1]) | (self.ids < 0)),
            "id twice",
            lambda row: f"id {self.ids[row]} is missing or stands in more than one row",
            "Give every pose an id of its own.",
        )
        references: list[tuple[str, NDArray[np.int64], Any]] = [
            ("source_int_calibration", self.sources, self.source_ids),
            ("distortion_calibration", self.distortions, self.distortion_ids),
        ]
        if self.components:
            references.append(("anatomies", self.anatomies, list(self.components)))
        if self.measurement_ids is not None:
            references.append(("measurements", self.measurements, self.measurement_ids))
        for table, ids, known in references:
            self._report(
                ~np.isin(ids, known),
                "dangling id",
                lambda row, table=table, ids=ids: (
                    f"refers to {table} id {ids[row] if ids[row] >= 0 else 'NULL'}, which is not there"
                ),
                f"Add the row to {table} or mark the pose obsolete.",
            )

    def _rotations(self) -> FloatArray:
        """Canonical quaternions (rows, 4); identity in rows that are not sound."""
        quaternion, euler = numbers(self.table, "r0", "r1", "r2", "r3"), numbers(self.table, "rz", "rx", "ry")
        # A row may have the one or the other; a NULL is not the same as a NaN that somebody computed.
        has_q, has_e = self._present("r0", "r1", "r2", "r3"), self._present("rz", "rx", "ry")
        if not ((has_q | has_e) | ~self.sound).any() and len(self.ids):
            raise self.findings.stop(
                "missing column",
                self.where,
                "there is neither a quaternion (r0, r1, r2, r3) nor a set of Euler angles (rz, rx, ry)",
                "Use the tables of the download as they are.",
            )
        self._report(
            ~(has_q | has_e)
            | (has_q & ~np.isfinite(quaternion).all(axis=1))
            | (has_e & ~np.isfinite(euler).all(axis=1)),
            "pose not finite",
            lambda row: (
                f"rotation is {tuple(quaternion[row].tolist())} / {tuple(euler[row].tolist())}, expected finite"
            ),
            "Mark the pose obsolete or correct it.",
        )
        norm = np.linalg.norm(quaternion, axis=1)
        self._report(
            has_q & (np.abs(norm - 1) > _NORM_TOLERANCE),
            "quaternion norm",
            lambda row: f"quaternion (r0, r1, r2, r3) has norm {norm[row]:.6f}, expected 1 to {_NORM_TOLERANCE}",
            "Mark the pose obsolete or correct it.",
        )
        use_q, use_e = has_q & self.sound, has_e & self.sound
        result = np.tile([0.0, 0.0, 0.0, 1.0], (len(self.ids), 1))
        result[use_e] = matrix_to_quaternion(euler_zxy_to_matrix(euler[use_e]))
        both = use_q & use_e
        if both.any():
            self._cross_check(quaternion, euler, both)
        result[use_q] = canonical_quaternion(quaternion[use_q])
        if use_q.any():
            answer = "quaternion (r0, r1, r2, r3) = (x, y, z, w), scalar last"
            evidence = (
                f"agrees with the Euler angles in {both.sum()} of {both.sum()} rows"
                if both.any() and self.sound[both].all()
                else f"unit length in {use_q.sum()} rows; the lab's code reads the scalar last"
            )
        else:
            answer = "intrinsic Euler angles ZXY (rz, rx, ry) in degrees"
            evidence = f"{use_e.sum()} rows have them, none has a quaternion"
        self.findings.decide("rotation", "How are rotations stored?", answer, evidence)
        return result

    def _present(self, *columns: str) -> Bools:
        """Rows in which not all of these columns are null."""
        present = [c for c in columns if c in self.table.column_names]
        if len(present) < len(columns):
            return np.zeros(len(self.ids), dtype=bool)
        return np.asarray(np.any([pc.is_valid(self.table[c]).to_numpy() for c in columns], axis=0))

    def _cross_check(self, quaternion: FloatArray, euler: FloatArray, both: Bools) -> None:
        by_euler = euler_zxy_to_matrix(euler[both])
        off, off_scalar_first = np.zeros(len(both)), np.zeros(len(both))
        off[both] = angle_between_deg(quaternion_to_matrix(quaternion[both]), by_euler)
        scalar_first = np.roll(quaternion[both], -1, axis=1)
        off_scalar_first[both] = angle_between_deg(quaternion_to_matrix(scalar_first), by_euler)
        hint = (
            " Read as (w, x, y, z) they agree: the columns are scalar first; reorder them to (x, y, z, w)."
            if (off_scalar_first[both] <= _ROTATION_TOLERANCE_DEG).all()
            else " Correct the one or the other."
        )
        self._report(
            off > _ROTATION_TOLERANCE_DEG,
            "rotations disagree",
            lambda row: f"quaternion and Euler angles are {off[row]:.2f} deg apart",
            "Quaternions are read as (x, y, z, w)." + hint,
        )

    def _in_world(self, stored_mm: FloatArray) -> FloatArray:
        """Decide which origin the poses have and return translations in the world frame, (rows, 3) mm."""
        shift = np.zeros_like(stored_mm)
        for id, rig in self.rigs.items():
            shift[self.sources == id] = rig["bs"].source_mm
        from_intensifier, from_source = self._in_field(stored_mm), self._in_field(stored_mm + shift)
        # Where a calibration is unusable, that is the problem, not its poses.
        used = self.sound & ~self.obsolete & np.isin(self.sources, list(self.rigs))
        count = int(used.sum())
        by_intensifier, by_source = int(from_intensifier[used].sum()), int(from_source[used].sum())
        evidence = (
            f"{by_intensifier} of {count} poses lie in a plane's field with the origin at the bs intensifier, "
            f"{by_source} with the origin at the bs source; median tz is "
            f"{np.median(stored_mm[used, 2]) if count else float('nan'):.1f} mm"
        )
        if count and max(by_intensifier, by_source) * 2 < count:
            self.findings.problem(
                "frame of poses",
                self.where,
                f"the frame of the poses cannot be told: {evidence}",
                "Poses are expected in mm with tz near 381 (bs intensifier) or -1480 (bs source); check the unit.",
                structural=True,
            )
        source_origin = by_source > by_intensifier
        answer = "origin at the bs source" if source_origin else "origin at the bs intensifier"
        self.findings.decide("pose_frame", "Which frame are the poses in?", answer, evidence)
        for row in np.flatnonzero(used & ~from_intensifier & ~from_source):
            self.findings.problem(
                "pose outside",
                f"{self.where}, id {self.ids[row]}",
                f"translation {tuple(stored_mm[row].round(2).tolist())} mm lies in neither plane's field",
                "Check the pose; it is kept.",
            )
        return stored_mm + shift if source_origin else stored_mm

    def _in_field(self, world_mm: FloatArray) -> Bools:
        """Whether points (rows, 3) project into at least one intensifier's field, between it and its source."""
        inside = np.zeros(len(world_mm), dtype=bool)
        for id, rig in self.rigs.items():
            rows = np.flatnonzero((self.sources == id) & self.sound)
            for plane in PLANES:
                px = rig[plane].project(world_mm[rows], size=2)  # a 2 x 2 grid: the field is -0.5..1.5
                height = (world_mm[rows] - rig[plane].T_world_intensifier[:3, 3]) @ rig[plane].T_world_intensifier[
                    :3, 2
                ]
                with np.errstate(invalid="ignore"):
                    inside[rows] |= (np.abs(px - 0.5) <= 1).all(axis=1) & (height >= 0)
        return inside

    def _components(self, world_mm: FloatArray) -> NDArray[np.str_]:
        """Component of every row by its anatomy; "" in rows that are not sound."""
        if not self.components:
            self.components = self._components_by_height(world_mm)
        names = np.array([self.components.get(int(id), "") for id in self.anatomies], dtype="<U16")
        self._report(
            ~np.isin(names, COMPONENTS),
            "unknown component",
            lambda row: f"anatomy {self.anatomies[row]} has category {names[row]!r}, expected a femur or a tibia",
            "Correct the category in anatomies or mark the pose obsolete.",
        )
        return names

    def _components_by_height(self, world_mm: FloatArray) -> dict[int, str]:
        """Femoral is what lies above its partner (+y is up), where no table says it."""
        used = np.flatnonzero(self.sound & ~self.obsolete)
        order = used[np.lexsort((world_mm[used, 1], self.measurements[used]))]
        first, second = order[:-1], order[1:]
        partners = self.measurements[first] == self.measurements[second]
        below, above = self.anatomies[first[partners]], self.anatomies[second[partners]]
        components, evidence = {}, []
        for anatomy in np.unique(self.anatomies[used]):
            times_above, times_below = int((above == anatomy).sum()), int((below == anatomy).sum())
            if min(times_above, times_below) * 10 > max(times_above, times_below) or times_above == times_below:
                raise self.findings.stop(
                    "unknown component",
                    self.where,
                    f"anatomy {anatomy} lies {times_above} times above and {times_below} times below its partner; "
                    "whether it is femoral or tibial cannot be told",
                    "Put an anatomies.csv with columns id, category (femur_implant, tibia_implant) beside the poses.",
                )
            components[int(anatomy)] = "femur" if times_above > times_below else "tibia"
            evidence.append(f"{anatomy} above its partner in {times_above} of {times_above + times_below} frames")
        answer = ", ".join(f"{id} {component}" for id, component in components.items())
        self.findings.decide(
            "components", "Which implants are femoral?", answer, "no table of anatomies; " + "; ".join(evidence)
        )
        return components

    def _kinds(self) -> NDArray[np.str_]:
        """Kind of every row by its method."""
        if "method" not in self.table.column_names:
            self.findings.decide(
                "kinds",
                "Which poses are target, refined or manual?",
                "all are refined",
                "the table has no column method; the authors' CSV holds the refined poses",
            )
            return np.full(len(self.ids), "refined", dtype="<U16")
        methods = [(method or "").strip() for method in self.table["method"].to_pylist()]
        known = {method: _kind_of_method(method) for method in set(methods)}
        # The lab's schema knows ROBOT and MANMATCH only; where nothing else is there, ROBOT is all there is to
        # train on, and the database's own name says that its poses are refined.
        only_robot = "refined" not in known.values() and "target" in known.values()
        if only_robot:
            known = {method: "refined" if kind == "target" else kind for method, kind in known.items()}
        counts = Counter(methods)
        answer = "; ".join(f"{method or 'no method'} is {known[method]}" for method in sorted(known))
        evidence = listed(f"{count} rows {method or 'without method'}" for method, count in counts.most_common())
        if only_robot:
            evidence += "; no other automatic method is there"
        self.findings.decide("kinds", "Which poses are target, refined or manual?", answer, evidence)
        return np.array([known[method] for method in methods], dtype="<U16")

    def _check_unique(self, components: NDArray[np.str_], kinds: NDArray[np.str_]) -> None:
        """One current pose per measurement, component and kind; one calibration per measurement and kind."""
        used = np.flatnonzero(self.sound & ~self.obsolete)
        order = used[np.lexsort((self.ids[used], components[used], kinds[used], self.measurements[used]))]
        first, second = order[:-1], order[1:]
        same_frame = (self.measurements[first] == self.measurements[second]) & (kinds[first] == kinds[second])
        twice = same_frame & (components[first] == components[second])
        for a, b in zip(first[twice], second[twice], strict=True):
            self.findings.problem(
                "pose twice",
                f"{self.where}, id {self.ids[a]} and id {self.ids[b]}",
                f"both are the {kinds[a]} pose of the {components[a]} (anatomies {self.anatomies[a]} and "
                f"{self.anatomies[b]}) in measurement {self.measurements[a]}",
                "Mark one of them obsolete.",
                structural=True,
            )
        for ids, table in ((self.sources, "source_int_calibration"), (self.distortions, "distortion_calibration")):
            differ = same_frame & (ids[first] != ids[second])
            for a, b in zip(first[differ], second[differ], strict=True):
                self.findings.problem(
                    "two calibrations",
                    f"{self.where}, id {self.ids[a]} and id {self.ids[b]}",
                    f"measurement {self.measurements[a]} has {table} {ids[a]} by one pose and {ids[b]} by the other",
                    "Give both poses the calibration of the frame.",
                    structural=True,
                )


def _kind_of_method(method: str) -> str:
    upper = method.upper()
    if upper.startswith("MAN"):
        return "manual"
    return "target" if upper in ("ROBOT", "TARGET") else "refined"
