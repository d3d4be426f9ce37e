"""One plane of the Veriserum rig: its source and its intensifier, whatever the size of the corrected image.

Source: authors' repository and paper (arXiv 2509.05483).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from veriserum_hf.core import CameraRow, FloatArray
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry.camera import Camera
from veriserum_hf.geometry.grid import FIELD_MM, NATIVE_SIZE, mm_to_px, pixel_size_mm, px_to_mm
from veriserum_hf.geometry.pose import invert_transform, make_transform

# Fields that describe intrinsics may be rounded, to a mm or to three digits.
_FOCAL_TOLERANCE, _TOLERANCE_MM = 1e-3, 1.0
_SAME_FOCAL = 1e-6
_EQUAL_PX = 1e-6


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
    pixel_mm, sid_mm, foot_mm = _described(camera)
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
    expected_px = mm_to_px(foot_mm, whole)
    first_px: FloatArray = expected_px - K[:2, 2]
    if size is None or abs(size - whole) < 0.5:
        if not (np.abs(first_px) <= tolerance_px).all():
            raise CalibrationError(
                f"intrinsics has its principal point at {_pair(K[:2, 2])} px, but principal_point_mm "
                f"{_pair(foot_mm)} gives {_pair(expected_px)} px in an image of {whole:.0f} px; "
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


def _described(camera: CameraRow) -> tuple[float, float, list[float]]:
    pixel_mm, sid_mm = camera["pixel_size_mm"], camera["source_to_intensifier_mm"]
    foot_mm = camera["principal_point_mm"]
    if pixel_mm is None or sid_mm is None or foot_mm is None:
        raise CalibrationError("the camera has no pixel_size_mm, source_to_intensifier_mm or principal_point_mm")
    return pixel_mm, sid_mm, foot_mm


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
        pixel_mm, sid_mm, foot_mm = _described(camera)
        stated = cls._at(camera, foot_mm, sid_mm)
        first_px = window_px(camera, size)
        K = np.asarray(camera["intrinsics"], dtype=np.float64)
        whole = FIELD_MM / pixel_mm
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
