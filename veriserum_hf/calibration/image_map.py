"""Undistortion tables of XMALab: images corrected pixel by pixel, as that program does it.

XMALab corrects an image by a lookup: for every pixel of the undistorted image the position in the recorded one. A
camera that it calibrates (MayaCam 2.0) holds for the undistorted image, which is as large as the recorded one. The
table comes in three ways.

- ``NAME_LUT.csv``, by its export of undistortion tables: the columns of all pixels, row by row, then their rows;
  -1 where no point of the grid is near.
- ``NAME_INPTS.csv`` and ``NAME_BSPTS.csv``, by the same export: points of the grid as they were recorded, and where
  they belong, ``x,y`` in each line.
- ``NAME_GridPointsDistorted.csv``, ``NAME_GridPointsReferences.csv`` and ``NAME_GridPointsInlier.csv``, in the folder
  of a project: the same points, and 1 or 0 for each that is used or not.

From points, the lookup is a local weighted mean of polynomials of degree 2 through each point and its 11 nearest
(Goshtasby, Image and Vision Computing 6, 1988). Pixels are counted from the centre of the upper left one.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from veriserum_hf.core import BoolArray, FloatArray, Grey, read_regular
from veriserum_hf.errors import CalibrationError

Lookup = NDArray[np.float32]  # (rows, columns)

_MOST_BYTES = 500_000_000  # of a table; one of 2048 x 2048 px has about 80 MB
_MOST_PX = 8192
_NEIGHBOURS = 12  # XMALab's default
_OUTSIDE_PX = -16.0  # so far off the image that the lookup blends nothing of it in
_PAIRS = {  # ending of a file of points: those of recorded points, of where they belong, and of which are used
    "_INPTS": ("_INPTS", "_BSPTS", None),
    "_BSPTS": ("_INPTS", "_BSPTS", None),
    **dict.fromkeys(
        ("_GridPointsDistorted", "_GridPointsReferences", "_GridPointsInlier"),
        ("_GridPointsDistorted", "_GridPointsReferences", "_GridPointsInlier"),
    ),
}
_EXPECTED = (
    "expected an undistortion table of XMALab: NAME_LUT.csv; NAME_INPTS.csv next to NAME_BSPTS.csv; or "
    "NAME_GridPointsDistorted.csv next to NAME_GridPointsReferences.csv"
)


class ImageMap(ABC):
    """A map from pixels of an undistorted image to positions in the recorded one, which is as large."""

    @abstractmethod
    def lookup(self, shape: tuple[int, int]) -> tuple[Lookup, Lookup]:
        """Column and row in the recorded image, (rows, columns) each, of every pixel; -16 where there is none.

        Raises
        ------
        CalibrationError
            If the map is for images of another size.

        """

    def correct(self, frame: Grey) -> Grey:
        """Undistorted image of a recorded one, of the same size and type; black where the map has nothing.

        Raises
        ------
        ValueError
            If the frame is not one grey channel of uint8 or uint16.
        CalibrationError
            If the map is for images of another size.

        """
        if frame.ndim != 2 or frame.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"expected a (rows, columns) frame of uint8 or uint16, got shape {frame.shape} of {frame.dtype}"
            )
        map_x, map_y = self.lookup((frame.shape[0], frame.shape[1]))
        # The interpolation that XMALab's own undistorted images have.
        corrected = cv2.remap(frame, map_x, map_y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        result: Grey = corrected  # type: ignore[assignment]
        return result

    def valid(self, shape: tuple[int, int]) -> BoolArray:
        """(rows, columns) mask, True where the recorded image covers the undistorted one."""
        map_x, map_y = self.lookup(shape)
        inside: BoolArray = (map_x > -1) & (map_x < shape[1]) & (map_y > -1) & (map_y < shape[0])
        return inside


@dataclass(frozen=True, eq=False)
class _Table(ImageMap):
    """The lookup itself, of images of one size."""

    source: Path
    map_x: Lookup
    map_y: Lookup

    def lookup(self, shape: tuple[int, int]) -> tuple[Lookup, Lookup]:
        if shape != self.map_x.shape:
            rows, columns = self.map_x.shape
            raise CalibrationError(
                f"{self.source}: the table is for images of {columns} x {rows} px, the frame has {shape[1]} x "
                f"{shape[0]} px; give the table of this camera"
            )
        return self.map_x, self.map_y


@dataclass(frozen=True, eq=False)
class _Points(ImageMap):
    """Points (n, 2) of the recorded image, and where in the undistorted one they belong."""

    source: Path
    recorded: FloatArray
    belongs: FloatArray

    def lookup(self, shape: tuple[int, int]) -> tuple[Lookup, Lookup]:
        if not (self.belongs.max(axis=0) < (shape[1] + 1, shape[0] + 1)).all():
            x, y = self.belongs.max(axis=0)
            raise CalibrationError(
                f"{self.source}: points reach to ({x:.0f}, {y:.0f}), the frame has {shape[1]} x {shape[0]} px; give "
                "the table of this camera"
            )
        return _local_weighted_mean(self, shape)


def read_image_map(path: Path) -> ImageMap:
    """Read an undistortion table of XMALab.

    Parameters
    ----------
    path : ``NAME_LUT.csv``, or any one of the files of points; the others are looked for next to it.

    Raises
    ------
    CalibrationError
        If a file cannot be read, is missing, or is not such a table.

    """
    path = Path(path)
    for ending, names in _PAIRS.items():
        if path.stem.endswith(ending):
            distorted, reference, inlier = (
                None if name is None else path.with_name(path.stem.removesuffix(ending) + name + path.suffix)
                for name in names
            )
            if distorted is not None and reference is not None:
                return _of_points(path, distorted, reference, inlier)
    return _of_table(path)


def _of_table(path: Path) -> ImageMap:
    values = _read_numbers(path)
    rows, columns = values.shape
    if rows % 2 or min(rows // 2, columns) < 16 or max(rows // 2, columns) > _MOST_PX:
        raise CalibrationError(
            f"{path}: found {rows} lines of {columns} numbers, expected the columns of all pixels, a line for each "
            f"row of the image, then their rows: an even number of lines; {_EXPECTED}"
        )
    map_x, map_y = values[: rows // 2], values[rows // 2 :]
    outside = (map_x == -1) & (map_y == -1)
    reach = max(rows // 2, columns)
    far = ~outside & ((np.abs(map_x) > 2 * reach) | (np.abs(map_y) > 2 * reach))
    if outside.all() or far.mean() > 0.01:
        raise CalibrationError(
            f"{path}: {far.mean():.0%} of the pixels point far outside the image, and {outside.mean():.0%} nowhere; "
            f"{_EXPECTED}"
        )
    outside |= far
    _check_axes(path, map_x, map_y, ~outside)
    return _Table(path, *(np.where(outside, _OUTSIDE_PX, each).astype(np.float32) for each in (map_x, map_y)))


def _check_axes(path: Path, map_x: FloatArray, map_y: FloatArray, inside: BoolArray) -> None:
    """Refuse a table whose first half does not run with the columns, and the second not with the rows."""
    rows, columns = np.nonzero(inside)
    slopes = np.polyfit(columns, map_x[inside], 1)[0], np.polyfit(rows, map_y[inside], 1)[0]
    if not (min(slopes) > 0.25 and max(slopes) < 4):
        raise CalibrationError(
            f"{path}: positions change by {slopes[0]:.2f} px per column and {slopes[1]:.2f} px per row, expected "
            f"about 1; {_EXPECTED}"
        )


def _of_points(given: Path, distorted: Path, reference: Path, inlier: Path | None) -> ImageMap:
    points = []
    for path in (distorted, reference):
        if not path.exists():
            raise CalibrationError(f"{given}: {path.name} is not next to it; {_EXPECTED}")
        points.append(_read_numbers(path))
        if points[-1].shape[1] != 2:
            raise CalibrationError(f"{path}: found {points[-1].shape[1]} numbers in a line, expected x,y")
    if len(points[0]) != len(points[1]):
        raise CalibrationError(
            f"{distorted.name} has {len(points[0])} points and {reference.name} {len(points[1])}, expected the same "
            f"points in both, in {distorted.parent}"
        )
    used = np.ones(len(points[0]), dtype=bool)
    if inlier is not None and inlier.exists():
        flags = _read_numbers(inlier)
        if flags.shape != (len(used), 1) or not np.isin(flags, (0, 1)).all():
            raise CalibrationError(f"{inlier}: expected {len(used)} lines of 0 or 1, one for each point")
        used = flags[:, 0] == 1
    recorded, belongs = (each[used] for each in points)
    if len(recorded) < 3 * _NEIGHBOURS:
        raise CalibrationError(f"{given}: found {len(recorded)} points, expected at least {3 * _NEIGHBOURS}")
    if len(np.unique(belongs, axis=0)) != len(belongs):
        raise CalibrationError(f"{reference}: two points belong to the same place")
    off_px = np.linalg.norm(recorded - belongs, axis=1).max()
    if off_px > np.ptp(belongs, axis=0).max() / 3:
        raise CalibrationError(f"{given}: points lie up to {off_px:.0f} px from where they belong; {_EXPECTED}")
    return _Points(given, recorded, belongs)


@lru_cache(maxsize=4)  # two cameras
def _local_weighted_mean(points: _Points, shape: tuple[int, int]) -> tuple[Lookup, Lookup]:
    """Recorded column and row of every pixel of an undistorted image."""
    recorded, belongs = points.recorded, points.belongs
    total, weights = np.zeros((*shape, 2)), np.zeros(shape)
    distance, nearest = KDTree(belongs).query(belongs, k=_NEIGHBOURS)
    for center, radius, neighbours in zip(belongs, distance[:, -1], nearest, strict=True):
        # About the point itself: powers of a thousand pixels would lose digits.
        coefficients = np.linalg.lstsq(_quadratic(belongs[neighbours] - center), recorded[neighbours], rcond=None)[0]
        first = np.maximum(np.ceil(center - radius), 0).astype(int)
        last = np.minimum(np.floor(center + radius), (shape[1] - 1, shape[0] - 1)).astype(int)
        if (last < first).any():
            continue
        x, y = np.meshgrid(np.arange(first[0], last[0] + 1), np.arange(first[1], last[1] + 1))
        to_center = np.stack([x, y], axis=-1) - center
        ratio = np.minimum(np.hypot(to_center[..., 0], to_center[..., 1]) / radius, 1.0)
        weight = 1 - 3 * ratio**2 + 2 * ratio**3
        there = slice(first[1], last[1] + 1), slice(first[0], last[0] + 1)
        total[there] += weight[..., None] * (_quadratic(to_center) @ coefficients)
        weights[there] += weight
    with np.errstate(invalid="ignore", divide="ignore"):
        position = np.where(weights[..., None] > 0, total / weights[..., None], _OUTSIDE_PX).astype(np.float32)
    return np.ascontiguousarray(position[..., 0]), np.ascontiguousarray(position[..., 1])


def _quadratic(xy: FloatArray) -> FloatArray:
    """(..., 6) powers up to degree 2 of (..., 2)."""
    x, y = xy[..., 0], xy[..., 1]
    return np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)


def _read_numbers(path: Path) -> FloatArray:
    """(lines, numbers) of a file with the same count of finite numbers, apart by commas, in every line."""
    try:
        content = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise CalibrationError(f"{path}: {error.strerror or error}") from error
    if bad := re.search(rb"[^0-9eE+\-., \t\r\n]", content):
        line = content.count(b"\n", 0, bad.start()) + 1
        found = content[bad.start() : bad.start() + 20].decode("ascii", "backslashreplace")
        raise CalibrationError(f"{path}, line {line}: found {found!r}, expected numbers with commas; {_EXPECTED}")
    lines = [line.rstrip(b" \t\r,") for line in content.split(b"\n")]
    lines = [line for line in lines if line]
    if not lines:
        raise CalibrationError(f"{path}: the file is empty; {_EXPECTED}")
    counts = [line.count(b",") + 1 for line in lines]
    if len(set(counts)) != 1:
        odd = next(number for number, count in enumerate(counts, start=1) if count != counts[0])
        raise CalibrationError(
            f"{path}, line {odd}: found {counts[odd - 1]} numbers, expected {counts[0]} as in the first line"
        )
    try:
        numbers = np.loadtxt(lines, delimiter=",", ndmin=2)
    except ValueError as error:
        raise CalibrationError(f"{path}: {error}; {_EXPECTED}") from None
    if not np.isfinite(numbers).all():
        raise CalibrationError(f"{path}: it holds a number that is not finite")
    return np.asarray(numbers, dtype=np.float64)
