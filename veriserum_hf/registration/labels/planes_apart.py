"""Disagreement of the two planes: registered poses, registered again with the images of each plane alone.

One plane determines the depth along its own rays poorly. The direction perpendicular to the rays of both planes is
determined by either: with the right cameras, both find the implant at the same place along it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import trimesh

from veriserum_hf.core import CAMERA_OF, Component, FloatArray, FrameRow, PlaneName, Poses
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import transform_points, viewing_axes
from veriserum_hf.poses import pose_differences
from veriserum_hf.registration.labels.offsets import Estimate, resampled
from veriserum_hf.registration.refine import RefinedPose, register

_MIN_MM, _MIN_DEG = 0.15, 0.5
_FEWEST = 5  # implants, for a statement
_LEAST_ANGLE = 0.2  # sine of that between the rays


@dataclass(frozen=True, eq=False)
class PlanesApart:
    """How far the poses that each plane finds alone are apart: that of fs minus that of bs.

    Attributes
    ----------
    implants : number of implants and frames that both planes registered alone.
    direction : (3,) unit vector in the world, perpendicular to the rays of both planes.
    shift : (1,) mm along that direction, of the centre of the mesh.
    rotation : (3,) rotation vector about the world's axes, degrees.

    """

    implants: int
    direction: FloatArray
    shift: Estimate
    rotation: Estimate

    @property
    def disagree(self) -> bool:
        """Whether they are apart by more than 0.15 mm or 0.5 degrees, and than the uncertainty."""
        return self.shift.exceeds(_MIN_MM) or self.rotation.exceeds(_MIN_DEG)

    def document(self) -> dict[str, float | bool | int | list[float]]:
        """The disagreement in JSON."""
        return {
            "disagree": self.disagree,
            "implants": self.implants,
            "direction": self.direction.tolist(),
            "shift_mm": float(self.shift.value[0]),
            "shift_sd_mm": float(self.shift.deviation[0]),
            "rotation_deg": self.rotation.value.tolist(),
            "rotation_sd_deg": self.rotation.deviation.tolist(),
        }


def planes_apart(
    rows: Sequence[FrameRow], poses: Sequence[Poses], meshes: Mapping[int, trimesh.Trimesh]
) -> PlanesApart | None:
    """Register frames with each plane alone, and compare.

    Parameters
    ----------
    rows : some frames with both images.
    poses : of their implants, registered with both planes: the initial poses.
    meshes : by anatomy id, mm.

    Returns
    -------
    None where fewer than five implants can be registered with either plane alone, or all rays are nearly parallel.

    """
    trials, directions, shifts, rotations = [], [], [], []
    for row, start in zip(rows, poses, strict=True):
        bs, fs = (_alone(row, start, meshes, plane) for plane in ("bs", "fs"))
        for component in bs.keys() & fs.keys():
            pair = np.stack([each[component].T_world_implant for each in (bs, fs)])
            center_mm = meshes[start[component]["anatomy_id"]].bounds.mean(axis=0, keepdims=True)
            at = [transform_points(T, center_mm)[0] for T in pair]
            normal = _common_normal(row, np.mean(at, axis=0))
            if normal is not None:
                trials.append(row["trial_id"])
                directions.append(normal)
                shifts.append([normal @ (at[1] - at[0])])
                rotations.append(pose_differences(pair[1:], pair[:1])[0, 3:])
    if len(trials) < _FEWEST:
        return None
    mean = np.mean(directions, axis=0)
    shift, rotation = (_median(values, trials) for values in (shifts, rotations))
    return PlanesApart(len(trials), mean / np.linalg.norm(mean), shift, rotation)


def _alone(
    row: FrameRow, start: Poses, meshes: Mapping[int, trimesh.Trimesh], plane: PlaneName
) -> dict[Component, RefinedPose]:
    """Poses by component of those that one plane registers."""
    try:
        found = register(row, meshes, start, planes=(plane,))
    except RegistrationError:
        return {}
    return {component: pose for component, pose in found.items() if pose.verdict != "failed"}


def _common_normal(row: FrameRow, at_mm: FloatArray) -> FloatArray | None:
    """Direction perpendicular to the rays of both planes at a point; its largest component is positive."""
    rays = []
    for name in CAMERA_OF.values():
        camera = row[name]
        if camera is None:
            return None
        rays.append(viewing_axes(np.array(camera["world_to_camera"], dtype=float)[None], at_mm[None])[0, 2])
    normal = np.cross(*rays)
    length = float(np.linalg.norm(normal))
    if length < _LEAST_ANGLE:
        return None
    unit: FloatArray = normal / length * np.sign(normal[np.abs(normal).argmax()])
    return unit


def _median(values: Sequence[FloatArray | list[float]], trials: Sequence[int]) -> Estimate:
    of = np.array(values)
    return resampled(lambda chosen: np.median(of[chosen], axis=0), np.array(trials))
