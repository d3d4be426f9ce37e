"""Meaning of the pose table: kind, component, and the frame of reference; every pose in the world frame."""

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from veriserum_hf.archive.pose_frame import in_world
from veriserum_hf.archive.pose_rows import PoseRows, integers, numbers
from veriserum_hf.archive.rotations import read_rotations
from veriserum_hf.core import COMPONENTS, FloatArray, listed
from veriserum_hf.geometry import DualPlaneRig

_KNOWN_METHOD = re.compile(r"^MAN|ROBOT|TARGET|REFIN|REGIST|AUTO|OPTIM", re.IGNORECASE)
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


@dataclass
class References:
    """What poses refer to.

    Attributes
    ----------
    rigs : source calibration id to rig, for the usable ones.
    source_ids, distortion_ids : ids of all calibrations that are there.
    measurement_ids : ids in the table of measurements, or None where there is no such table.
    components : anatomy id to component; None, and filled by the poses, where there is no table of anatomies.
    usable_distortion_ids : ids of the distortion calibrations that can be used.
    manual_measurements : filled by the poses: measurements with a manual pose, be it sound and current or not.

    """

    rigs: dict[int, DualPlaneRig]
    source_ids: NDArray[np.int64]
    distortion_ids: NDArray[np.int64]
    measurement_ids: NDArray[np.int64] | None
    components: dict[int, str] | None
    usable_distortion_ids: list[int]
    manual_measurements: set[int] = field(default_factory=set)


def pose_table(rows: PoseRows, references: References) -> pa.Table:
    """Check every row and return the sound ones, in the world frame, by ``POSE_SCHEMA``.

    Raises
    ------
    ArchiveError
        If something about the whole table cannot be determined; faults of single rows are reported.

    """
    _check_references(rows, references)
    _check_obsolete(rows)
    translation = numbers(rows.table, "tx", "ty", "tz")
    rows.report(
        np.asarray(~np.isfinite(translation).all(axis=1)),
        "pose not finite",
        lambda row: f"translation (tx, ty, tz) is {tuple(translation[row].tolist())}, expected three finite mm",
        "Mark the pose obsolete or correct it.",
    )
    with np.errstate(over="ignore", invalid="ignore"):  # numbers that are far too large are reported
        quaternion = read_rotations(rows)
    kinds = _kinds(rows)
    references.manual_measurements = set(rows.measurements[kinds == "manual"].tolist())
    translation = in_world(rows, references.rigs, kinds, translation)
    components = _components(rows, references, translation)
    _check_unique(rows, components, kinds)
    if not rows.used.any():
        rows.findings.problem("no poses", rows.where, "there is no pose in use", "Use the tables of the download.")
    # One that is sound and current comes before one that is obsolete, and newer before older.
    order = np.lexsort((-rows.ids, rows.obsolete, rows.measurements))
    kept = order[rows.sound[order]]
    columns = {
        "pose_id": rows.ids,
        "measurement_id": rows.measurements,
        "anatomy_id": rows.anatomies,
        "component": components,
        "kind": kinds,
        "obsolete": rows.obsolete,
        "source_calibration_id": rows.sources,
        "distortion_calibration_id": rows.distortions,
    }
    arrays = {name: pa.array(values[kept]) for name, values in columns.items()}
    for name, values in (("translation_mm", translation), ("quaternion_xyzw", quaternion)):
        flat = pa.array(values[kept].ravel())
        arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table({field.name: arrays[field.name] for field in POSE_SCHEMA}).cast(POSE_SCHEMA)


def _check_obsolete(rows: PoseRows) -> None:
    """Report values of the column that are neither yes nor no; any number above 0 is taken for yes."""
    strange = np.flatnonzero(~np.isin(integers(rows.table, "obsolete"), (0, 1)))
    if len(strange):
        found = "NULL" if (value := integers(rows.table, "obsolete")[strange[0]]) < 0 else str(value)
        rows.findings.problem(
            "obsolete",
            f"{rows.where}, id {rows.ids[strange[0]]}",
            f"obsolete is {found}, expected 0 or 1; {len(strange)} rows have such values",
            "Above 0, a pose is excluded. Write 0 or 1.",
        )


