"""Estimated poses with the labels they are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.core import PLANES, FloatArray, PlaneName
from veriserum_hf.errors import TrainingError

_RIGID_TOLERANCE = 1e-4  # of a rotation matrix's entries; float32 networks reach 1e-6


@dataclass(frozen=True, eq=False)
class Estimates:
    """One row per implant and frame: the estimated pose, the label, and the cameras.

    Attributes
    ----------
    measurement_id, trial_id, anatomy_id : (n,) int64.
    task : (n,) str.
    component : (n,) str, ``"femur"`` or ``"tibia"``.
    T_world_implant : (n, 4, 4) estimated poses, mm.
    T_world_label : (n, 4, 4) poses of the data set, mm.
    cameras : by plane, intrinsics (n, 3, 3) in px of the stored image and world_to_camera (n, 4, 4) in mm, OpenCV;
        both NaN in frames without that plane.
    confidence : (n,) stated probability that the pose is within 2 mm and 2 deg of the truth; NaN where unknown.
    trusted : (n,) 1 for a pose that the model says to trust, 0 for one that it marks, NaN where it says nothing; None
        where it never does.

    Raises
    ------
    TrainingError
        If there is no row, a shape is wrong, or a pose, camera or confidence cannot be used; the first such row
        is named.

    """

    measurement_id: NDArray[np.int64]
    trial_id: NDArray[np.int64]
    task: NDArray[np.str_]
    anatomy_id: NDArray[np.int64]
    component: NDArray[np.str_]
    T_world_implant: FloatArray
    T_world_label: FloatArray
    cameras: Mapping[PlaneName, tuple[FloatArray, FloatArray]]
    confidence: FloatArray
    trusted: FloatArray | None = None

    def __post_init__(self) -> None:
        self._check_shapes()
        self._check_rows(_is_rigid(self.T_world_implant), "the estimated pose", "finite and rigid, in mm")
        self._check_rows(_is_rigid(self.T_world_label), "the label", "finite and rigid, in mm")
        for plane, (intrinsics, world_to_camera) in self.cameras.items():
            usable = np.isfinite(intrinsics).all(axis=(1, 2)) & _is_rigid(world_to_camera)
            absent = np.isnan(intrinsics).all(axis=(1, 2)) & np.isnan(world_to_camera).all(axis=(1, 2))
            self._check_rows(usable | absent, f"camera_{plane}", "finite intrinsics and a rigid world_to_camera")
        in_range = np.isnan(self.confidence) | ((self.confidence >= 0) & (self.confidence <= 1))
        self._check_rows(in_range, "the confidence", "a probability, 0 to 1, or NaN")
        self._check_rows(np.isin(self.component, ("femur", "tibia")), "the component", "femur or tibia")

    def __len__(self) -> int:
        return len(self.measurement_id)

    def row_name(self, row: int) -> str:
        """Name by which a user finds row number ``row``."""
        return (
            f"row {row} (measurement {self.measurement_id[row]}, trial {self.trial_id[row]}, {self.component[row]} "
            f"{self.anatomy_id[row]})"
        )

    def _check_shapes(self) -> None:
        count = len(self.measurement_id)
        if not count:
            raise TrainingError(
                "nothing to evaluate: there is no implant with a label. Choose a split or a configuration with poses."
            )
        if not self.cameras or not set(self.cameras) <= set(PLANES):
            raise TrainingError(f"cameras must be given for bs, fs or both, got {sorted(self.cameras)}")
        expected: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
            name: (np.shape(getattr(self, name)), (count,))
            for name in ("measurement_id", "trial_id", "task", "anatomy_id", "component", "confidence")
        }
        if self.trusted is not None:
            expected["trusted"] = (np.shape(self.trusted), (count,))
        for name in ("T_world_implant", "T_world_label"):
            expected[name] = (np.shape(getattr(self, name)), (count, 4, 4))
        for plane, (intrinsics, world_to_camera) in self.cameras.items():
            expected[f"intrinsics of camera_{plane}"] = (np.shape(intrinsics), (count, 3, 3))
            expected[f"world_to_camera of camera_{plane}"] = (np.shape(world_to_camera), (count, 4, 4))
        for name, (found, wanted) in expected.items():
            if found != wanted:
                raise TrainingError(f"{name} must have shape {wanted} for {count} measurement ids, got {found}")

    def _check_rows(self, usable: NDArray[np.bool_], what: str, expected: str) -> None:
        if not usable.all():
            row = int(np.flatnonzero(~usable)[0])
            raise TrainingError(
                f"{self.row_name(row)}: {what} cannot be used, expected {expected}; {np.count_nonzero(~usable)} of "
                f"{len(self)} rows have the same fault"
            )


def _is_rigid(T: FloatArray) -> NDArray[np.bool_]:
    """Which of (n, 4, 4) are finite rigid transforms, (n,)."""
    finite = np.asarray(np.isfinite(T).all(axis=(1, 2)))
    R = np.where(finite[:, None, None], T, 0.0)[:, :3, :3]
    off = np.linalg.norm(R @ R.swapaxes(1, 2) - np.eye(3), axis=(1, 2))
    affine = np.linalg.norm(T[:, 3] - (0.0, 0.0, 0.0, 1.0), axis=1) == 0
    return np.asarray(finite & (off <= _RIGID_TOLERANCE) & (np.linalg.det(R) > 0) & affine)
