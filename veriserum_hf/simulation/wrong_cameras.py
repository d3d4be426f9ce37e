"""Errors of the cameras that a simulated archive stores, and the poses that a registration with these gives."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from veriserum_hf.core import PLANES, FloatArray, PlaneName
from veriserum_hf.geometry import (
    NOMINAL_T_WORLD_FS,
    DualPlaneRig,
    Plane,
    invert_transform,
    make_transform,
    transform_points,
)
from veriserum_hf.simulation.calibrations import moved_fs, rig_of
from veriserum_hf.simulation.settings import Settings, Stream

CENTER_MM = (0.0, 0.0, 381.0)  # in the world: where the central rays of both planes cross, and implants move
_ITERATIONS, _CONVERGED = 20, 1e-10
_POINTS = 400  # of a mesh, at most


@dataclass(frozen=True, eq=False)
class CameraErrors:
    """The true cameras of a session less those that the tables hold, and the time between the planes.

    Attributes
    ----------
    fs_translation_mm : (3,) of the centre of the ``fs`` intensifier along the world's axes.
    fs_rotation_deg : (3,) rotation vector of the ``fs`` camera about that centre, in the world.
    principal_point_mm : (2,) along (h, v), by plane.
    sid_mm : by plane.
    fs_late_ms : how much later than ``bs`` the plane ``fs`` is exposed; negative if earlier.

    """

    fs_translation_mm: FloatArray
    fs_rotation_deg: FloatArray
    principal_point_mm: Mapping[PlaneName, FloatArray]
    sid_mm: Mapping[PlaneName, float]
    fs_late_ms: float

    @classmethod
    def random(cls, settings: Settings, session_index: int) -> "CameraErrors":
        """Draw those of a session, from 0."""
        directions = settings.rng(Stream.FS_POSE, session_index).normal(size=(2, 3))
        shift, axis = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        sources = settings.rng(Stream.SOURCE_ERRORS, session_index).normal(size=(len(PLANES), 3))
        sign = settings.rng(Stream.LATE, session_index).choice((-1.0, 1.0))
        return cls(
            settings.fs_translation_mm * shift,
            settings.fs_rotation_deg * axis,
            {name: settings.principal_point_sd_mm * error[:2] for name, error in zip(PLANES, sources, strict=True)},
            {name: float(settings.sid_sd_mm * error[2]) for name, error in zip(PLANES, sources, strict=True)},
            float(settings.async_ms * sign) + 0.0,  # no -0.0
        )

    @property
    def none(self) -> bool:
        """Whether the tables hold the true cameras, and both planes are exposed at the same time."""
        axes = (self.fs_translation_mm, self.fs_rotation_deg, *self.principal_point_mm.values())
        return not (np.concatenate(axes).any() or any(self.sid_mm.values()) or self.fs_late_ms)

    def rig(self, source: Mapping[str, float]) -> DualPlaneRig:
        """Rig of a row of ``source_int_calibration`` and the nominal ``fs`` pose, with the errors added."""
        true = dict(source)
        for name in PLANES:
            for axis, error_mm in zip("hv", self.principal_point_mm[name], strict=True):
                true[f"principalp_{axis}_{name}"] += float(error_mm)
            true[f"sid_{name}"] += self.sid_mm[name]
        return rig_of(true, moved_fs(self.fs_translation_mm, self.fs_rotation_deg))

    @property
    def fs_shift_mm(self) -> FloatArray:
        """Shift of the ``fs`` camera at ``CENTER_MM``, (3,) along the world's axes; its rotation contributes."""
        move = moved_fs(self.fs_translation_mm, self.fs_rotation_deg) @ invert_transform(NOMINAL_T_WORLD_FS)
        shift_mm: FloatArray = transform_points(move, [CENTER_MM])[0] - CENTER_MM
        return shift_mm

    def as_json(self) -> dict[str, object]:
        """Every value, named with its unit."""
        return {
            "fs_translation_mm": self.fs_translation_mm.tolist(),
            "center_mm": list(CENTER_MM),
            "fs_shift_at_center_mm": self.fs_shift_mm.tolist(),
            "fs_rotation_deg": self.fs_rotation_deg.tolist(),
            "principal_point_mm": {name: error.tolist() for name, error in self.principal_point_mm.items()},
            "sid_mm": dict(self.sid_mm),
            "fs_late_ms": self.fs_late_ms,
        }


def registered_pose(
    points_mm: FloatArray,
    T_true: Mapping[PlaneName, FloatArray],
    true: Mapping[PlaneName, Plane],
    stored: Mapping[PlaneName, Plane],
) -> FloatArray:
    """Pose, (4, 4), that best explains the true projections of an implant by the stored cameras (least squares).

    It is what an exact registration with the stored cameras would give.

    Parameters
    ----------
    points_mm : (n, 3) vertices of the implant in its own frame; at most 400 of them are used, spread evenly.
    T_true : pose in the world, (4, 4), by plane: at the time that the plane is exposed.
    true, stored : the planes.

    """
    points_mm = points_mm[:: max(1, len(points_mm) // _POINTS)]
    cameras = {name: plane.at() for name, plane in stored.items()}
    seen_px = {name: true[name].at().project(transform_points(T_true[name], points_mm)) for name in cameras}
    T = T_true["bs"]
    for _ in range(_ITERATIONS):
        residuals, jacobians = [], []
        world_mm = transform_points(T, points_mm)
        center_mm = world_mm.mean(axis=0)
        for name, camera in cameras.items():
            R, (fx, fy) = camera.world_to_camera[:3, :3], camera.intrinsics.diagonal()[:2]
            x, y, z = transform_points(camera.world_to_camera, world_mm).T
            zero = np.zeros_like(z)
            by_camera = np.stack([[fx / z, zero, -fx * x / z**2], [zero, fy / z, -fy * y / z**2]]).transpose(2, 0, 1)
            by_shift = by_camera @ R  # (n, 2, 3), px/mm
            by_rotation = np.cross((world_mm - center_mm)[:, None], by_shift)  # px/rad, about the centre
            jacobians.append(np.concatenate([by_shift, by_rotation], axis=2).reshape(-1, 6))
            residuals.append((seen_px[name] - camera.project(world_mm)).ravel())
        step = np.linalg.lstsq(np.concatenate(jacobians), np.concatenate(residuals), rcond=None)[0]
        rotation = Rotation.from_rotvec(step[3:]).as_matrix()
        T = make_transform(rotation, center_mm + step[:3] - rotation @ center_mm) @ T
        if np.abs(step).max() < _CONVERGED:
            break
    return T
