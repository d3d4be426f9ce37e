"""Poses of one implant, one a frame, in the files of other programs: JointTrack's .jts, Autoscoper's .tra.

**JointTrack .jts** has two lines of header, JT_EULER_312 and the names of the columns, then a line a frame: x, y, z
in mm and the rotations about z, x and y in degrees, R = Rz Rx Ry. The pose is in the frame of the camera: origin at
the X-ray source, x right, y up, z back towards the source. JTML writes the same under JTA_EULER_KINEMATICS, and
NOT_OPTIMIZED where a frame has no pose.

**Autoscoper .tra** has no header: a line a frame with the 16 numbers of the 4 x 4 matrix from the volume to the
world, in mm, separated by commas or blanks, row by row, or column by column where it was saved so; NaN where a frame
has no pose (``AutoscoperMainWindow::save_tracking_results``). Its dialogue also offers cm, which a file does not say.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from veriserum_hf.core import BoolArray, FloatArray, joined_numbers, listed, numbers_of, text_lines
from veriserum_hf.errors import TrainingError
from veriserum_hf.geometry import (
    JOINTTRACK_AXES,
    Camera,
    euler_zxy_to_matrix,
    invert_transform,
    make_transform,
    matrix_to_quaternion,
    quaternion_to_matrix,
)
from veriserum_hf.jobs import write_file
from veriserum_hf.poses.files import read_poses, transforms
from veriserum_hf.poses.schema import AUTOSCOPER_SUFFIX, JOINTTRACK_SUFFIXES, TABLE_SUFFIXES, TRAJECTORY_SUFFIXES

_HEADERS = ("JT_EULER_312", "JTA_EULER_KINEMATICS")
_COLUMNS = ["x_tran", "y_tran", "z_tran", "z_rot", "x_rot", "y_rot"]
_NO_POSE = "NOT_OPTIMIZED"
_ROUNDED = 1e-3  # of a rotation that was written with few digits
_LAST_ROW = (0.0, 0.0, 0.0, 1.0)
_METRES = 2.0  # nothing that is seen by X-rays is moved by less mm from the origin in every frame


def read_trajectory(path: Path, camera: Camera | None = None) -> FloatArray:
    """Read the poses of one implant, one a frame.

    Parameters
    ----------
    path : of a .jts or .tra file, or of a file of `read_poses` (Parquet, CSV) that holds one implant, whose frames
        are put in the order of their measurement ids.
    camera : of the plane whose frame a .jts file is in; the other files are in the world already.

    Returns
    -------
    ``T_world_implant`` (n, 4, 4) in mm; NaN for a frame without a pose.

    Raises
    ------
    TrainingError
        If the file cannot be read, has another header, counts, or units than expected, or a line is no pose; the
        line is named.

    """
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _read_table(path)
    return _format_of(path)[0](path, camera)


def write_trajectory(path: Path, T_world_implant: FloatArray, camera: Camera | None = None) -> None:
    """Write the poses of one implant, (n, 4, 4) in mm, NaN for a frame without one, as .jts or .tra by the suffix.

    Parameters
    ----------
    path : of the file; it appears whole or not at all.
    T_world_implant : one pose a frame.
    camera : of the plane whose frame a .jts file is to be in.

    Raises
    ------
    TrainingError
        If the suffix is another, or a .jts file is to be written without a camera.

    """
    write_file(path, _format_of(path)[1](path, np.asarray(T_world_implant, dtype=np.float64), camera))


def _read_table(path: Path) -> FloatArray:
    rows = read_poses(path).sort_by("measurement_id").to_pylist()
    implants = sorted({f"{row['component']} {row['anatomy_id']}" for row in rows})
    if len(implants) > 1:
        raise TrainingError(f"{path} holds poses of {listed(implants)}; expected those of one implant")
    return transforms(rows)


def _read_jts(path: Path, camera: Camera | None) -> FloatArray:
    T_jointtrack_world = _jointtrack_frame(path, camera)
    lines = _lines(path)
    header = lines[0].strip().rstrip(",") if lines else ""
    if header not in _HEADERS:
        raise TrainingError(f"{path} begins with {header[:40]!r}; expected the header {_HEADERS[0]} of JointTrack")
    columns = re.split(r"[\s,]+", lines[1].strip().strip(",").lower()) if len(lines) > 1 else []
    if columns != _COLUMNS:
        raise TrainingError(f"{path}, line 2: the columns are {listed(columns, 9)}; expected {listed(_COLUMNS, 6)}")
    poses = [
        [np.nan] * 6 if line.strip().startswith(_NO_POSE) else _numbers(path, number, line, 6)
        for number, line in enumerate(lines[2:], 3)
    ]
    values = np.array(poses).reshape(-1, 6)
    T_jointtrack_implant = _nan_poses(len(values))
    is_pose = _whole(path, values, first_line=3)
    _check_unit(path, values[is_pose, :3])
    T_jointtrack_implant[is_pose] = make_transform(euler_zxy_to_matrix(values[is_pose, 3:]), values[is_pose, :3])
    return invert_transform(T_jointtrack_world) @ T_jointtrack_implant


def _write_jts(path: Path, T_world_implant: FloatArray, camera: Camera | None) -> str:
    T = _jointtrack_frame(path, camera) @ T_world_implant
    values = np.concatenate([T[:, :3, 3], _euler_zxy_deg(T[:, :3, :3])], axis=1)
    lines = [joined_numbers(row, ", ") if np.isfinite(row).all() else ", ".join([_NO_POSE] * 6) for row in values]
    return "\n".join([_HEADERS[0], ", ".join(_COLUMNS), *lines]) + "\n"


def _read_tra(path: Path, _camera: Camera | None) -> FloatArray:
    values = np.array([_numbers(path, number, line, 16) for number, line in enumerate(_lines(path), 1)])
    matrices = values.reshape(-1, 4, 4)
    is_pose = _whole(path, values.reshape(-1, 16), first_line=1)
    given = matrices[is_pose]
    if len(given) and not _ends_in_last_row(given).any() and _ends_in_last_row(given.swapaxes(-1, -2)).all():
        given = given.swapaxes(-1, -2)  # column by column
    for line, T in zip(np.flatnonzero(is_pose) + 1, given, strict=True):
        if wrong := _fault(T):
            raise TrainingError(f"{path}, line {line}: {wrong}")
    _check_unit(path, given[:, :3, 3])
    T_world_implant = _nan_poses(len(matrices))
    rotations = quaternion_to_matrix(matrix_to_quaternion(given[:, :3, :3])) if len(given) else given[:, :3, :3]
    T_world_implant[is_pose] = make_transform(rotations, given[:, :3, 3])
    return T_world_implant


def _write_tra(_path: Path, T_world_implant: FloatArray, _camera: Camera | None) -> str:
    rows = T_world_implant.reshape(-1, 16)
    return "".join((joined_numbers(row) if np.isfinite(row).all() else ",".join(["NaN"] * 16)) + "\n" for row in rows)


def _format_of(
    path: Path,
) -> tuple[Callable[[Path, Camera | None], FloatArray], Callable[[Path, FloatArray, Camera | None], str]]:
    """Reader and writer of the format that the suffix says."""
    suffix = path.suffix.lower()
    if suffix in JOINTTRACK_SUFFIXES:
        return _read_jts, _write_jts
    if suffix == AUTOSCOPER_SUFFIX:
        return _read_tra, _write_tra
    raise TrainingError(f"{path}: expected the suffix of one implant's poses, {', '.join(TRAJECTORY_SUFFIXES)}")


def _jointtrack_frame(path: Path, camera: Camera | None) -> FloatArray:
    """``T_jointtrack_world`` of a plane, (4, 4) mm."""
    if camera is None:
        raise TrainingError(f"{path} is in the frame of one camera; expected its camera too")
    return JOINTTRACK_AXES @ camera.world_to_camera


def _lines(path: Path) -> list[str]:
    """Lines of a file without the blank ones at its end; each further one is a frame."""
    lines = text_lines(path, TrainingError)
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise TrainingError(f"{path} is empty; expected poses")
    return lines


def _numbers(path: Path, number: int, line: str, count: int) -> list[float]:
    try:
        values = numbers_of(line)
    except ValueError as error:
        raise TrainingError(f"{path}, line {number}: {error}; expected {count} numbers a frame") from error
    if len(values) != count:
        raise TrainingError(f"{path}, line {number}: {len(values)} numbers{_why(count, len(values))}")
    return values


def _why(count: int, found: int) -> str:
    """What was expected, and what may have been saved instead."""
    if count == 16 and found == 6:
        return " (x, y, z, yaw, pitch, roll?); expected the 16 of a matrix: export with the type Matrix"
    if count == 16 and found > 16 and found % 16 == 0:
        return f", those of {found // 16} volumes; expected the 16 of one: export each volume alone (Current)"
    return f"; expected {count} a frame"


def _whole(path: Path, values: FloatArray, first_line: int) -> BoolArray:
    """Which frames have a pose, (n,) bool; refuse those that have half of one."""
    found = np.isfinite(values)
    half = np.flatnonzero(found.any(axis=1) & ~found.all(axis=1))
    if half.size:
        raise TrainingError(
            f"{path}, line {half[0] + first_line}: {values[half[0]].tolist()}; expected finite numbers, or NaN alone "
            "for a frame without a pose"
        )
    infinite = np.flatnonzero(np.isinf(values).any(axis=1))
    if infinite.size:
        raise TrainingError(f"{path}, line {infinite[0] + first_line}: numbers are infinite; expected finite ones")
    return np.asarray(found.all(axis=1), dtype=np.bool_)


def _check_unit(path: Path, positions_mm: FloatArray) -> None:
    """Refuse positions (n, 3) that are all as near to the origin as if they were in metres."""
    moved = np.linalg.norm(positions_mm, axis=1)
    if moved.any() and moved.max() < _METRES:
        raise TrainingError(
            f"{path}: every position lies within {moved.max():.3g} of the origin, as in metres; expected mm"
        )


def _nan_poses(count: int) -> FloatArray:
    return np.full((count, 4, 4), np.nan)


def _ends_in_last_row(matrices: FloatArray) -> BoolArray:
    return np.asarray(np.isclose(matrices[:, 3], _LAST_ROW, rtol=0, atol=1e-6).all(axis=1), dtype=np.bool_)


def _fault(T: FloatArray) -> str | None:
    """Why a matrix is no pose; None where it is one."""
    R = T[:3, :3]
    off, determinant = np.abs(R @ R.T - np.eye(3)).max(), np.linalg.det(R)
    if not _ends_in_last_row(T[None])[0]:
        return f"the last row of the matrix is {T[3].tolist()}; expected 0, 0, 0, 1, row by row"
    if off > _ROUNDED or determinant < 0:
        return (
            f"the matrix is not rigid (R R^T is off by {off:.3g}, determinant {determinant:.3g}); expected a "
            "rotation and a translation in mm"
        )
    return None


def _euler_zxy_deg(R: FloatArray) -> FloatArray:
    """Angles (rz, rx, ry), (n, 3) degrees, with R = Rz Rx Ry; exact also where rx is near 90 degrees.

    There z and y are one axis. With any z that makes R' = Rz^T R have a zero in row 0, column 1, x and y follow from
    R' = Rx Ry.
    """
    z = np.arctan2(-R[:, 0, 1], R[:, 1, 1])
    rest = Rotation.from_euler("z", -z[:, None]).as_matrix() @ R if len(R) else R
    x = np.arctan2(rest[:, 2, 1], rest[:, 1, 1])
    y = np.arctan2(rest[:, 0, 2], rest[:, 0, 0])
    degrees: FloatArray = np.degrees(np.stack([z, x, y], axis=1))
    return degrees
