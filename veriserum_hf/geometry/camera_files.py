"""Cameras in the files of other programs: MayaCam 2.0 and JointTrack's JT_INTCALIB.

**MayaCam 2.0** is text in four sections: "image size" (width, height), "camera matrix", "rotation" and "translation".
XMALab writes its OpenCV calibration as it is (``Camera::saveMayaCamVersion2``): x_camera = R x_world + t in mm, and
pixels whose centres are integers. Where XMALab and Autoscoper reverse the y axis they subtract the row from
height - 1, which is the same. Autoscoper's manual calls the size "height,width", but its reader uses it as
width and height.

**JT_INTCALIB** is four numbers in mm: the principal distance, the offset x, y of the principal point, and the edge of
a pixel. Its world is JointTrack's own frame: origin at the X-ray source, x right, y up, z back towards the source.
The offset counts from the centre of the image, x right and y up (JTML's renderer, whose images have y up: column
width / 2 + x / pixel, row height / 2 + y / pixel). This centre is ((width - 1) / 2, (height - 1) / 2) in pixels
whose centres are integers: with it, meshes at 14 published poses of two patients reproduce the masks that were
drawn from these poses without one wrong pixel, and half a pixel to any side changes 1 to 2 % of the pixels.
"""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from veriserum_hf.core import FloatArray, joined_numbers, numbers_of, text_lines
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry.camera import Camera, Size, rows_columns
from veriserum_hf.geometry.pose import make_transform, matrix_to_quaternion, quaternion_to_matrix

JOINTTRACK_AXES = np.diag([1.0, -1.0, -1.0, 1.0])  # of JointTrack's frame and OpenCV's, both ways
JOINTTRACK_AXES.setflags(write=False)

_SECTIONS = {"image size": (1, 2), "camera matrix": (3, 3), "rotation": (3, 3), "translation": (3, 1)}
_NAME = re.compile(r"[A-Za-z ]+")  # of a section
_DISTORTION = "undistortion"  # a section that some programs add
_ROUNDED = 1e-3  # of a rotation that was written with few digits
_JOINTTRACK = ("JT_INTCALIB", "JTA_INTCALIB")
_JOINTTRACK_NUMBERS = ("principal distance", "offset x", "offset y", "pixel size")


def read_mayacam(path: Path) -> tuple[Camera, tuple[int, int]]:
    """Read the camera of a MayaCam 2.0 file, and the size of its images as (rows, columns), px.

    Raises
    ------
    CalibrationError
        If the file cannot be read, a section is missing, occurs twice or has other counts, the rotation is none, or
        there is skew or lens distortion; a MayaCam 1.0 file (CSV, five rows) is recognised.

    """
    sections = _sections(path)
    width, height = sections["image size"].ravel()
    if not (width == int(width) > 0 and height == int(height) > 0):
        raise CalibrationError(f"{path}: image size is {width:g},{height:g}; expected whole numbers: width,height")
    rotation = sections["rotation"]
    off, determinant = np.abs(rotation @ rotation.T - np.eye(3)).max(), np.linalg.det(rotation)
    if off > _ROUNDED or determinant < 0:
        raise CalibrationError(
            f"{path}: rotation is {rotation.tolist()}, which is not a rotation (R R^T is off by {off:.3g}, "
            f"determinant {determinant:.3g}); expected x_camera = R x_world + t without scale or reflection"
        )
    try:
        rotation = quaternion_to_matrix(matrix_to_quaternion(rotation))
        camera = Camera(sections["camera matrix"], make_transform(rotation, sections["translation"].ravel()))
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error
    return camera, (int(height), int(width))


def write_mayacam(path: Path, camera: Camera, size: Size) -> None:
    """Write a camera of images of that size, px, as MayaCam 2.0; `read_mayacam` reads the same."""
    rows, columns = rows_columns(size)
    R, t = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    matrices = {"camera matrix": camera.intrinsics, "rotation": R, "translation": t[:, None]}
    parts = [f"image size\n{columns},{rows}\n"]
    parts += ["\n".join([name, *map(joined_numbers, matrix)]) + "\n" for name, matrix in matrices.items()]
    path.write_text("\n".join(parts), encoding="ascii", newline="\n")


def read_jointtrack(path: Path, size: Size) -> tuple[Camera, float]:
    """Read the camera of a JT_INTCALIB file for images of that size, px, and the edge of a pixel in mm.

    The world is JointTrack's frame: x right, y up, z back towards the source, which is its origin.

    Raises
    ------
    CalibrationError
        If the file cannot be read, has another header or other than four numbers, or a distance is not positive.

    """
    rows, columns = rows_columns(size)
    lines = text_lines(path, CalibrationError)
    header, *rest = re.split(r"[ \t,]+", " ".join(lines).strip(), maxsplit=1)
    if header not in _JOINTTRACK:
        raise CalibrationError(
            f"{path} begins with {header[:40]!r}; expected JT_INTCALIB, then four numbers in mm: "
            f"{', '.join(_JOINTTRACK_NUMBERS)}. Planes of a biplane study have one such file each"
        )
    try:
        numbers = numbers_of(*rest) if rest else []
    except ValueError as error:
        raise CalibrationError(f"{path}: {error}; expected {', '.join(_JOINTTRACK_NUMBERS)}, in mm") from error
    if len(numbers) != len(_JOINTTRACK_NUMBERS) or not np.isfinite(numbers).all():
        raise CalibrationError(
            f"{path} holds {len(numbers)} numbers, {numbers[:20]}; expected four finite ones: "
            f"{', '.join(_JOINTTRACK_NUMBERS)}, in mm"
        )
    distance_mm, x_mm, y_mm, pixel_mm = numbers
    if not (distance_mm > 0 and pixel_mm > 0):
        raise CalibrationError(
            f"{path}: principal distance {distance_mm:g} mm and pixel size {pixel_mm:g} mm; expected positive numbers"
        )
    center_px = ((columns - 1) / 2 + x_mm / pixel_mm, (rows - 1) / 2 - y_mm / pixel_mm)
    focal_px = distance_mm / pixel_mm
    K = np.array([[focal_px, 0, center_px[0]], [0, focal_px, center_px[1]], [0, 0, 1]])
    try:
        return Camera(K, JOINTTRACK_AXES), pixel_mm
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error


