"""Which frame of reference stored poses are in."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.archive.pose_rows import PoseRows
from veriserum_hf.core import PLANES, BoolArray, FloatArray
from veriserum_hf.geometry import DualPlaneRig


def in_world(
    rows: PoseRows, rigs: Mapping[int, DualPlaneRig], kinds: NDArray[np.str_], stored_mm: FloatArray
) -> FloatArray:
    """Decide which origin the poses of each kind have; return translations in the world frame, (rows, 3) mm.

    Kinds come from different tools, so each is decided by itself, and a pose that contradicts its kind is refused.
    """
    shift = np.zeros_like(stored_mm)
    for id, rig in rigs.items():
        shift[rows.sources == id] = rig["bs"].source_mm
    from_intensifier = _in_field(rows, rigs, stored_mm)
    from_source = _in_field(rows, rigs, stored_mm + shift)
    # Where a calibration is unusable, that is the problem, not its poses.
    located = rows.sound & np.isin(rows.sources, list(rigs))
    world_mm, answers, evidence = stored_mm.copy(), {}, []
    for kind in np.unique(kinds[located]).tolist():
        of_kind = located & (kinds == kind)
        current = of_kind & ~rows.obsolete
        voters = current if current.any() else of_kind  # a kind may have been marked obsolete as a whole
        count = int(voters.sum())
        by_intensifier, by_source = int(from_intensifier[voters].sum()), int(from_source[voters].sum())
        found = (
            f"{by_intensifier} of {count} {kind} poses lie in a plane's field with the origin at the bs intensifier, "
            f"{by_source} with the origin at the bs source; median tz is {np.median(stored_mm[voters, 2]):.1f} mm"
        )
        if max(by_intensifier, by_source) * 2 < count:
            rows.findings.problem(
                "frame of poses",
                rows.where,
                f"the frame of the poses cannot be determined: {found}",
                "Poses are expected in mm with tz near 381 (bs intensifier) or -1480 (bs source); check the unit.",
                structural=bool(current.any()),
            )
            if not current.any():
                rows.sound &= ~of_kind  # excluded, as any obsolete pose with a fault
            continue
        source_origin = by_source > by_intensifier
        answers[kind] = f"origin at the bs {'source' if source_origin else 'intensifier'}"
        evidence.append(found)
        if source_origin:
            world_mm[kinds == kind] += shift[kinds == kind]
        inside, other = (from_source, from_intensifier) if source_origin else (from_intensifier, from_source)
        _check_fields(rows, of_kind, stored_mm, inside, other)
    same = len(set(answers.values())) == 1
    answer = next(iter(answers.values())) if same else ", ".join(f"{kind}: {text}" for kind, text in answers.items())
    rows.findings.decide(
        "pose_frame", "Which frame are the poses in?", answer or "not determined", "; ".join(evidence)
    )
    return world_mm


def _check_fields(
    rows: PoseRows, of_kind: BoolArray, stored_mm: FloatArray, inside: BoolArray, inside_by_other: BoolArray
) -> None:
    """Report poses of one kind that lie in no field, or in one only with the origin that the kind does not have."""
    rows.report(
        of_kind & ~inside & inside_by_other,
        "frame of poses",
        lambda row: (
            f"translation {tuple(stored_mm[row].round(2).tolist())} mm lies in a plane's field only with another "
            "origin than the other poses of its kind"
        ),
        "Bring all poses of a kind into one frame, or mark this one obsolete.",
    )
    for row in np.flatnonzero(of_kind & ~rows.obsolete & ~inside & ~inside_by_other):
        rows.findings.problem(
            "pose outside",
            f"{rows.where}, id {rows.ids[row]}",
            f"translation {tuple(stored_mm[row].round(2).tolist())} mm lies in neither plane's field",
            "Check the pose; it is kept.",
        )


def _in_field(rows: PoseRows, rigs: Mapping[int, DualPlaneRig], world_mm: FloatArray) -> BoolArray:
    """Whether points (rows, 3) project into at least one intensifier's field, between it and its source."""
    inside = np.zeros(len(world_mm), dtype=bool)
    for id, rig in rigs.items():
        of_rig = np.flatnonzero((rows.sources == id) & rows.sound)
        for plane in PLANES:
            px = rig[plane].project(world_mm[of_rig], size=2)  # a 2 x 2 grid: the field is -0.5..1.5
            height = (world_mm[of_rig] - rig[plane].T_world_intensifier[:3, 3]) @ rig[plane].T_world_intensifier[
                :3, 2
            ]
            with np.errstate(invalid="ignore"):
                inside[of_rig] |= (np.abs(px - 0.5) <= 1).all(axis=1) & (height >= 0)
    return inside
