"""Fields of a row's camera for people to read, and whether they contradict the intrinsics.

``pixel_size_mm``, ``source_to_intensifier_mm`` and ``principal_point_mm`` describe intrinsics; each may be null, as
for a camera whose calibration knows pixels only. Positions on the detector, (h right, v up), count from the centre
of the image. In a Veriserum image this is the centre of the intensifier's field, and an image that was cut out of one
may keep the ``principal_point_mm`` of the whole.
"""

import numpy as np
from numpy.typing import ArrayLike

from veriserum_hf.core import CameraRow, FloatArray
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry.grid import FIELD_MM, mm_to_px

# These fields may be rounded, to a mm or to three digits.
_FOCAL_TOLERANCE, _TOLERANCE_MM = 1e-3, 1.0


def principal_point_mm(intrinsics: FloatArray, rows_columns: tuple[int, int], pixel_size_mm: float) -> FloatArray:
    """Foot of the source on the detector, (2,) (h right, v up) mm from the centre of the image."""
    center_px = (np.array(rows_columns[::-1]) - 1) / 2
    foot: FloatArray = (intrinsics[:2, 2] - center_px) * (1.0, -1.0) * pixel_size_mm
    return foot


def detector_mm(camera: CameraRow, intrinsics: FloatArray) -> float | None:
    """Distance of source and detector, mm, as a row's camera states it or its pixel gives it; None where unknown."""
    sid_mm, pixel_mm = camera.get("source_to_intensifier_mm"), camera.get("pixel_size_mm")
    if sid_mm is not None or pixel_mm is None:
        return sid_mm
    return float(pixel_mm * np.sqrt(intrinsics[0, 0] * intrinsics[1, 1]))


def first_px_of_whole(camera: CameraRow, rows_columns: tuple[int, int]) -> FloatArray | None:
    """First pixel, (column, row), of an image in the whole Veriserum image that it was cut out of; None for others.

    Parameters
    ----------
    camera : of the image, which it does not contradict; see `check_row`.
    rows_columns : of the image, px.

    """
    pixel_mm, foot_mm = camera.get("pixel_size_mm"), camera.get("principal_point_mm")
    if pixel_mm is None or foot_mm is None:
        return None
    K = np.asarray(camera["intrinsics"], dtype=np.float64)
    if (np.abs(principal_point_mm(K, rows_columns, pixel_mm) - foot_mm) <= _TOLERANCE_MM).all():
        return None
    first_px: FloatArray = mm_to_px(foot_mm, FIELD_MM / pixel_mm) - K[:2, 2]
    return first_px


def check_row(camera: CameraRow, intrinsics: FloatArray, rows_columns: tuple[int, int] | None) -> None:
    """Raise CalibrationError where a row's fields or the size of its image contradict its intrinsics.

    Parameters
    ----------
    camera : of a row.
    intrinsics : (3, 3) px, without skew.
    rows_columns : of the row's image, px; if not given, the principal point is not compared: its position on the
        detector counts from the centre of the image, which is then unknown.

    """
    pixel_mm = _positive(camera, "pixel_size_mm")
    sid_mm = _positive(camera, "source_to_intensifier_mm")
    if pixel_mm is None:
        return
    if sid_mm is not None:
        _check_focal_length(intrinsics, sid_mm, pixel_mm)
    foot_mm = camera.get("principal_point_mm")
    if foot_mm is None:
        return
    if np.shape(foot_mm) != (2,) or not np.isfinite(foot_mm).all():
        raise CalibrationError(f"principal_point_mm is {foot_mm}; expected two finite mm")
    if rows_columns is not None:
        _check_principal_point(intrinsics, np.asarray(foot_mm, dtype=np.float64), pixel_mm, rows_columns)


def _positive(camera: CameraRow, name: str) -> float | None:
    value = camera.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or not (np.isfinite(value) and value > 0):
        raise CalibrationError(f"{name} is {value}; expected a positive number of mm, or null where it is unknown")
    return float(value)


def _check_focal_length(K: FloatArray, sid_mm: float, pixel_mm: float) -> None:
    focal_px, (fx, fy) = sid_mm / pixel_mm, K.diagonal()[:2]
    if not min(fx, fy) * (1 - _FOCAL_TOLERANCE) <= focal_px <= max(fx, fy) * (1 + _FOCAL_TOLERANCE):
        found = f"a focal length of {fx:.2f} px" if fx == fy else f"focal lengths of {fx:.2f} and {fy:.2f} px"
        raise CalibrationError(
            f"intrinsics has {found}, but source_to_intensifier_mm {sid_mm:.2f} and pixel_size_mm {pixel_mm:.4f} "
            f"give {focal_px:.2f} px; correct the wrong ones: an image that was resized has another focal length and "
            "another pixel size"
        )


def _check_principal_point(
    K: FloatArray, foot_mm: FloatArray, pixel_mm: float, rows_columns: tuple[int, int]
) -> None:
    tolerance_px, whole = _TOLERANCE_MM / pixel_mm, FIELD_MM / pixel_mm
    first_px = mm_to_px(foot_mm, whole) - K[:2, 2]  # in a whole Veriserum image
    size = np.array(rows_columns[::-1])
    expected_px = (size - 1) / 2 + foot_mm * (1.0, -1.0) / pixel_mm
    if (np.abs(expected_px - K[:2, 2]) <= tolerance_px).all():
        return
    name = f"{size[0]} px" if size[0] == size[1] else f"{size[0]} x {size[1]} px"
    if (np.abs(size - whole) < 0.5).all():
        raise _contradiction(K, foot_mm, mm_to_px(foot_mm, whole), f"an image of {name}")
    if (size > whole + tolerance_px).any() and not (np.abs(first_px) < 0.5).all():
        raise _contradiction(K, foot_mm, expected_px, f"an image of {name}")
    inside = (first_px >= -tolerance_px).all() and (first_px + size <= whole + tolerance_px).all()
    if not inside or (np.abs(first_px) < 0.5).all():  # the corner is where a camera puts it that was left unchanged
        raise CalibrationError(
            f"the image has {name}, but its camera is that of an image of {whole:.0f} px (pixel_size_mm "
            f"{pixel_mm:.4f}), whose pixel {_pair(first_px)} would be its first; give the camera of the image as it "
            "is: one that was resized has other intrinsics and another pixel size, one that was cropped another "
            "principal point"
        )


def _contradiction(K: FloatArray, foot_mm: FloatArray, expected_px: FloatArray, image: str) -> CalibrationError:
    return CalibrationError(
        f"intrinsics has its principal point at {_pair(K[:2, 2])} px, but principal_point_mm {_pair(foot_mm)} gives "
        f"{_pair(expected_px)} px in {image}; correct the wrong one"
    )


def _pair(values: ArrayLike) -> str:
    return "({:.2f}, {:.2f})".format(*np.asarray(values, dtype=np.float64))
