"""Which frame of reference stored poses are in."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.archive.fields import in_field
from veriserum_hf.archive.pose_rows import PoseRows
from veriserum_hf.archive.units import MM_PER_UNIT, another_unit
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
    by_plane_from_intensifier = _in_field(rows, rigs, stored_mm)
    by_plane_from_source = _in_field(rows, rigs, stored_mm + shift)
    from_intensifier = np.asarray(by_plane_from_intensifier.any(axis=1))
    from_source = np.asarray(by_plane_from_source.any(axis=1))
    by_plane = by_plane_from_intensifier.copy()
    # Where a calibration is unusable, that is the problem, not its poses.
    located = rows.sound & np.isin(rows.sources, list(rigs))
    world_mm, answers, evidence = stored_mm.copy(), {}, []
    for kind in np.unique(kinds[located]).tolist():
        of_kind = located & (kinds == kind)
        current = of_kind & ~rows.obsolete
        voters = current if current.any() else of_kind  # a kind may have been marked obsolete as a whole
        count = int(voters.sum())
        if _refused_for_unit(rows, of_kind, voters, kind, stored_mm, shift, rigs):
            continue
        by_intensifier, by_source = int(from_intensifier[voters].sum()), int(from_source[voters].sum())
        found = (
            f"{by_intensifier} of {count} {kind} poses lie in a plane's field with the origin at the bs intensifier, "
            f"{by_source} with the origin at the bs source; median tz is {np.median(stored_mm[voters, 2]):.1f} mm"
        )
        if max(by_intensifier, by_source) * 2 < count:
            _refuse(
                rows,
                of_kind,
                f"the frame of the poses cannot be determined: {found}",
                "Poses are expected in mm with tz near 381 (bs intensifier) or -1480 (bs source); check the unit.",
            )
            continue
        source_origin = by_source > by_intensifier
        answers[kind] = f"origin at the bs {'source' if source_origin else 'intensifier'}"
        evidence.append(found)
        if source_origin:
            world_mm[kinds == kind] += shift[kinds == kind]
            by_plane[kinds == kind] = by_plane_from_source[kinds == kind]
        inside, other = (from_source, from_intensifier) if source_origin else (from_intensifier, from_source)
        _check_fields(rows, of_kind, stored_mm, inside, other)
    _check_planes(rows, rigs, by_plane, located & rows.used & np.isin(kinds, list(answers)))
    same = len(set(answers.values())) == 1
    answer = next(iter(answers.values())) if same else ", ".join(f"{kind}: {text}" for kind, text in answers.items())
    rows.findings.decide(
        "pose_frame", "Which frame are the poses in?", answer or "not determined", "; ".join(evidence)
    )
    return world_mm


def _refused_for_unit(
    rows: PoseRows,
    of_kind: BoolArray,
    voters: BoolArray,
    kind: str,
    stored_mm: FloatArray,
    shift_mm: FloatArray,
    rigs: Mapping[int, DualPlaneRig],
) -> bool:
    """Whether the poses of one kind are plausible in another unit than mm only; then they are refused."""
    unit = another_unit(stored_mm[voters], shift_mm[voters], rows.sources[voters], rigs)
    if unit is None:
        return False
    name, plausible, in_mm = unit
    _refuse(
        rows,
        of_kind,
        f"the frame of the poses cannot be determined: {in_mm} of {int(voters.sum())} {kind} poses lie in the fields "
        f"of both planes, between X-ray source and intensifier, if in millimetres, {plausible} if in {name}",
        f"Poses are expected in mm; check the unit, which seems to be {name}: "
        f"multiply tx, ty and tz by {MM_PER_UNIT[name]:g}.",
    )
    return True


def _refuse(rows: PoseRows, of_kind: BoolArray, what: str, remedy: str) -> None:
    """Report a fault of all poses of one kind."""
    in_use = bool((of_kind & ~rows.obsolete).any())
    rows.findings.problem("frame of poses", rows.where, what, remedy, structural=in_use)
    if not in_use:
        rows.sound &= ~of_kind  # excluded, as any obsolete pose with a fault


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
    outside = of_kind & ~rows.obsolete & ~inside & ~inside_by_other
    rows.outside |= outside
    for row in np.flatnonzero(outside):
        rows.findings.problem(
            "pose outside",
            f"{rows.where}, id {rows.ids[row]}",
            f"translation {tuple(stored_mm[row].round(2).tolist())} mm lies in neither plane's field",
            "Check the pose; it is kept.",
        )


def _in_field(rows: PoseRows, rigs: Mapping[int, DualPlaneRig], world_mm: FloatArray) -> BoolArray:
    """Whether points (rows, 3) project into each intensifier's field, between it and its source, (rows, planes)."""
    inside = np.zeros((len(world_mm), len(PLANES)), dtype=bool)
    for id, rig in rigs.items():
        of_rig = np.flatnonzero((rows.sources == id) & rows.sound)
        for number, plane in enumerate(PLANES):
            inside[of_rig, number] = in_field(rig[plane], world_mm[of_rig])
    return inside


def _check_planes(rows: PoseRows, rigs: Mapping[int, DualPlaneRig], inside: BoolArray, current: BoolArray) -> None:
    """Report calibrations with which a plane does not see the implants whose poses use them.

    An origin far from its implant may lie outside too; where other calibrations have their implants in the field,
    it is the calibration.
    """
    ids, number_of = np.unique(rows.sources[current], return_inverse=True)
    in_use = np.bincount(number_of, minlength=len(ids)).tolist()
    for number, plane in enumerate(PLANES):
        seen = np.bincount(number_of, inside[current, number], minlength=len(ids)).astype(int).tolist()
        sound = any(2 * count > of for count, of in zip(seen, in_use, strict=True))
        for id, count, of in zip(ids.tolist(), seen, in_use, strict=True):
            if 2 * count < of:
                rows.findings.problem(
                    "implants not seen",
                    rows.where,
                    f"with source_int_calibration {id} (sid_{plane} {rigs[id][plane].sid_mm:g} mm), {count} of the "
                    f"{of} poses that use it lie in the field of {plane}, expected all, or nearly all",
                    "Compare the calibration, and inter_plane_calibration where it is there, with the download's; or "
                    "check the poses.",
                    structural=sound and count == 0,
                )
