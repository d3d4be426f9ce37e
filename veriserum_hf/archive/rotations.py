"""How rotations are stored, and every pose's rotation as a quaternion."""

import numpy as np

from veriserum_hf.archive.pose_rows import PoseRows, numbers
from veriserum_hf.archive.problems import Decision
from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.geometry import (
    angle_between_deg,
    canonical_quaternion,
    euler_zxy_to_matrix,
    matrix_to_quaternion,
    quaternion_to_matrix,
)

_NORM_TOLERANCE = 1e-3
_TOLERANCE_DEG = 0.1
_FULL_ROTATION_DEG = 360.0
_FEWEST, _SMALLEST_RAD = 6, 0.5  # poses, and the largest angle of them, that may be in radians
_SCALAR_LAST = "quaternion (r0, r1, r2, r3) = (x, y, z, w), scalar last"
_BY_EULER = "agrees with the Euler angles"


def read_rotations(rows: PoseRows) -> FloatArray:
    """Quaternions (rows, 4), (x, y, z, w), w >= 0; the identity in rows that are not sound.

    A row has a quaternion, Euler angles, or both, which then must agree.

    Raises
    ------
    ArchiveError
        If no row has a rotation.

    """
    quaternion, euler = numbers(rows.table, "r0", "r1", "r2", "r3"), numbers(rows.table, "rz", "rx", "ry")
    # A row may have the one or the other; a NULL is not the same as a NaN that was computed.
    has_q, has_e = rows.present("r0", "r1", "r2", "r3"), rows.present("rz", "rx", "ry")
    if not ((has_q | has_e) | ~rows.sound).any() and len(rows.ids):
        raise rows.findings.stop(
            "missing column",
            rows.where,
            "there is no complete quaternion (r0, r1, r2, r3) and no complete set of Euler angles (rz, rx, ry); "
            f"found {', '.join(column for column in rows.table.column_names if column[0] == 'r') or 'none of them'}",
            "Use the tables of the download unchanged.",
        )
    rows.report(
        ~(has_q | has_e) | (has_q & ~np.isfinite(quaternion).all(axis=1)) | (has_e & ~np.isfinite(euler).all(axis=1)),
        "pose not finite",
        lambda row: (
            "rotation is " + _stored(quaternion[row], euler[row], has_q[row], has_e[row]) + ", expected finite"
        ),
        "Mark the pose obsolete or correct it.",
    )
    norm = np.linalg.norm(quaternion, axis=1)
    rows.report(
        has_q & (np.abs(norm - 1) > _NORM_TOLERANCE),
        "quaternion norm",
        lambda row: f"quaternion (r0, r1, r2, r3) has norm {norm[row]:.6f}, expected 1 within {_NORM_TOLERANCE}",
        "Mark the pose obsolete or correct it.",
    )
    use_q, use_e = has_q & rows.sound, has_e & rows.sound
    _check_angles(rows, euler, use_e)
    result = np.tile([0.0, 0.0, 0.0, 1.0], (len(rows.ids), 1))
    result[use_e] = matrix_to_quaternion(euler_zxy_to_matrix(euler[use_e]))
    both = use_q & use_e
    if both.any():
        _cross_check(rows, quaternion, euler, both)
    result[use_q] = canonical_quaternion(quaternion[use_q])
    if use_q.any():
        answer = _SCALAR_LAST
        evidence = (
            f"{_BY_EULER} in {both.sum()} of {both.sum()} rows"
            if both.any() and rows.sound[both].all()
            else f"unit length in {use_q.sum()} rows; the lab's code reads the scalar last; no Euler angles "
            "confirm it. `audit --deep` and every conversion compare both orders with the images"
        )
    else:
        answer = "intrinsic Euler angles ZXY (rz, rx, ry) in degrees"
        evidence = f"{use_e.sum()} rows have them, none has a quaternion"
    rows.findings.decide("rotation", "How are rotations stored?", answer, evidence)
    return result


def is_assumed(rotation: Decision) -> bool:
    """Whether the order of quaternions is only the documented one, which no Euler angles confirm."""
    return rotation.answer == _SCALAR_LAST and not rotation.evidence.startswith(_BY_EULER)


def _check_angles(rows: PoseRows, euler: FloatArray, present: BoolArray) -> None:
    """Report angles beyond a full rotation, and those that may be radians: knees move by more than 2 pi degrees."""
    largest = np.abs(euler).max(axis=1, initial=0, where=present[:, None])
    if len(beyond := np.flatnonzero(largest > _FULL_ROTATION_DEG)):
        rows.findings.problem(
            "angle",
            f"{rows.where}, id {rows.ids[beyond[0]]}",
            f"(rz, rx, ry) is {tuple(euler[beyond[0]].tolist())}, expected -360 to 360 degrees; "
            f"{len(beyond)} rows have such angles",
            "Correct the angles, or mark the poses obsolete.",
        )
    if present.sum() >= _FEWEST and _SMALLEST_RAD < largest.max() <= 2 * np.pi:
        rows.findings.problem(
            "angle",
            rows.where,
            f"no angle of {present.sum()} rows (rz, rx, ry) is above {largest.max():.3g}, as if they were in radians",
            "They are read as degrees; check the unit.",
        )


def _stored(quaternion: FloatArray, euler: FloatArray, has_q: bool, has_e: bool) -> str:
    """What a row holds, as text."""
    parts = [f"(r0, r1, r2, r3) = {tuple(quaternion.tolist())}"] if has_q else []
    parts += [f"(rz, rx, ry) = {tuple(euler.tolist())} deg"] if has_e else []
    return " and ".join(parts) or "NULL"


def _cross_check(rows: PoseRows, quaternion: FloatArray, euler: FloatArray, both: BoolArray) -> None:
    by_euler = euler_zxy_to_matrix(euler[both])
    off, off_scalar_first = np.zeros(len(both)), np.zeros(len(both))
    off[both] = angle_between_deg(quaternion_to_matrix(quaternion[both]), by_euler)
    scalar_first = np.roll(quaternion[both], -1, axis=1)
    off_scalar_first[both] = angle_between_deg(quaternion_to_matrix(scalar_first), by_euler)
    hint = (
        " Read as (w, x, y, z) they agree: the columns are scalar first; reorder them to (x, y, z, w)."
        if (off_scalar_first[both] <= _TOLERANCE_DEG).all()
        else " Correct the one or the other."
    )
    rows.report(
        off > _TOLERANCE_DEG,
        "rotations disagree",
        lambda row: f"quaternion and Euler angles are {off[row]:.2f} deg apart",
        "Quaternions are read as (x, y, z, w)." + hint,
    )