def write_jointtrack(path: Path, camera: Camera, size: Size, pixel_size_mm: float) -> None:
    """Write a camera of images of that size, px, as JT_INTCALIB; `read_jointtrack` reads the same.

    Raises
    ------
    CalibrationError
        If the form cannot hold the camera: its focal lengths differ, or its world is not JointTrack's frame, in
        which world_to_camera is diag(1, -1, -1, 1).

    """
    rows, columns = rows_columns(size)
    if not pixel_size_mm > 0:
        raise CalibrationError(f"a pixel size of {pixel_size_mm} mm; expected a positive number")
    (fx, fy), (column, row) = camera.intrinsics.diagonal()[:2], camera.intrinsics[:2, 2]
    if not np.isclose(fx, fy, rtol=1e-9, atol=0):
        raise CalibrationError(
            f"the camera has focal lengths of {fx:.4f} and {fy:.4f} px; JT_INTCALIB holds one. Write MayaCam 2.0, or "
            "resize the images so that pixels are square"
        )
    if not np.allclose(camera.world_to_camera, JOINTTRACK_AXES, rtol=0, atol=1e-9):
        raise CalibrationError(
            f"the camera has world_to_camera {camera.world_to_camera.tolist()}; JT_INTCALIB holds none and means "
            "diag(1, -1, -1, 1). Write MayaCam 2.0, or one file a plane with "
            "Camera(camera.intrinsics, diag(1, -1, -1, 1)), and poses in that frame"
        )
    offset_mm = np.array([column - (columns - 1) / 2, (rows - 1) / 2 - row]) * pixel_size_mm
    numbers = joined_numbers([fx * pixel_size_mm, *offset_mm, pixel_size_mm], "\n")
    path.write_text(f"{_JOINTTRACK[0]}\n{numbers}\n", encoding="ascii", newline="\n")


def _sections(path: Path) -> dict[str, FloatArray]:
    """Matrices of a MayaCam 2.0 file by the names of their sections."""
    lines = text_lines(path, CalibrationError)
    written = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    names = [(place, text.lower()) for place, (_, text) in enumerate(written) if _NAME.fullmatch(text)]
    if not names or names[0][0]:
        raise CalibrationError(f"{path} {_not_mayacam([text for _, text in written])}")
    sections: dict[str, FloatArray] = {}
    for (place, name), (following, _) in pairwise([*names, (len(written), "")]):
        if name in sections or name not in (*_SECTIONS, _DISTORTION):
            how = "occurs twice" if name in sections else "is not known"
            raise CalibrationError(
                f"{path}, line {written[place][0]}: the section {name[:40]!r} {how}; expected {', '.join(_SECTIONS)}"
            )
        sections[name] = _matrix(path, name, written[place + 1 : following])
    if missing := [name for name in _SECTIONS if name not in sections]:
        raise CalibrationError(f"{path} has no section {', '.join(missing)}; expected MayaCam 2.0 text")
    if sections.pop(_DISTORTION, np.zeros(1)).any():
        raise CalibrationError(
            f"{path} has lens distortion coefficients (section {_DISTORTION!r}), which a camera does not hold; "
            "export undistorted images, and remove this section"
        )
    return sections


def _matrix(path: Path, name: str, lines: list[tuple[int, str]]) -> FloatArray:
    rows = []
    for number, text in lines:
        try:
            rows.append(numbers_of(text))
        except ValueError as error:
            raise CalibrationError(f"{path}, line {number} ({name}): {error}") from error
    counts = [len(row) for row in rows]
    if name == _DISTORTION:
        return np.array([number for row in rows for number in row])
    height, width = _SECTIONS[name]
    if name == "translation" and counts == [3]:  # in one line
        rows, counts = [[number] for number in rows[0]], [1, 1, 1]
    if counts != [width] * height:
        raise CalibrationError(
            f"{path}: the section {name!r} has lines of {counts} numbers; expected {height} of {width}"
        )
    matrix = np.array(rows)
    if not np.isfinite(matrix).all():
        raise CalibrationError(f"{path}: the section {name!r} is {matrix.tolist()}; expected finite numbers")
    return matrix


def _not_mayacam(texts: list[str]) -> str:
    """What a file without sections is instead."""
    try:
        counts = [len(numbers_of(text)) for text in texts]
    except ValueError:
        counts = []
    if counts == [3] * 5:
        return (
            "is MayaCam 1.0 (five rows of three numbers), whose units and axes differ between programs; "
            "export the camera as MayaCam 2.0"
        )
    found = texts[0][:40] if texts else "nothing"
    return f"begins with {found!r}; expected MayaCam 2.0 text, whose first line is 'image size'"
