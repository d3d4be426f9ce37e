"""The dual-plane rig: two X-ray sources, two intensifiers, and the pixel grid of a corrected image.

World frame: origin at the centre of the ``bs`` intensifier, +z its normal (towards the source), +y up, mm,
right-handed.

Source: authors' repository and paper (arXiv 2509.05483); the inter-plane pose there is nominal.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike

from veriserum_hf.core import FloatArray, PlaneName
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry.plane import Plane
from veriserum_hf.geometry.pose import make_transform


def _intensifier(center_mm: ArrayLike, rotation_about_y_deg: float) -> FloatArray:
    """4x4 pose in the world of an intensifier whose columns are h, v, n and centre."""
    angle = np.radians(rotation_about_y_deg)
    n = np.array([np.sin(angle), 0.0, np.cos(angle)])
    v = np.array([0.0, 1.0, 0.0])
    return make_transform(np.stack([np.cross(v, n), v, n], axis=1), center_mm)


T_WORLD_BS: FloatArray = _intensifier((0.0, 0.0, 0.0), 0.0)
NOMINAL_T_WORLD_FS: FloatArray = _intensifier((360.0, 0.0, 250.0), -70.0)
for _shared in (T_WORLD_BS, NOMINAL_T_WORLD_FS):
    _shared.setflags(write=False)


class DualPlaneRig(Mapping[PlaneName, Plane]):
    """Both planes of the fluoroscope: ``rig["bs"]``, ``rig["fs"]`` and what needs both views.

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
            (centre (360, 0, 250) mm, rotated by -70 degrees about y).

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
        return self["bs"].at(size).triangulate(px_bs, self["fs"].at(size), px_fs)
