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


def pixel_size_mm(size: int) -> float:
    """Edge of one pixel of a corrected image of ``size`` x ``size`` pixels, mm."""
    return FIELD_MM / size


def px_to_mm(column_row_px: ArrayLike, size: int) -> FloatArray:
    """Corrected-image pixels (..., 2) as (column, row) to intensifier mm (..., 2) as (h right, v up)."""
    px = np.asarray(column_row_px, dtype=np.float64)
    return ((px + 0.5) * pixel_size_mm(size) - _GRID_ORIGIN_MM) * (1.0, -1.0)


def mm_to_px(h_v_mm: ArrayLike, size: int) -> FloatArray:
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
    def from_camera(cls, camera: CameraRow) -> "Plane":
        """Plane of a data set row's ``camera_bs`` or ``camera_fs``, whatever the size of its image.

        Raises
        ------
        CalibrationError
            If the camera's distance or principal point is invalid.

        """
        T_world_camera = invert_transform(camera["world_to_camera"])
        axes = T_world_camera[:3, :3] * (1.0, -1.0, -1.0)  # h, v, n
        in_plane = np.array([*camera["principal_point_mm"], camera["source_to_intensifier_mm"]])
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

    def intrinsics(self, size: int = 512) -> FloatArray:
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