def _check_references(rows: PoseRows, references: References) -> None:
    unique, counts = np.unique(rows.ids, return_counts=True)
    rows.report(
        np.asarray(np.isin(rows.ids, unique[counts > 1]) | (rows.ids < 0)),
        "id twice",
        lambda row: "the id is NULL or occurs in more than one row",
        "Give every pose its own id.",
    )

    def known(ids: NDArray[np.int64], table: str, table_ids: NDArray[np.int64] | list[int]) -> None:
        rows.report(
            ~np.isin(ids, table_ids),
            "dangling id",
            lambda row: f"refers to {table} id {ids[row] if ids[row] >= 0 else 'NULL'}, which is not there",
            f"Add the row to {table} or mark the pose obsolete.",
        )

    if references.measurement_ids is None or references.components is None:  # otherwise such an id is not there
        rows.report(
            np.asarray((rows.measurements < 0) | (rows.anatomies < 0)),
            "dangling id",
            lambda row: "measurement_id or anatomy_id is NULL, or a negative number",
            "Add the id, or mark the pose obsolete.",
        )
    known(rows.sources, "source_int_calibration", references.source_ids)
    known(rows.distortions, "distortion_calibration", references.distortion_ids)
    if references.components is not None:
        known(rows.anatomies, "anatomies", list(references.components))
    if references.measurement_ids is not None:
        known(rows.measurements, "measurements", references.measurement_ids)

    def usable(ids: NDArray[np.int64], table: str, usable_ids: list[int]) -> None:
        rows.report(
            rows.obsolete & ~np.isin(ids, usable_ids),  # for current poses, the calibration is the structural problem
            "unusable calibration",
            lambda row: f"uses {table} id {ids[row]}, which is unusable",
            "Restore the calibration's row from the download.",
        )

    usable(rows.sources, "source_int_calibration", list(references.rigs))
    usable(rows.distortions, "distortion_calibration", references.usable_distortion_ids)


def _components(rows: PoseRows, references: References, world_mm: FloatArray) -> NDArray[np.str_]:
    """Component of every row by its anatomy; "" in rows that are not sound."""
    if references.components is None:
        references.components = _components_by_height(rows, world_mm)
    unique, number_of = np.unique(rows.anatomies, return_inverse=True)
    names = np.array([references.components.get(id, "") for id in unique.tolist()], dtype="<U16")[number_of]
    rows.report(
        ~np.isin(names, COMPONENTS),
        "unknown component",
        lambda row: f"anatomy {rows.anatomies[row]} has category {str(names[row])!r}, expected a femur or a tibia",
        "Correct the category in anatomies or mark the pose obsolete.",
    )
    return names


def _components_by_height(rows: PoseRows, world_mm: FloatArray) -> dict[int, str]:
    """Femoral is what lies above its partner (+y is up), where no table states it."""
    used = np.flatnonzero(rows.used)
    order = used[np.lexsort((world_mm[used, 1], rows.measurements[used]))]
    first, second = order[:-1], order[1:]
    partners = rows.measurements[first] == rows.measurements[second]
    below, above = rows.anatomies[first[partners]], rows.anatomies[second[partners]]
    components, evidence = {}, []
    for anatomy in np.unique(rows.anatomies[used]):
        times_above, times_below = int((above == anatomy).sum()), int((below == anatomy).sum())
        if min(times_above, times_below) * 10 > max(times_above, times_below) or times_above == times_below:
            raise rows.findings.stop(
                "unknown component",
                rows.where,
                f"anatomy {anatomy} lies {times_above} times above and {times_below} times below its partner; "
                "whether it is femoral or tibial cannot be determined",
                "Put an anatomies.csv with columns id, category (femur_implant, tibia_implant) next to the poses.",
            )
        components[int(anatomy)] = "femur" if times_above > times_below else "tibia"
        evidence.append(f"{anatomy} above its partner in {times_above} of {times_above + times_below} frames")
    answer = ", ".join(f"{id} {component}" for id, component in components.items())
    rows.findings.decide(
        "components", "Which implants are femoral?", answer, "no table of anatomies; " + "; ".join(evidence)
    )
    return components


