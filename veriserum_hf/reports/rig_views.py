"""Points of a refined rig in the plane of its rays and from the side, and what the unknowns do to them.

Directions: across, to the right of the first image as far as possible; along the ray of the first camera through the
implants' centre; and up, normal to the rays of both cameras, or to the first one's where it is alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veriserum_hf.calibration import RefinedRig, SizedCamera
from veriserum_hf.core import FloatArray, PlaneName
from veriserum_hf.geometry import invert_transform, transform_points

ACROSS, ALONG, UP = range(3)


@dataclass(frozen=True, eq=False)
class Place:
    """A point (3,) mm in the rig's directions from the implants' centre, and (3, n) mm that each unknown moves it."""

    at_mm: FloatArray
    by_unknown: FloatArray


@dataclass(frozen=True, eq=False)
class CameraPoints:
    """Source of a stored camera; of its image on the detector, the centre, and the corners (4, 3) mm in order."""

    source: Place
    center: Place
    corners_mm: FloatArray

    @property
    def places(self) -> tuple[Place, Place]:
        """Source and centre."""
        return self.source, self.center


def directions(rig: RefinedRig) -> FloatArray:
    """Unit vectors across, along and up, as the rows of (3, 3), in the world."""
    cameras = list(rig.before.values())
    rays = [rig.center_mm - _source_mm(camera) for camera in cameras]
    along, right = rays[0] / np.linalg.norm(rays[0]), cameras[0].world_to_camera[0, :3]
    up = np.cross(along, rays[1]) if len(rays) > 1 else np.cross(right, along)
    if np.linalg.norm(up) < 1e-3 * np.linalg.norm(rays[-1]):  # both rays are one
        up = np.cross(right, along)
    up = up / np.linalg.norm(up)
    across = np.cross(along, up)
    flip = 1.0 if across @ right >= 0 else -1.0
    return np.stack([flip * across, along, flip * up])


def points(rig: RefinedRig, plane: PlaneName) -> CameraPoints:
    """Points of a camera."""
    camera, basis = rig.before[plane], directions(rig)
    rows, columns = camera.image_shape
    sid_mm = rig.details["sid_mm"][plane]
    edges_px = [(-0.5, -0.5), (columns - 0.5, -0.5), (columns - 0.5, rows - 0.5), (-0.5, rows - 0.5)]
    center_px = np.mean(edges_px, axis=0)
    on_detector = _on_detector(camera, np.array([*edges_px, center_px]), sid_mm)
    source_mm = _source_mm(camera)
    source, center = (
        Place(basis @ (at_mm - rig.center_mm), basis @ _by_unknown(rig, plane, at_mm, detector=detector))
        for at_mm, detector in ((source_mm, False), (on_detector[-1], True))
    )
    return CameraPoints(source, center, (on_detector[:-1] - rig.center_mm) @ basis.T)


def indices(names: Sequence[str], kind: str) -> list[int]:
    """Places of unknowns in whose names this occurs, such as ``"shift"``."""
    return [n for n, name in enumerate(names) if kind in name]


def _source_mm(camera: SizedCamera) -> FloatArray:
    return invert_transform(camera.world_to_camera)[:3, 3]


def _on_detector(camera: SizedCamera, px: FloatArray, sid_mm: float) -> FloatArray:
    """World points (n, 3) mm of pixels (n, 2)."""
    K = camera.intrinsics
    rays = np.column_stack([(px - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones(len(px))])
    return transform_points(invert_transform(camera.world_to_camera), sid_mm * rays)


def _by_unknown(rig: RefinedRig, plane: PlaneName, at_mm: FloatArray, *, detector: bool) -> FloatArray:
    """Motion of a point of a camera in the world, (3, n) mm per unit of each unknown.

    A changed principal point or distance moves the image; the source stays.
    """
    axes, from_center_mm = rig.before[plane].world_to_camera[:3, :3], at_mm - rig.center_mm
    found = np.zeros((3, len(rig.unknowns)))
    for n, name in enumerate(rig.unknowns):
        if not name.startswith(f"{plane} "):
            continue
        axis = np.eye(3)["xyz".index(name.split()[-2])] if name.split()[-2] in "xyz" else np.zeros(3)
        if " shift " in name:
            found[:, n] = axis
        elif " rotation " in name:
            found[:, n] = np.radians(np.cross(axis, from_center_mm))
        elif " principal point " in name and detector:
            found[:, n] = -axes.T @ axis
        elif " sid " in name and detector:
            found[:, n] = axes[2]
    return found
