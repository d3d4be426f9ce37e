"""What the pose table means: kind, component, and the frame of reference; every pose in the world frame."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from veriserum_hf.archive.pose_rows import Bools, FloatArray, PoseRows, numbers
from veriserum_hf.archive.problems import listed
from veriserum_hf.archive.rotations import read_rotations
from veriserum_hf.geometry.rig import PLANES, DualPlaneRig

Component = Literal["femur", "tibia"]
COMPONENTS: tuple[Component, Component] = ("femur", "tibia")
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

    """

    rigs: dict[int, DualPlaneRig]
    source_ids: NDArray[np.int64]
    distortion_ids: NDArray[np.int64]
    measurement_ids: NDArray[np.int64] | None
    components: dict[int, str] | None
    usable_distortion_ids: list[int]


def read_poses(rows: PoseRows, references: References) -> pa.Table:
    """Check every row and return the sound ones, in the world frame, by ``POSE_SCHEMA``.

    Raises
    ------
    ArchiveError
        If something about the whole table cannot be told; faults of single rows are reported.

    """
    _check_references(rows, references)
    translation = numbers(rows.table, "tx", "ty", "tz")
    rows.report(
        np.asarray(~np.isfinite(translation).all(axis=1)),
        "pose not finite",
        lambda row: f"translation (tx, ty, tz) is {tuple(translation[row].tolist())}, expected three finite mm",
        "Mark the pose obsolete or correct it.",
    )
    quaternion = read_rotations(rows)
    translation = _in_world(rows, references, translation)
    components = _components(rows, references, translation)
    kinds = _kinds(rows)
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


def _check_references(rows: PoseRows, references: References) -> None:
    unique, counts = np.unique(rows.ids, return_counts=True)
    rows.report(
        np.asarray(np.isin(rows.ids, unique[counts > 1]) | (rows.ids < 0)),
        "id twice",
        lambda row: "the id is NULL or stands in more than one row",
        "Give every pose an id of its own.",
    )

    def known(ids: NDArray[np.int64], table: str, table_ids: NDArray[np.int64] | list[int]) -> None:
        rows.report(
            ~np.isin(ids, table_ids),
            "dangling id",
            lambda row: f"refers to {table} id {ids[row] if ids[row] >= 0 else 'NULL'}, which is not there",
            f"Add the row to {table} or mark the pose obsolete.",
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


def _in_world(rows: PoseRows, references: References, stored_mm: FloatArray) -> FloatArray:
    """Decide which origin the poses have and return translations in the world frame, (rows, 3) mm."""
    shift = np.zeros_like(stored_mm)
    for id, rig in references.rigs.items():
        shift[rows.sources == id] = rig["bs"].source_mm
    from_intensifier = _in_field(rows, references, stored_mm)
    from_source = _in_field(rows, references, stored_mm + shift)
    # Where a calibration is unusable, that is the problem, not its poses.
    used = rows.used & np.isin(rows.sources, list(references.rigs))
    count = int(used.sum())
    by_intensifier, by_source = int(from_intensifier[used].sum()), int(from_source[used].sum())
    evidence = (
        f"{by_intensifier} of {count} poses lie in a plane's field with the origin at the bs intensifier, "
        f"{by_source} with the origin at the bs source; median tz is "
        f"{np.median(stored_mm[used, 2]) if count else float('nan'):.1f} mm"
    )
    if count and max(by_intensifier, by_source) * 2 < count:
        rows.findings.problem(
            "frame of poses",
            rows.where,
            f"the frame of the poses cannot be told: {evidence}",
            "Poses are expected in mm with tz near 381 (bs intensifier) or -1480 (bs source); check the unit.",
            structural=True,
        )
    source_origin = by_source > by_intensifier
    answer = "origin at the bs source" if source_origin else "origin at the bs intensifier"
    rows.findings.decide("pose_frame", "Which frame are the poses in?", answer, evidence)
    for row in np.flatnonzero(used & ~from_intensifier & ~from_source):
        rows.findings.problem(
            "pose outside",
            f"{rows.where}, id {rows.ids[row]}",
            f"translation {tuple(stored_mm[row].round(2).tolist())} mm lies in neither plane's field",
            "Check the pose; it is kept.",
        )
    return stored_mm + shift if source_origin else stored_mm


def _in_field(rows: PoseRows, references: References, world_mm: FloatArray) -> Bools:
    """Whether points (rows, 3) project into at least one intensifier's field, between it and its source."""
    inside = np.zeros(len(world_mm), dtype=bool)
    for id, rig in references.rigs.items():
        of_rig = np.flatnonzero((rows.sources == id) & rows.sound)
        for plane in PLANES:
            px = rig[plane].project(world_mm[of_rig], size=2)  # a 2 x 2 grid: the field is -0.5..1.5
            height = (world_mm[of_rig] - rig[plane].T_world_intensifier[:3, 3]) @ rig[plane].T_world_intensifier[
                :3, 2
            ]
            with np.errstate(invalid="ignore"):
                inside[of_rig] |= (np.abs(px - 0.5) <= 1).all(axis=1) & (height >= 0)
    return inside


def _components(rows: PoseRows, references: References, world_mm: FloatArray) -> NDArray[np.str_]:
    """Component of every row by its anatomy; "" in rows that are not sound."""
    if references.components is None:
        references.components = _components_by_height(rows, world_mm)
    names = np.array([references.components.get(int(id), "") for id in rows.anatomies], dtype="<U16")
    rows.report(
        ~np.isin(names, COMPONENTS),
        "unknown component",
        lambda row: f"anatomy {rows.anatomies[row]} has category {str(names[row])!r}, expected a femur or a tibia",
        "Correct the category in anatomies or mark the pose obsolete.",
    )
    return names


def _components_by_height(rows: PoseRows, world_mm: FloatArray) -> dict[int, str]:
    """Femoral is what lies above its partner (+y is up), where no table says it."""
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
                "whether it is femoral or tibial cannot be told",
                "Put an anatomies.csv with columns id, category (femur_implant, tibia_implant) beside the poses.",
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
    if "method" not in rows.table.column_names:
        rows.findings.decide(
            "kinds",
            "Which poses are target, refined or manual?",
            "all are refined",
            "the table has no column method; the authors' CSV holds the refined poses",
        )
        return np.full(len(rows.ids), "refined", dtype="<U16")
    methods = [(method or "").strip() for method in rows.table["method"].to_pylist()]
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
    rows.findings.decide("kinds", "Which poses are target, refined or manual?", answer, evidence)
    return np.array([known[method] for method in methods], dtype="<U16")


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
    return "target" if upper in ("ROBOT", "TARGET") else "refined"
