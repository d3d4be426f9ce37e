"""The dual-plane rig: two X-ray sources, two intensifiers, and the pixel grid of a corrected image.

World frame: origin at the centre of the ``bs`` intensifier, +z its normal (towards the source), +y up, mm,
right-handed. In an intensifier's own plane h points right and v up, seen in the corrected image.

The corrected image is N x N pixels over 360 mm. At N = 1600, index i lies at ``(i - 800) 0.225`` mm; every
other N is the half-pixel-centred resize of that grid, so index i at any N lies at

    mm = (i + 0.5) 360 / N - 180 - 0.1125          (columns: h; rows: -v)

Source: authors' repository and paper (arXiv 2509.05483); the inter-plane pose there is nominal.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry.pose import invert_transform, make_transform

FloatArray = NDArray[np.float64]
PlaneName = Literal["bs", "fs"]
PLANES: tuple[PlaneName, PlaneName] = ("bs", "fs")

FIELD_MM = 360.0
NATIVE_SIZE = 1600
# Index 800 of 1600, not 799.5, is 0 mm: the grid is half a native pixel off the centre of the picture.
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


def _intensifier(center_mm: ArrayLike, turn_about_y_deg: float) -> FloatArray:
    """4x4 pose in the world of an intensifier whose columns are h, v, n and centre."""
    angle = np.radians(turn_about_y_deg)
    n = np.array([np.sin(angle), 0.0, np.cos(angle)])
    v = np.array([0.0, 1.0, 0.0])
    return make_transform(np.stack([np.cross(v, n), v, n], axis=1), center_mm)


T_WORLD_BS: FloatArray = _intensifier((0.0, 0.0, 0.0), 0.0)
NOMINAL_T_WORLD_FS: FloatArray = _intensifier((360.0, 0.0, 250.0), -70.0)
for _shared in (T_WORLD_BS, NOMINAL_T_WORLD_FS):
    _shared.setflags(write=False)


class Camera(TypedDict):
    """One plane as an OpenCV camera, for one size of corrected image: a row's ``camera_bs``, ``camera_fs``."""

    intrinsics: list[list[float]]
    world_to_camera: list[list[float]]
    pixel_size_mm: float
    source_to_intensifier_mm: float
    principal_point_mm: list[float]


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
    def from_camera(cls, camera: Camera) -> "Plane":
        """Plane of a data set row's ``camera_bs`` or ``camera_fs``, whatever the size of its image.

        Raises
        ------
        CalibrationError
            If the camera's distance or principal point is none.

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

    def camera(self, size: int = 512) -> Camera:
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
        in_camera = points @ self.world_to_camera[:3, :3].T + self.world_to_camera[:3, 3]
        homogeneous = in_camera @ self.intrinsics(size).T
        depth = np.where(in_camera[..., 2:] > 0, in_camera[..., 2:], np.nan)
        px: FloatArray = homogeneous[..., :2] / depth
        return px

    def rays(self, column_row_px: ArrayLike, size: int = 512) -> tuple[FloatArray, FloatArray]:
        """Rays of pixels (..., 2): the source, (3,) mm, and unit directions (..., 3) towards the intensifier."""
        h_v = px_to_mm(column_row_px, size)
        in_plane = np.concatenate([h_v, np.zeros((*h_v.shape[:-1], 1))], axis=-1)
        on_plane = in_plane @ self.T_world_intensifier[:3, :3].T + self.T_world_intensifier[:3, 3]
        directions = on_plane - self.source_mm
        return self.source_mm, directions / np.linalg.norm(directions, axis=-1, keepdims=True)


class DualPlaneRig(Mapping[PlaneName, Plane]):
    """Both planes of the fluoroscope: ``rig["bs"]``, ``rig["fs"]`` and what takes two views.

    Parameters
    ----------
    bs, fs : the two planes, in one world frame.

    """

    def __init__(self, bs: Plane, fs: Plane) -> None:
        self._planes: dict[PlaneName, Plane] = {"bs": bs, "fs": fs}

    @classmethod
    def from_calibration(
        cls,
        *,
        principal_point_bs_mm: ArrayLike,
        sid_bs_mm: float,
        principal_point_fs_mm: ArrayLike,
        sid_fs_mm: float,
        T_world_fs: ArrayLike = NOMINAL_T_WORLD_FS,
    ) -> "DualPlaneRig":
        """Build the rig from a source-intensifier calibration and the inter-plane setting.

        Parameters
        ----------
        principal_point_bs_mm, principal_point_fs_mm : (2,) (h, v) mm on each intensifier.
        sid_bs_mm, sid_fs_mm : source-to-intensifier distances, mm.
        T_world_fs : (4, 4) pose of the ``fs`` intensifier; the data set gives it nominally only
            (centre (360, 0, 250) mm, turned by -70 degrees about y).

        Raises
        ------
        CalibrationError
            If a value is not finite, a distance not positive, or ``T_world_fs`` not rigid.

        """
        T_fs = np.asarray(T_world_fs, dtype=np.float64)
        if T_fs.shape != (4, 4) or not (
            np.allclose(T_fs[:3, :3] @ T_fs[:3, :3].T, np.eye(3), atol=1e-6)
            and np.linalg.det(T_fs[:3, :3]) > 0
            and np.array_equal(T_fs[3], (0, 0, 0, 1))
        ):
            raise CalibrationError(f"T_world_fs must be a rigid 4x4 transform, got\n{T_fs}")
        calibrations: dict[PlaneName, tuple[FloatArray, ArrayLike, float]] = {
            "bs": (T_WORLD_BS, principal_point_bs_mm, sid_bs_mm),
            "fs": (T_fs, principal_point_fs_mm, sid_fs_mm),
        }
        planes = {}
        for name, (T_world_intensifier, principal_point_mm, sid_mm) in calibrations.items():
            try:
                planes[name] = Plane(
                    T_world_intensifier, np.asarray(principal_point_mm, dtype=np.float64), float(sid_mm)
                )
            except CalibrationError as error:
                raise CalibrationError(f"{name}: {error}") from error
        return cls(**planes)

    def __getitem__(self, plane: PlaneName) -> Plane:
        return self._planes[plane]

    def __iter__(self) -> Iterator[PlaneName]:
        return iter(self._planes)

    def __len__(self) -> int:
        return len(self._planes)

    def triangulate(self, px_bs: ArrayLike, px_fs: ArrayLike, size: int = 512) -> FloatArray:
        """World points nearest to both rays (least squares), (..., 3) mm; NaN where the rays are parallel.

        Parameters
        ----------
        px_bs, px_fs : (..., 2) (column, row) of the same points in both corrected images.
        size : edge of the images, px.

        """
        (source_bs, d_bs), (source_fs, d_fs) = (
            self["bs"].rays(px_bs, size),
            self["fs"].rays(px_fs, size),
        )
        # Points source_bs + s d_bs and source_fs + t d_fs are nearest where their difference is normal to both.
        baseline = source_fs - source_bs
        cosine = (d_bs * d_fs).sum(axis=-1)
        along_bs, along_fs = (d_bs * baseline).sum(axis=-1), (d_fs * baseline).sum(axis=-1)
        sine_squared = 1.0 - cosine**2
        sine_squared = np.where(sine_squared > 1e-12, sine_squared, np.nan)
        s = (along_bs - cosine * along_fs) / sine_squared
        t = (cosine * along_bs - along_fs) / sine_squared
        points: FloatArray = 0.5 * (source_bs + s[..., None] * d_bs + source_fs + t[..., None] * d_fs)
        return points