def _kinds(rows: PoseRows) -> NDArray[np.str_]:
    """Kind of every row by its method."""
    question = "Which poses are target, refined or manual?"
    if "method" not in rows.table.column_names:
        evidence = "the table has no column method; the authors' CSV holds the refined poses"
        rows.findings.decide("kinds", question, "all are refined", evidence)
        return np.full(len(rows.ids), "refined", dtype="<U16")
    # Of each method once: there are few, and many rows.
    coded = pc.fill_null(rows.table["method"], "").combine_chunks().dictionary_encode()
    written = [method.strip() for method in coded.dictionary.to_pylist()]
    codes = np.asarray(coded.indices)
    counts = Counter[str]()
    for method, count in zip(written, np.bincount(codes, minlength=len(written)).tolist(), strict=True):
        counts[method] += count
    known = {method: _kind_of_method(method) for method in counts}
    # The lab's schema knows ROBOT and MANMATCH only; where no other automatic method is there, ROBOT is all there
    # is to train on, and the database's own name states that its poses are refined.
    for method in sorted(method for method in known if method and not _KNOWN_METHOD.search(method)):
        rows.findings.problem(
            "unknown method",
            rows.where,
            f"{counts[method]} poses have the method {method!r}, which is assumed to be refined",
            "Known are ROBOT, TARGET, MANMATCH, and words like REFINED, REGISTERED or AUTO: check what it means.",
        )
    only_robot = {method.upper() for method, kind in known.items() if kind != "manual"} == {"ROBOT"}
    if only_robot:
        known = {method: "refined" if kind == "target" else kind for method, kind in known.items()}
    answer = "; ".join(f"{method or 'no method'} is {known[method]}" for method in sorted(known))
    evidence = listed(f"{count} rows {method or 'without method'}" for method, count in counts.most_common())
    if only_robot:
        evidence += "; no other automatic method is there"
    rows.findings.decide("kinds", question, answer, evidence)
    kinds: NDArray[np.str_] = np.array([known[method] for method in written], dtype="<U16")[codes]
    return kinds


def _check_unique(rows: PoseRows, components: NDArray[np.str_], kinds: NDArray[np.str_]) -> None:
    """One current pose per measurement, component and kind; one calibration per measurement and kind."""
    used = np.flatnonzero(rows.used)
    order = used[np.lexsort((rows.ids[used], components[used], kinds[used], rows.measurements[used]))]
    first, second = order[:-1], order[1:]
    same_frame = (rows.measurements[first] == rows.measurements[second]) & (kinds[first] == kinds[second])
    twice = same_frame & (components[first] == components[second])
    for a, b in zip(first[twice], second[twice], strict=True):
        rows.findings.problem(
            "pose twice",
            f"{rows.where}, id {rows.ids[a]} and id {rows.ids[b]}",
            f"both are the {kinds[a]} pose of the {components[a]} (anatomies {rows.anatomies[a]} and "
            f"{rows.anatomies[b]}) in measurement {rows.measurements[a]}",
            "Mark one of them obsolete.",
            structural=True,
        )
    for ids, table in ((rows.sources, "source_int_calibration"), (rows.distortions, "distortion_calibration")):
        differ = same_frame & (ids[first] != ids[second])
        for a, b in zip(first[differ], second[differ], strict=True):
            rows.findings.problem(
                "two calibrations",
                f"{rows.where}, id {rows.ids[a]} and id {rows.ids[b]}",
                f"measurement {rows.measurements[a]} has {table} {ids[a]} by one pose and {ids[b]} by the other",
                "Give both poses the calibration of the frame.",
                structural=True,
            )


def _kind_of_method(method: str) -> str:
    upper = method.upper()
    if upper.startswith("MAN"):
        return "manual"
    return "target" if upper == "ROBOT" or "TARGET" in upper else "refined"
