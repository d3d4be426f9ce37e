"""One plane as a camera: its source, its intensifier, and the pixel grid of its corrected image.

In an intensifier's own plane h points right and v up, seen in the corrected image. That image is N x N pixels over
360 mm. At N = 1600, index i lies at ``(i - 800) 0.225`` mm; every other N is the half-pixel-centred resize of that
grid, so index i at any N lies at

    mm = (i + 0.5) 360 / N - 180 - 0.1125          (columns: h; rows: -v)

Source: authors' repository and paper (arXiv 2509.05483).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from veriserum_hf.core import CameraRow, FloatArray
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry.pose import invert_transform, make_transform, transform_points

FIELD_MM = 360.0
NATIVE_SIZE = 1600
# Index 800 of 1600, not 799.5, is 0 mm: the grid is half a native pixel off the centre of the image.
_GRID_ORIGIN_MM = FIELD_MM / 2 + FIELD_MM / NATIVE_SIZE / 2
# Fields that describe intrinsics may be rounded, to a mm or to three digits.
_FOCAL_TOLERANCE, _TOLERANCE_MM = 1e-3, 1.0
_SAME_FOCAL = 1e-6
_EQUAL_PX = 1e-6


def pixel_size_mm(size: float) -> float:
    """Edge of one pixel of a corrected image of ``size`` x ``size`` pixels, mm."""
    return FIELD_MM / size


def px_to_mm(column_row_px: ArrayLike, size: float) -> FloatArray:
    """Corrected-image pixels (..., 2) as (column, row) to intensifier mm (..., 2) as (h right, v up)."""
    px = np.asarray(column_row_px, dtype=np.float64)
    return ((px + 0.5) * pixel_size_mm(size) - _GRID_ORIGIN_MM) * (1.0, -1.0)


def mm_to_px(h_v_mm: ArrayLike, size: float) -> FloatArray:
    """Intensifier mm (..., 2) as (h right, v up) to corrected-image pixels (..., 2) as (column, row)."""
    mm = np.asarray(h_v_mm, dtype=np.float64)
    return (mm * (1.0, -1.0) + _GRID_ORIGIN_MM) / pixel_size_mm(size) - 0.5


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


def window_px(camera: CameraRow, size: int | None = None) -> FloatArray:
    """First pixel, (column, row), of a row's image in that of the whole intensifier; (0, 0) unless it was cropped.

    Parameters
    ----------
    camera : of the row.
    size : edge of its image, px; if not given, the image is that of the whole intensifier, in any size.

    Raises
    ------
    CalibrationError
        If ``intrinsics`` contradicts ``pixel_size_mm``, ``source_to_intensifier_mm``, ``principal_point_mm`` or the
        size of the image, or has skew or two focal lengths. Both numbers are named.

    """
    K = np.asarray(camera["intrinsics"], dtype=np.float64)
    pixel_mm, sid_mm = float(camera["pixel_size_mm"]), float(camera["source_to_intensifier_mm"])
    if K.shape != (3, 3) or not np.isfinite(K).all() or not (np.isfinite(pixel_mm) and pixel_mm > 0):
        raise CalibrationError(
            f"intrinsics is {K.tolist()} and pixel_size_mm {pixel_mm}; expected 3 x 3 finite px and a positive length"
        )
    if K[0, 1] or K[1, 0] or not np.array_equal(K[2], (0, 0, 1)) or abs(K[0, 0] / K[1, 1] - 1) > _SAME_FOCAL:
        raise CalibrationError(
            f"intrinsics is {K.tolist()}; expected one focal length and no skew: [[f, 0, column], [0, f, row], "
            "[0, 0, 1]]"
        )
    focal_px = sid_mm / pixel_mm
    if not abs(K[0, 0] - focal_px) <= _FOCAL_TOLERANCE * focal_px:
        raise CalibrationError(
            f"intrinsics has a focal length of {K[0, 0]:.2f} px, but source_to_intensifier_mm {sid_mm:.2f} and "
            f"pixel_size_mm {pixel_mm:.4f} give {focal_px:.2f} px; correct the wrong ones: an image that was resized "
            "has another focal length and another pixel size"
        )
    whole, tolerance_px = FIELD_MM / pixel_mm, _TOLERANCE_MM / pixel_mm
    expected_px = mm_to_px(camera["principal_point_mm"], whole)
    first_px: FloatArray = expected_px - K[:2, 2]
    if size is None or abs(size - whole) < 0.5:
        if not (np.abs(first_px) <= tolerance_px).all():
            raise CalibrationError(
                f"intrinsics has its principal point at {_pair(K[:2, 2])} px, but principal_point_mm "
                f"{_pair(camera['principal_point_mm'])} gives {_pair(expected_px)} px in an image of {whole:.0f} px; "
                "correct the wrong one"
            )
        return np.zeros(2)
    inside = (first_px >= -tolerance_px).all() and (first_px + size <= whole + tolerance_px).all()
    if not inside or (np.abs(first_px) < 0.5).all():  # the corner is where a camera puts it that was left unchanged
        raise CalibrationError(
            f"the image has {size} px, but its camera is that of an image of {whole:.0f} px (pixel_size_mm "
            f"{pixel_mm:.4f}), whose pixel {_pair(first_px)} would be its first; give the camera of the image as it "
            "is: one that was resized has other intrinsics and another pixel size, one that was cropped another "
            "principal point"
        )
    return first_px


def _pair(values: ArrayLike) -> str:
    return "({:.2f}, {:.2f})".format(*np.asarray(values, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Plane:
    """One X-ray source and its intensifier.

    Attributes
    ----------
    T_world_intensifier : (4, 4) pose of the intensifier; columns h (right), v (up), n (towards the source), centre.
    principal_point_mm : (2,) foot of the source on the intensifier, (h, v) in mm.
    sid_mm : source-to-intensifier distance, mm.

    """

    T_world_intensifier: FloatArray
    principal_point_mm: FloatArray
    sid_mm: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.sid_mm) and self.sid_mm > 0):
            raise CalibrationError(f"source-to-intensifier distance must be positive mm, got {self.sid_mm}")
        if self.principal_point_mm.shape != (2,) or not np.isfinite(self.principal_point_mm).all():
            raise CalibrationError(f"principal point must be two finite mm, got {self.principal_point_mm}")

    @classmethod
    def from_camera(cls, camera: CameraRow, size: int | None = None) -> "Plane":
        """Plane of a data set row's ``camera_bs`` or ``camera_fs``: ``intrinsics`` and ``world_to_camera``.

        The other fields describe them. For an image that was cropped, the plane is not the intensifier itself, but
        the one of 360 mm, parallel to it, that the image fills: it projects points to the same pixels.

        Parameters
        ----------
        camera : of a row.
        size : edge of its image, px; if not given, the image is that of the whole intensifier, in any size.

        Raises
        ------
        CalibrationError
            If the camera's distance or principal point is invalid, or the fields contradict the intrinsics; see
            `window_px`.

        """
        stated = cls._at(camera, camera["principal_point_mm"], camera["source_to_intensifier_mm"])
        first_px = window_px(camera, size)
        K = np.asarray(camera["intrinsics"], dtype=np.float64)
        whole = FIELD_MM / camera["pixel_size_mm"]
        if not first_px.any() and np.allclose(K, stated.intrinsics(whole), rtol=0, atol=_EQUAL_PX):
            return stated
        edge = whole if size is None else size
        return cls._at(camera, px_to_mm(K[:2, 2], edge), K[0, 0] * pixel_size_mm(edge))

    @classmethod
    def _at(cls, camera: CameraRow, principal_point_mm: ArrayLike, sid_mm: float) -> "Plane":
        """Plane that far from a camera's source."""
        T_world_camera = invert_transform(camera["world_to_camera"])
        axes = T_world_camera[:3, :3] * (1.0, -1.0, -1.0)  # h, v, n
        in_plane = np.array([*np.asarray(principal_point_mm, dtype=np.float64), sid_mm])
        center_mm = T_world_camera[:3, 3] - axes @ in_plane
        return cls(make_transform(axes, center_mm), in_plane[:2], float(in_plane[2]))

    @property
    def source_mm(self) -> FloatArray:
        """X-ray source in the world, (3,) mm: centre + SID n + pp_h h + pp_v v."""
        in_plane = np.array([*self.principal_point_mm, self.sid_mm])
        source: FloatArray = self.T_world_intensifier[:3, :3] @ in_plane + self.T_world_intensifier[:3, 3]
        return source

    @property
    def world_to_camera(self) -> FloatArray:
        """(4, 4) OpenCV extrinsics: origin at the source, x = h, y = -v, z = -n (source to intensifier)."""
        axes = self.T_world_intensifier[:3, :3] * (1.0, -1.0, -1.0)
        return invert_transform(make_transform(axes, self.source_mm))

    def intrinsics(self, size: float = 512) -> FloatArray:
        """(3, 3) OpenCV intrinsics in pixels of a ``size`` x ``size`` corrected image."""
        focal_px = self.sid_mm / pixel_size_mm(size)
        column, row = mm_to_px(self.principal_point_mm, size)
        return np.array([[focal_px, 0.0, column], [0.0, focal_px, row], [0.0, 0.0, 1.0]])

    def camera(self, size: int = 512) -> CameraRow:
        """Return the plane as the ``camera_*`` field of a data set row with ``size`` x ``size`` images."""
        return {
            "intrinsics": self.intrinsics(size).tolist(),
            "world_to_camera": (self.world_to_camera + 0.0).tolist(),  # no -0.0
            "pixel_size_mm": pixel_size_mm(size),
            "source_to_intensifier_mm": float(self.sid_mm),
            "principal_point_mm": self.principal_point_mm.tolist(),
        }

    def project(self, points_world_mm: ArrayLike, size: int = 512) -> FloatArray:
        """Project world points (..., 3) mm to pixels (..., 2) (column, row); NaN at or behind the source."""
        points = np.asarray(points_world_mm, dtype=np.float64)
        px = project(points.reshape(-1, 3), self.intrinsics(size), self.world_to_camera)
        return px.reshape(*points.shape[:-1], 2)

    def project_mm(self, points_world_mm: ArrayLike) -> FloatArray:
        """Project world points (..., 3) mm to the intensifier, (..., 2) mm (h, v); NaN at or behind the source."""
        return px_to_mm(self.project(points_world_mm, NATIVE_SIZE), NATIVE_SIZE)

    def depths_mm(self, points_world_mm: ArrayLike) -> FloatArray:
        """Distances (...) of world points (..., 3) from the source along the intensifier's normal, mm.

        They are negative behind the source.
        """
        depths: FloatArray = np.asarray(points_world_mm) @ self.world_to_camera[2, :3] + self.world_to_camera[2, 3]
        return depths

    def rays(self, column_row_px: ArrayLike, size: int = 512) -> tuple[FloatArray, FloatArray]:
        """Rays of pixels (..., 2): the source, (3,) mm, and unit directions (..., 3) towards the intensifier."""
        h_v = px_to_mm(column_row_px, size)
        in_plane = np.concatenate([h_v, np.zeros((*h_v.shape[:-1], 1))], axis=-1)
        on_plane = in_plane @ self.T_world_intensifier[:3, :3].T + self.T_world_intensifier[:3, 3]
        directions = on_plane - self.source_mm
        return self.source_mm, directions / np.linalg.norm(directions, axis=-1, keepdims=True)


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
