"""Rigs of other laboratories, and where their images lie on the canvas of a model.

Images of other cameras are brought to a canvas of 360 mm, see `veriserum_hf.modeling.fit`. Here the canvas is drawn
at once: cameras are those that fitting gives, and the rest of the canvas continues the image's rim.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from veriserum_hf.core import PLANES, FloatArray
from veriserum_hf.geometry import FIELD_MM, DualPlaneRig, Plane, make_transform, pixel_size_mm
from veriserum_hf.simulation.calibrations import moved_fs, random_source, rig_of
from veriserum_hf.simulation.world_ranges import WorldRanges, random_direction

_SID_MM, _DEPTH_MM = 1860.0, 1480.0  # of this laboratory, as fitting takes them
_CENTER_MM = (0.0, 0.0, 381.0)  # where its central rays cross
_MISS_MM = 4.0  # deviation by which other rigs' central rays miss each other


@dataclass(frozen=True, eq=False)
class View:
    """A plane, and its image on the canvas.

    Attributes
    ----------
    plane : the geometry; lengths on its own detector.
    intrinsics : (3, 3) px of the canvas.
    first_px, size_px : (2,) column and row of the image's first pixel on the canvas, and its columns and rows.
    scale : mm of the canvas per mm of the detector.
    radius_mm : of a round field, on the canvas; None for one that fills the image.
    pixel_mm : pitch of the stored image on the detector; None for this laboratory's own.

    """

    plane: Plane
    intrinsics: FloatArray
    first_px: FloatArray
    size_px: FloatArray
    scale: float = 1.0
    radius_mm: float | None = None
    pixel_mm: float | None = None

    @property
    def own(self) -> bool:
        """Whether it is of this laboratory's rig."""
        return self.pixel_mm is None

    def px(self, points_mm: ArrayLike) -> FloatArray:
        """Canvas pixels (..., 2) of world points (..., 3)."""
        T = self.plane.world_to_camera
        in_camera = np.asarray(points_mm) @ T[:3, :3].T + T[:3, 3]
        focal, center = self.intrinsics.diagonal()[:2], self.intrinsics[:2, 2]
        px: FloatArray = in_camera[..., :2] / in_camera[..., 2:] * focal + center
        return px


def draw_rig(ranges: WorldRanges, size: int, rng: np.random.Generator) -> tuple[tuple[View, View], FloatArray]:
    """Both planes on canvases of ``size`` px, and where their central rays cross, (3,) mm in the world.

    The world is that of the bs intensifier, as everywhere.
    """
    if not ranges.happens("other_rigs", rng):
        return _own(ranges, size, rng), np.array(_CENTER_MM)
    round_fields = ranges.happens("round_fields", rng)
    unknown_pixels = ranges.happens("unknown_pixels", rng)
    pixel_mm = ranges.draw("pixel_mm", rng)
    shapes_mm = [_field(ranges, round_fields, rng)] * len(PLANES)
    if rng.random() < 0.3:
        shapes_mm[1] = _field(ranges, round_fields, rng)
    T_world_detector, center_mm = np.eye(4), np.zeros(3)
    views = []
    for number, shape_mm in enumerate(shapes_mm):
        sid_mm = ranges.draw("distance_mm", rng)
        depth_mm = sid_mm * ranges.draw("depth_part", rng)
        foot_mm = np.array([ranges.draw("principal_mm", rng), ranges.draw("principal_mm", rng)])
        # On the way from the source to the middle of the detector, in the detector's coordinates.
        crossing_mm = np.array([*foot_mm, sid_mm]) * (1 - depth_mm / sid_mm)
        if number == 0:
            center_mm = crossing_mm
        else:
            R = _turned(ranges, rng)
            missed_mm = rng.normal(0, _MISS_MM, 3)
            T_world_detector = make_transform(R, center_mm + missed_mm - R @ crossing_mm)
        plane = Plane(T_world_detector, foot_mm, sid_mm)
        scale = _SID_MM * depth_mm / _DEPTH_MM / sid_mm if unknown_pixels else 1.0
        views.append(_fitted(plane, shape_mm, scale, size, round_fields, pixel_mm))
    return (views[0], views[1]), center_mm


def _own(ranges: WorldRanges, size: int, rng: np.random.Generator) -> tuple[View, View]:
    shift_mm, turn_deg = (random_direction(rng) * ranges.draw(name, rng) for name in ("fs_mm", "fs_deg"))
    rig: DualPlaneRig = rig_of(random_source(rng), moved_fs(shift_mm, turn_deg))
    whole = np.zeros(2), np.full(2, float(size))
    bs, fs = (View(rig[name], rig[name].intrinsics(size), *whole) for name in PLANES)
    return bs, fs


def _field(ranges: WorldRanges, round_field: bool, rng: np.random.Generator) -> FloatArray:
    """Width and height of a detector, mm; either may be the longer one."""
    longer_mm = ranges.draw("field_mm", rng)
    shorter_mm = longer_mm if round_field else longer_mm * ranges.draw("field_aspect", rng)
    return rng.permutation([longer_mm, shorter_mm])


def _turned(ranges: WorldRanges, rng: np.random.Generator) -> FloatArray:
    """Axes of the second detector: about the vertical by the angle between the planes, to either side, and tilted."""
    about_y = rng.choice([-1.0, 1.0], p=[0.75, 0.25]) * ranges.draw("planes_deg", rng)
    tilts = rng.choice([-1.0, 1.0], 2) * [ranges.draw("tilt_deg", rng), ranges.draw("tilt_deg", rng)]
    R: FloatArray = Rotation.from_euler("YXZ", [about_y, *tilts], degrees=True).as_matrix()
    return R


def _fitted(plane: Plane, shape_mm: FloatArray, scale: float, size: int, round_field: bool, pixel_mm: float) -> View:
    """A detector in the middle of the canvas; one that is larger is reduced as a whole."""
    scale = min(scale, FIELD_MM / float(shape_mm.max()))
    per_mm = scale / pixel_size_mm(size)
    size_px = np.rint(shape_mm * per_mm).clip(1, size)
    first_px = (size - size_px) // 2
    ratio = size_px / shape_mm
    column, row = first_px + (size_px - 1) / 2 + plane.principal_point_mm * (1, -1) * ratio
    focal = plane.sid_mm * ratio
    intrinsics = np.array([[focal[0], 0, column], [0, focal[1], row], [0, 0, 1]])
    radius_mm = float(shape_mm.min() / 2 * scale) if round_field else None
    return View(plane, intrinsics, first_px, size_px, scale, radius_mm, pixel_mm)
