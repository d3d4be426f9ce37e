"""A camera of any laboratory: an X-ray source, and the pixels of an image that it casts.

Axes are OpenCV's: the origin at the source, x to the right of the image, y down, z from the source to the image.
Integers are centres of pixels, so the edge of an image lies at -0.5 px. Whatever the image, world points in mm and
pixels are related by ``intrinsics`` (3 x 3, px) and ``world_to_camera`` (4 x 4, mm) alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from veriserum_hf.core import CameraRow, FloatArray
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry.camera_rows import check_row, principal_point_mm
from veriserum_hf.geometry.pose import invert_transform, transform_points

Size = int | Sequence[int]  # of an image: edge of a square one, or (rows, columns), px
_RIGID = 1e-6


def rows_columns(size: Size) -> tuple[int, int]:
    """Rows and columns of an image, px, from its size; ValueError unless these are positive."""
    rows, columns = (size, size) if isinstance(size, int) else (int(edge) for edge in size)
    if rows < 1 or columns < 1:
        raise ValueError(f"an image of {rows} x {columns} px; expected positive numbers of rows and columns")
    return rows, columns


def project(points_world_mm: ArrayLike, intrinsics: ArrayLike, world_to_camera: ArrayLike) -> FloatArray:
    """Pixels (..., n, 2), (column, row), of world points (..., n, 3) in mm; NaN at or behind the source.

    Parameters
    ----------
    points_world_mm : (..., n, 3); with ``world_to_camera @ T_world_implant`` for ``world_to_camera``, points of an
        implant.
    intrinsics : (..., 3, 3) OpenCV intrinsics, px.
    world_to_camera : (..., 4, 4) OpenCV extrinsics: origin at the X-ray source, mm.

    """
    in_camera = transform_points(world_to_camera, points_world_mm)
    homogeneous = in_camera @ np.asarray(intrinsics, dtype=np.float64).swapaxes(-1, -2)
    px: FloatArray = homogeneous[..., :2] / np.where(homogeneous[..., 2:] > 0, homogeneous[..., 2:], np.nan)
    return px


def viewing_axes(world_to_camera: FloatArray, points_world_mm: FloatArray) -> FloatArray:
    """Directions h, v and depth at world points, as the rows of (n, 3, 3) rotations.

    Parameters
    ----------
    world_to_camera : (n, 4, 4) OpenCV cameras at the X-ray source, mm.
    points_world_mm : (n, 3).

    """
    depth = points_world_mm - invert_transform(world_to_camera)[:, :3, 3]
    depth /= np.linalg.norm(depth, axis=1, keepdims=True)
    right = world_to_camera[:, 0, :3]
    h = right - (right * depth).sum(axis=1, keepdims=True) * depth
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    return np.stack([h, np.cross(h, depth), depth], axis=1)


@dataclass(frozen=True, eq=False)
class Camera:
    """One X-ray source and the pixels of one image.

    Attributes
    ----------
    intrinsics : (3, 3) px: [[fx, 0, column], [0, fy, row], [0, 0, 1]].
    world_to_camera : (4, 4) rigid, mm: world points to the camera's axes.

    Raises
    ------
    CalibrationError
        If a matrix has another shape, is not finite, the intrinsics have skew or no positive focal lengths, or the
        extrinsics are not rigid.

    """

    intrinsics: FloatArray
    world_to_camera: FloatArray

    def __post_init__(self) -> None:
        for name in ("intrinsics", "world_to_camera"):
            try:
                matrix = np.array(getattr(self, name), dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise CalibrationError(f"{name} is not a matrix of numbers: {error}") from error
            matrix.setflags(write=False)
            object.__setattr__(self, name, matrix)
        K, T = self.intrinsics, self.world_to_camera
        if K.shape != (3, 3) or not np.isfinite(K).all():
            raise CalibrationError(f"intrinsics is {K.tolist()}; expected 3 x 3 finite px")
        if K[0, 1] or K[1, 0] or not np.array_equal(K[2], (0, 0, 1)) or not (K[0, 0] > 0 and K[1, 1] > 0):
            raise CalibrationError(
                f"intrinsics is {K.tolist()}; expected positive focal lengths and no skew: [[fx, 0, column], "
                "[0, fy, row], [0, 0, 1]]"
            )
        R = T[:3, :3] if T.shape == (4, 4) else np.zeros((3, 3))
        rigid = np.allclose(R @ R.T, np.eye(3), rtol=0, atol=_RIGID) and np.linalg.det(R) > 0
        if not (rigid and np.isfinite(T).all() and np.array_equal(T[3], (0, 0, 0, 1))):
            raise CalibrationError(
                f"world_to_camera is {T.tolist()}; expected a rigid 4 x 4 transform, mm: a rotation without "
                "reflection, a translation, and the last row 0, 0, 0, 1"
            )

    @classmethod
    def from_row(cls, camera: CameraRow, size: Size | None = None) -> "Camera":
        """Camera of a data set row's ``camera_bs`` or ``camera_fs``.

        Parameters
        ----------
        camera : ``intrinsics`` and ``world_to_camera`` count; the other fields describe them, where they are given.
        size : of the row's image, px: its edge, or (rows, columns), as ``image.shape``.

        Raises
        ------
        CalibrationError
            If a matrix is invalid, or the other fields or the size of the image contradict the intrinsics; both
            numbers are named.

        """
        found = cls(camera["intrinsics"], camera["world_to_camera"])  # type: ignore[arg-type]
        check_row(camera, found.intrinsics, None if size is None else rows_columns(size))
        return found

    @classmethod
    def from_mayacam(cls, path: Path, size: Size | None = None) -> "Camera":
        """Camera of a MayaCam 2.0 file, as XMALab, DSX and Autoscoper have.

        Parameters
        ----------
        path : of the file; see `veriserum_hf.geometry.camera_files` for its conventions.
        size : of the images, px: an edge or (rows, columns).

        Raises
        ------
        CalibrationError
            If the file is invalid, or its camera is of images of another size; both sizes are named.

        """
        from veriserum_hf.geometry.camera_files import read_mayacam  # which makes cameras

        camera, of_file = read_mayacam(path)
        if size is not None and rows_columns(size) != of_file:
            raise CalibrationError(
                f"{path} is the camera of images of {of_file[0]} x {of_file[1]} px (rows x columns), but the image "
                "has {} x {}; give the camera of the image as it is, or its resized() or cropped()".format(
                    *rows_columns(size)
                )
            )
        return camera

    @classmethod
    def from_jointtrack(cls, path: Path, size: Size) -> "Camera":
        """Camera of a JT_INTCALIB file for images of that size, px: an edge or (rows, columns).

        The world is JointTrack's frame: origin at the X-ray source, x right, y up, z back towards it.

        Raises
        ------
        CalibrationError
            If the file is invalid.

        """
        from veriserum_hf.geometry.camera_files import read_jointtrack

        return read_jointtrack(path, size)[0]

    def to_row(self, size: Size, pixel_size_mm: float | None = None) -> CameraRow:
        """Return the camera as the ``camera_*`` field of a row.

        Parameters
        ----------
        size : of the image, px.
        pixel_size_mm : edge of a pixel on the detector; if not given, distances on the detector are unknown, and the
            fields that state them are null.

        """
        row: CameraRow = {
            "intrinsics": self.intrinsics.tolist(),
            "world_to_camera": (self.world_to_camera + 0.0).tolist(),  # no -0.0
            "pixel_size_mm": None,
            "source_to_intensifier_mm": None,
            "principal_point_mm": None,
        }
        if pixel_size_mm is not None:
            focal_px = float(np.sqrt(self.intrinsics[0, 0] * self.intrinsics[1, 1]))
            row["pixel_size_mm"], row["source_to_intensifier_mm"] = pixel_size_mm, focal_px * pixel_size_mm
            foot_mm = principal_point_mm(self.intrinsics, rows_columns(size), pixel_size_mm)
            row["principal_point_mm"] = foot_mm.tolist()
        return row

    @property
    def source_mm(self) -> FloatArray:
        """X-ray source in the world, (3,) mm."""
        source: FloatArray = invert_transform(self.world_to_camera)[:3, 3]
        return source

    def project(self, points_world_mm: ArrayLike) -> FloatArray:
        """Pixels (..., 2), (column, row), of world points (..., 3) in mm; NaN at or behind the source."""
        points = np.asarray(points_world_mm, dtype=np.float64)
        px = project(points.reshape(-1, 3), self.intrinsics, self.world_to_camera)
        return px.reshape(*points.shape[:-1], 2)

    def depths_mm(self, points_world_mm: ArrayLike) -> FloatArray:
        """Distances (...) of world points (..., 3) from the source along the camera's axis, mm.

        They are negative behind the source.
        """
        z: FloatArray = np.asarray(points_world_mm) @ self.world_to_camera[2, :3] + self.world_to_camera[2, 3]
        return z

    def rays(self, column_row_px: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Rays of pixels (..., 2): the source, (3,) mm, and unit directions (..., 3) away from it, in the world."""
        px = np.asarray(column_row_px, dtype=np.float64)
        slopes = (px - self.intrinsics[:2, 2]) / self.intrinsics.diagonal()[:2]
        directions = np.concatenate([slopes, np.ones_like(slopes[..., :1])], axis=-1) @ self.world_to_camera[:3, :3]
        return self.source_mm, directions / np.linalg.norm(directions, axis=-1, keepdims=True)

    def triangulate(self, px: ArrayLike, other: "Camera", other_px: ArrayLike) -> FloatArray:
        """World points nearest to the rays of two cameras (least squares), (..., 3) mm; NaN where rays are parallel.

        Parameters
        ----------
        px : (..., 2) (column, row) of points in this camera's image.
        other : camera of another image of the same moment.
        other_px : (..., 2) of the same points in that image.

        """
        (source, ray), (other_source, other_ray) = self.rays(px), other.rays(other_px)
        # Points source + s ray and other_source + t other_ray are nearest where their difference is normal to both.
        baseline = other_source - source
        cosine = (ray * other_ray).sum(axis=-1)
        along, other_along = (ray * baseline).sum(axis=-1), (other_ray * baseline).sum(axis=-1)
        sine_squared = 1.0 - cosine**2
        sine_squared = np.where(sine_squared > 1e-12, sine_squared, np.nan)
        s = (along - cosine * other_along) / sine_squared
        t = (cosine * along - other_along) / sine_squared
        points: FloatArray = 0.5 * (source + s[..., None] * ray + other_source + t[..., None] * other_ray)
        return points

    def cropped(self, first_px: ArrayLike) -> "Camera":
        """Camera of a part of the image, or of a larger one that contains it.

        Parameters
        ----------
        first_px : (2,) (column, row), in this camera's image, of the first pixel of the part; negative for a larger
            image.

        """
        K = self.intrinsics.copy()
        K[:2, 2] -= np.asarray(first_px, dtype=np.float64)
        return Camera(K, self.world_to_camera)

    def resized(self, size: Size, to: Size) -> "Camera":
        """Camera of the image after it was resized, as OpenCV resizes: from edge to edge, both axes on their own.

        Parameters
        ----------
        size, to : of the image before and after, px.

        """
        ratio = np.array(rows_columns(to)[::-1]) / rows_columns(size)[::-1]
        K = self.intrinsics.copy()
        K[:2, 2] = (K[:2, 2] + 0.5) * ratio - 0.5
        K[[0, 1], [0, 1]] *= ratio
        return Camera(K, self.world_to_camera)
