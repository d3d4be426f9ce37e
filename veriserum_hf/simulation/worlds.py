"""Frames of randomised worlds: what is in front of two detectors, and what these make of it.

A frame is drawn here as numbers; `veriserum_hf.simulation.world_images` turns many into images at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.spatial.transform import Rotation
from trimesh.bounds import corners

from veriserum_hf.core import COMPONENTS, Component, FloatArray
from veriserum_hf.geometry import FIELD_MM, make_transform
from veriserum_hf.simulation.activities import INSERT_THICKNESS_MM, posture
from veriserum_hf.simulation.calibrations import random_distortion
from veriserum_hf.simulation.intensifier_torch import raw_positions
from veriserum_hf.simulation.world_implants import MIRROR, WorldShape
from veriserum_hf.simulation.world_looks import Look, Seen, draw_looks
from veriserum_hf.simulation.world_ranges import WorldRanges, random_direction
from veriserum_hf.simulation.world_rigs import View, draw_rig
from veriserum_hf.simulation.world_scene import Moving, Row, Scene, Stock, about

_DISTORTIONS = 64  # to choose from
_DISTORTION_STREAM = 72
EXPOSURE = (-0.5, 0.0, 0.5)  # moments of one with motion
_NEARER = (1.0, 0.75, 0.5, 0.25, 0.0)  # parts of a knee's distance from the middle that are tried
_CANDIDATES = 32  # of which at least one is seen from aside
_HALF_TURN = np.diag([-1.0, 1.0, -1.0])  # about the vertical
_ALONG_LEG = np.cos(np.radians(40))  # rays nearer to a leg's axis are not drawn
_OUTSIDE_MM = 12.0  # implants may be cut off by so much, on the canvas
_TURNED_PER_MM = np.radians(0.5)  # of planes that are apart in time


@dataclass(frozen=True, eq=False)
class World:
    """One frame of one randomised world; its planes are bs, then fs.

    Attributes
    ----------
    shapes : indices of the femoral and the tibial component among the worlds' shapes.
    labels : (2, 4, 4) T_world_implant, mm, when bs is exposed.
    task : the activity.
    intrinsics, world_to_camera : (2, 3, 3) and (2, 4, 4) by plane.
    rows : solids in both images, numbered as in `Worlds.meshes`.
    looks : of both images.

    """

    shapes: tuple[int, int]
    labels: FloatArray
    task: str
    intrinsics: FloatArray
    world_to_camera: FloatArray
    rows: Sequence[Row]
    looks: tuple[Look, Look]


class Worlds:
    """Randomised worlds with these shapes.

    Parameters
    ----------
    ranges : that they are drawn from.
    shapes : components of both kinds.
    size : edge of the images, px.

    Attributes
    ----------
    meshes : of all solids; those of ``shapes`` come first.

    """

    def __init__(self, ranges: WorldRanges, shapes: Sequence[WorldShape], size: int) -> None:
        self.ranges, self.shapes, self.size = ranges, shapes, size
        self._stock = Stock(shapes)
        self.meshes = self._stock.meshes
        self._own = {component: self._indices(component, own=True) for component in COMPONENTS}
        self._all = {component: self._indices(component, own=False) for component in COMPONENTS}
        self._raw_px = lru_cache(_DISTORTIONS)(self._distorted)

    def draw(self, rng: np.random.Generator) -> World:
        """Draw a frame."""
        ranges = self.ranges
        views, center_mm = draw_rig(ranges, self.size, rng)
        pair = self._pair(rng)
        task, poses = self._knee(pair, views, center_mm, rng)
        both = self._moving(pair, poses, rng)
        scene = Scene(self._stock, ranges, views, rng)
        stray = ranges.draw_ratio("stray", rng)
        for moving in both:
            scene.put_implant(moving, stray)
        if ranges.happens("holders", rng):
            scene.put_holders(both)
        if leg := ranges.happens("legs", rng):
            scene.put_legs(both)
        if ranges.happens("cables", rng):
            scene.put_cables(center_mm)
        if ranges.happens("tables", rng):
            scene.put_table(center_mm)
        if all(view.own for view in views) and ranges.happens("crops", rng):
            views = self._crop(views[0], poses, pair, rng), self._crop(views[1], poses, pair, rng)
        seen = [
            Seen(view, poses[0, :3, 3], view.px(poses[:, :3, 3]).mean(0), self._raw_px(int(which)))
            for view, which in zip(views, rng.integers(_DISTORTIONS, size=2), strict=True)
        ]
        return World(
            shapes=pair,
            labels=np.stack([moving.poses[0] @ moving.shape.T_anatomical_mesh for moving in both]),
            task=task,
            intrinsics=np.stack([view.intrinsics for view in views]),
            world_to_camera=np.stack([view.plane.world_to_camera for view in views]),
            rows=scene.rows,
            looks=draw_looks(ranges, seen, stray, rng, exposed=leg or ranges.happens("exposed", rng), size=self.size),
        )

    def _indices(self, component: Component, *, own: bool) -> list[int]:
        """Those of a kind; of the simulator's own only, where there are any."""
        found = [index for index, shape in enumerate(self.shapes) if shape.component == component]
        return [index for index in found if self.shapes[index].own or not own] or found

    def _pair(self, rng: np.random.Generator) -> tuple[int, int]:
        """A femoral and a tibial component, of the same side where there are such."""
        among = self._own if self.ranges.happens("own_shapes", rng) else self._all
        femur = int(rng.choice(among["femur"]))
        same = [index for index in among["tibia"] if self.shapes[index].left == self.shapes[femur].left]
        return femur, int(rng.choice(same or among["tibia"]))

    def _knee(
        self, pair: tuple[int, int], views: Sequence[View], center_mm: FloatArray, rng: np.random.Generator
    ) -> tuple[str, FloatArray]:
        """The activity, and the poses (2, 4, 4) of both components' anatomical coordinates in the world."""
        femur = self.shapes[pair[0]]
        task, T_tibia_femur, R = posture(femur.corners_mm, rng)
        if femur.left:
            T_tibia_femur, R = MIRROR @ T_tibia_femur @ MIRROR, MIRROR[:3, :3] @ R @ MIRROR[:3, :3]
        if not views[0].own and self.ranges.happens("other_side", rng):
            R = _HALF_TURN @ R
        if self.ranges.happens("any_direction", rng):
            R = _turned_anyhow(views, center_mm, rng)
        wander_mm = random_direction(rng) * self.ranges.draw("wander_mm", rng)
        joint_mm = R @ (0.0, INSERT_THICKNESS_MM, 0.0)
        poses = np.zeros((2, 4, 4))
        for part in _NEARER:
            T_world_tibia = make_transform(R, center_mm + part * wander_mm - joint_mm)
            poses = np.stack([T_world_tibia @ T_tibia_femur, T_world_tibia])
            if all(self._inside(view, poses, pair) for view in views):
                break
        return task, poses

    def _inside(self, view: View, poses: FloatArray, pair: tuple[int, int]) -> bool:
        """Whether implants are before a detector, which sees them but for a little of their ends."""
        box_mm, T = self._box_mm(poses, pair), view.plane.world_to_camera
        px, depth_mm = view.px(box_mm), box_mm @ T[2, :3] + T[2, 3]
        outside_px = _OUTSIDE_MM / FIELD_MM * self.size
        low, high = view.first_px - outside_px, view.first_px + view.size_px + outside_px
        return bool((px > low).all() and (px < high).all() and (depth_mm < view.plane.sid_mm).all())

    def _box_mm(self, poses: FloatArray, pair: tuple[int, int]) -> FloatArray:
        """Corners in the world, (16, 3), of the boxes around both components."""
        found = []
        for T, index in zip(poses, pair, strict=True):
            shape = self.shapes[index]
            bounds = np.stack([shape.corners_mm.min(0), shape.corners_mm.max(0)])
            box = np.asarray(corners(bounds)) * (-1 if shape.left else 1, 1, 1)  # type: ignore[no-untyped-call]
            found.append(box @ T[:3, :3].T + T[:3, 3])
        return np.concatenate(found)

    def _moving(self, pair: tuple[int, int], poses: FloatArray, rng: np.random.Generator) -> list[Moving]:
        """Both components as the planes see them, which may be apart in time, and the exposure may take some."""
        late, within_mm = np.eye(4), np.zeros(3)
        if self.ranges.happens("apart", rng):
            shift_mm = self.ranges.draw("apart_mm", rng)
            turn = random_direction(rng) * shift_mm * _TURNED_PER_MM
            late = about(poses[1, :3, 3], turn, random_direction(rng) * shift_mm)
        moments: Sequence[float] = (0.0,)
        if self.ranges.happens("motion", rng):
            within_mm, moments = random_direction(rng) * self.ranges.draw("motion_mm", rng), EXPOSURE
        there = [make_transform(np.eye(3), part * within_mm) for part in moments]
        return [
            Moving(index, self.shapes[index], [np.stack([shift @ T, shift @ late @ T]) for shift in there])
            for index, T in zip(pair, poses, strict=True)
        ]

    def _crop(self, view: View, poses: FloatArray, pair: tuple[int, int], rng: np.random.Generator) -> View:
        """A part of a view around the implants."""
        px = view.px(self._box_mm(poses, pair))
        margins_px = rng.uniform(4, 60, (2, 2)) / FIELD_MM * self.size
        low = np.floor(px.min(0) - margins_px[0]).clip(0, self.size - 2)
        high = np.ceil(px.max(0) + margins_px[1]).clip(low + 1, self.size - 1)
        return replace(view, first_px=low, size_px=high - low + 1)

    def _distorted(self, index: int) -> FloatArray:
        """Where images lie in raw frames, see `raw_positions`, for one of some distortions."""
        rng = np.random.default_rng((_DISTORTION_STREAM, index))
        return raw_positions(random_distortion(rng), self.size)


def _turned_anyhow(views: Sequence[View], center_mm: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Any orientation (3, 3) of a leg that no plane sees along its axis, where that can be."""
    rays = np.stack([center_mm - view.plane.source_mm for view in views])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    candidates: FloatArray = Rotation.random(_CANDIDATES, random_state=rng).as_matrix()
    along = abs(candidates[:, :, 1] @ rays.T).max(axis=1)
    chosen: FloatArray = candidates[np.argmax(along < _ALONG_LEG)]
    return chosen
