"""One plane of the Veriserum rig: its source and its intensifier, whatever the size of the corrected image.

Source: authors' repository and paper (arXiv 2509.05483).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from veriserum_hf.core import CameraRow, FloatArray
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry.camera import Camera
from veriserum_hf.geometry.grid import NATIVE_SIZE, mm_to_px, pixel_size_mm, px_to_mm
from veriserum_hf.geometry.pose import invert_transform, make_transform


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

    def at(self, size: float = 512) -> Camera:
        """Camera of the ``size`` x ``size`` corrected image."""
        return Camera(self.intrinsics(size), self.world_to_camera)

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
        return self.at(size).project(points_world_mm)

    def project_mm(self, points_world_mm: ArrayLike) -> FloatArray:
        """Project world points (..., 3) mm to the intensifier, (..., 2) mm (h, v); NaN at or behind the source."""
        return px_to_mm(self.project(points_world_mm, NATIVE_SIZE), NATIVE_SIZE)

    def depths_mm(self, points_world_mm: ArrayLike) -> FloatArray:
        """Distances (...) of world points (..., 3) from the source along the intensifier's normal, mm.

        They are negative behind the source.
        """
        return self.at().depths_mm(points_world_mm)

    def rays(self, column_row_px: ArrayLike, size: int = 512) -> tuple[FloatArray, FloatArray]:
        """Rays of pixels (..., 2): the source, (3,) mm, and unit directions (..., 3) towards the intensifier."""
        return self.at(size).rays(column_row_px)
