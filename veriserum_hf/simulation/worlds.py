"""Frames of randomised worlds: what is in front of two detectors, and what these make of it.

A frame is drawn here as numbers; `veriserum_hf.simulation.world_images` turns many into images at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from veriserum_hf.core import COMPONENTS, PLANES, Component, FloatArray
from veriserum_hf.geometry import make_transform
from veriserum_hf.simulation.activities import INSERT_THICKNESS_MM, posture
from veriserum_hf.simulation.calibrations import random_distortion
from veriserum_hf.simulation.imaging import ATTENUATION_PER_MM
from veriserum_hf.simulation.intensifier_torch import raw_positions
from veriserum_hf.simulation.world_looks import Look, draw_imaging, draw_looks
from veriserum_hf.simulation.world_ranges import WorldRanges
from veriserum_hf.simulation.world_rigs import View, draw_rig
from veriserum_hf.simulation.world_shapes import WorldShape
from veriserum_hf.simulation.world_surroundings import CABLES, KNEE_RADIUS_MM, LIMB, templates

_DISTORTIONS = 64  # to choose from
_DISTORTION_STREAM = 72
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
_EXPOSURES = (-0.5, 0.0, 0.5)  # moments of an exposure with motion
_OUTSIDE_MM = 12.0  # implants may be cut off by so much, on the canvas
_OPAQUE_PER_MM = 1.5
_MARROW = -0.75  # of bone's attenuation: spongy bone is left
_OFF = (0.6, 1.5)  # factors on the attenuation of holders


@dataclass(frozen=True, eq=False)
class World:
    """One frame of one randomised world; its images are bs, then fs.

    Attributes
    ----------
    shapes : indices of the femoral and the tibial component among the world's shapes.
    labels : (2, 4, 4) T_world_implant, mm, when bs is exposed.
    task : the activity.
    intrinsics, world_to_camera : (2, 3, 3) and (2, 4, 4) by plane.
    image, solid : (I,) which image a solid is in, and which of all solids it is.
    T_camera_solid, per_mm, wall_mm : (I, 4, 4), (I,) and (I,); see `veriserum_hf.rendering.scenes.Placed`.
    looks : of both images.

    """

    shapes: tuple[int, int]
    labels: FloatArray
    task: str
    intrinsics: FloatArray
    world_to_camera: FloatArray
    image: FloatArray
    solid: FloatArray
    T_camera_solid: FloatArray
    per_mm: FloatArray
    wall_mm: FloatArray
    looks: tuple[Look, Look]


class _Scene:
    """Solids of a frame, as they are put there."""

    def __init__(self, views: Sequence[View]) -> None:
        self.rows: list[tuple[int, int, FloatArray, float, float]] = []
        self._to_camera = [view.plane.world_to_camera for view in views]

    def put(self, solid: int, T_world: Sequence[FloatArray], per_mm: float, wall_mm: float = 0.0) -> None:
        """Put a solid into both images, at its pose in each."""
        for image, (to_camera, T) in enumerate(zip(self._to_camera, T_world, strict=True)):
            self.rows.append((image, solid, to_camera @ T, per_mm, wall_mm))


class Worlds:
    """Randomised worlds with these shapes.

    Parameters
    ----------
    ranges : that they are drawn from.
    shapes : components of both kinds.
    size : edge of the images, px.

    Attributes
    ----------
    meshes : of all solids, which `World.solid` counts; those of ``shapes`` come first.

    """

    def __init__(self, ranges: WorldRanges, shapes: Sequence[WorldShape], size: int) -> None:
        self.ranges, self.shapes, self.size = ranges, shapes, size
        self.meshes: list[trimesh.Trimesh] = [shape.mesh for shape in shapes]
        self._holders: list[list[list[tuple[int, str]]]] = []
        for shape in shapes:
            held = []
            for solids in shape.holders:
                held.append([(len(self.meshes) + k, solid.material) for k, solid in enumerate(solids)])
                self.meshes += [solid.mesh for solid in solids]
            self._holders.append(held)
        self._template: dict[str, int] = {}
        for template in templates():
            self._template[template.name] = len(self.meshes)
            self.meshes.append(template.mesh)
        self._of: dict[tuple[Component, bool], list[int]] = {
            (component, own): [
                index
                for index, shape in enumerate(shapes)
                if shape.component == component and (shape.own or not own)
            ]
            for component in COMPONENTS
            for own in (False, True)
        }
        self._raw_px = lru_cache(_DISTORTIONS)(self._distorted)

    def draw(self, rng: np.random.Generator) -> World:
        """Draw a frame."""
        ranges = self.ranges
        views, center_mm = draw_rig(ranges, self.size, rng)
        femur, tibia = self._pair(rng)
        task, poses = self._knee(femur, tibia, views, center_mm, rng)
        seen = self._seen(poses, views, rng)
        scene = _Scene(views)
        stray = ranges.draw("stray", rng)
        for index, component, at in zip((femur, tibia), COMPONENTS, seen, strict=True):
            self._put_implant(scene, index, at, stray, rng)
        if ranges.happens("holders", rng):
            self._put_holders(scene, (femur, tibia), seen, rng)
        leg = ranges.happens("legs", rng)
        if leg:
            self._put_leg(scene, (femur, tibia), seen, rng)
        self._put_objects(scene, center_mm, rng)
        views = self._cropped(views, poses, (femur, tibia), rng)
        depth_mm = [float((view.plane.world_to_camera @ poses[0])[2, 3]) for view in views]
        imaging = [draw_imaging(ranges, view, stray, rng) for view in views]
        looks = draw_looks(
            ranges,
            views,
            imaging,
            depth_mm,
            [self._raw_px(int(rng.integers(_DISTORTIONS))) for _ in PLANES],
            [view.px(poses[:, :3, 3]) for view in views],
            exposed=leg,
            size=self.size,
            rng=rng,
        )
        image, solid, T, per_mm, wall_mm = zip(*sorted(scene.rows, key=lambda row: row[0]), strict=True)
        labels = np.stack(
            [T @ np.linalg.inv(self.shapes[k].T_mesh_anatomical) for T, k in zip(poses, (femur, tibia), strict=True)]
        )
        return World(
            shapes=(femur, tibia),
            labels=labels,
            task=task,
            intrinsics=np.stack([view.intrinsics for view in views]),
            world_to_camera=np.stack([view.plane.world_to_camera for view in views]),
            image=np.array(image),
            solid=np.array(solid),
            T_camera_solid=np.stack(T),
            per_mm=np.array(per_mm),
            wall_mm=np.array(wall_mm),
            looks=looks,
        )

    def _pair(self, rng: np.random.Generator) -> tuple[int, int]:
        """A femoral and a tibial component, of the same side where there are such."""
        own = self.ranges.happens("own_shapes", rng)
        femora, tibiae = (self._of[component, own] or self._of[component, False] for component in COMPONENTS)
        femur = int(rng.choice(femora))
        same = [index for index in tibiae if self.shapes[index].left == self.shapes[femur].left]
        return femur, int(rng.choice(same or tibiae))

    def _knee(
        self, femur: int, tibia: int, views: Sequence[View], center_mm: FloatArray, rng: np.random.Generator
    ) -> tuple[str, FloatArray]:
        """The activity, and the poses (2, 4, 4) of both components' anatomical coordinates in the world."""
        task, T_tibia_femur, R = posture(self.shapes[femur].corners_mm, rng)
        if self.shapes[femur].left:
            T_tibia_femur, R = _MIRROR @ T_tibia_femur @ _MIRROR, _MIRROR[:3, :3] @ R @ _MIRROR[:3, :3]
        if self.ranges.happens("any_direction", rng):
            R = Rotation.random(random_state=rng).as_matrix()
        wander_mm = _direction(rng) * self.ranges.draw("wander_mm", rng)
        joint_mm = R @ (0.0, INSERT_THICKNESS_MM, 0.0)
        poses = np.zeros((2, 4, 4))
        for part in (1.0, 0.75, 0.5, 0.25, 0.0):
            T_world_tibia = make_transform(R, center_mm + part * wander_mm - joint_mm)
            poses = np.stack([T_world_tibia @ T_tibia_femur, T_world_tibia])
            if all(self._inside(view, poses, (femur, tibia)) for view in views):
                break
        return task, poses

    def _inside(self, view: View, poses: FloatArray, pair: tuple[int, int]) -> bool:
        """Whether a detector sees the implants, but for a little of their ends."""
        px = view.px(self._box_mm(poses, pair))
        outside_px = _OUTSIDE_MM / 360.0 * self.size
        low, high = view.first_px - outside_px, view.first_px + view.size_px + outside_px
        return bool((px > low).all() and (px < high).all())

    def _box_mm(self, poses: FloatArray, pair: tuple[int, int]) -> FloatArray:
        """Corners in the world, (16, 3), of the boxes around both components."""
        corners = []
        for T, index in zip(poses, pair, strict=True):
            shape = self.shapes[index]
            box = trimesh.bounds.corners(np.stack([shape.corners_mm.min(0), shape.corners_mm.max(0)]))
            corners.append((box * (-1, 1, 1) if shape.left else box) @ T[:3, :3].T + T[:3, 3])
        return np.concatenate(corners)

    def _seen(self, poses: FloatArray, views: Sequence[View], rng: np.random.Generator) -> list[list[FloatArray]]:
        """Poses (2, 4, 4) by plane of each component at the moments of an exposure."""
        late = np.eye(4)
        if self.ranges.happens("apart", rng):
            shift_mm = self.ranges.draw("apart_mm", rng)
            late = _about(poses[1, :3, 3], _direction(rng) * np.radians(shift_mm / 2), _direction(rng) * shift_mm)
        within = np.zeros(3)
        if self.ranges.happens("motion", rng):
            within = _direction(rng) * self.ranges.draw("motion_mm", rng)
        moments = _EXPOSURES if within.any() else (0.0,)
        return [
            [np.stack([_shifted(T, part * within), _shifted(late @ T, part * within)]) for part in moments]
            for T in poses
        ]

    def _put_implant(
        self, scene: _Scene, index: int, seen: list[FloatArray], stray: float, rng: np.random.Generator
    ) -> None:
        shape, ranges = self.shapes[index], self.ranges
        # Stray light adds to the shadow, so that the metal itself must let less pass.
        through = max((ranges.draw("metal", rng) - stray) / (1 - stray), 0.015)
        per_mm, wall_mm = -np.log(through) / shape.chord_mm, 0.0
        kind = rng.random()
        if kind < ranges.hollow:
            wall_mm = ranges.draw("wall_mm", rng)
            per_mm = -np.log(through) / (3 * wall_mm)  # two walls, most of them crossed obliquely
        elif kind < ranges.hollow + ranges.opaque:
            per_mm = _OPAQUE_PER_MM
        to_anatomical = np.linalg.inv(shape.T_mesh_anatomical)
        for T in seen:
            scene.put(index, T @ to_anatomical, per_mm / len(seen), wall_mm)

    def _put_holders(
        self, scene: _Scene, pair: tuple[int, int], seen: list[list[FloatArray]], rng: np.random.Generator
    ) -> None:
        factor = {material: rng.uniform(*_OFF) for material in ATTENUATION_PER_MM}
        if self.ranges.happens("opaque_blocks", rng):
            factor["steel"] *= 6
        for index, at in zip(pair, seen, strict=True):
            T = at[len(at) // 2] @ np.linalg.inv(self.shapes[index].T_mesh_anatomical)
            choices = self._holders[index]
            for solid, material in choices[rng.integers(len(choices))]:
                scene.put(solid, T, factor[material] * ATTENUATION_PER_MM[material])

    def _put_leg(
        self, scene: _Scene, pair: tuple[int, int], seen: list[list[FloatArray]], rng: np.random.Generator
    ) -> None:
        tissue, bone = self.ranges.draw("tissue_per_mm", rng), self.ranges.draw("bone_per_mm", rng)
        across, along = rng.uniform(0.8, 1.2), rng.uniform(0.9, 1.1)
        scale = np.diag([across, along, across, 1.0])
        side = -1.0 if self.shapes[pair[0]].left else 1.0
        joint = make_transform(np.eye(3), (0.0, INSERT_THICKNESS_MM, 0.0))
        limbs = [at[len(at) // 2] for at in seen]
        beside = [np.eye(4)]
        if self.ranges.happens("second_legs", rng):
            offset_mm = rng.choice([-1.0, 1.0]) * limbs[1][:, :3, 0].mean(0) * rng.uniform(110, 200)
            beside.append(_about(limbs[1][0, :3, 3], rng.normal(0, 0.15, 3), offset_mm + rng.normal(0, 15, 3)))
        for there in beside:
            for component, T, of_joint in zip(COMPONENTS, limbs, (np.eye(4), joint), strict=True):
                skin, cortex, marrow = (self._template[name] for name in LIMB[component])
                scene.put(skin, there @ T @ of_joint @ scale, tissue)
                bones = there @ T @ np.diag([across, 1.0, across, 1.0])
                scene.put(cortex, bones, bone)
                scene.put(marrow, bones, _MARROW * bone)
            # Both limbs end in the same ball about the joint, of which there is one.
            ball = np.diag([KNEE_RADIUS_MM * across, KNEE_RADIUS_MM * along, KNEE_RADIUS_MM * across, 1.0])
            scene.put(self._template["ball"], there @ limbs[0] @ ball, -tissue)
            fibula = make_transform(np.eye(3), (-30.0 * side * across, 0.0, 0.0))
            scene.put(self._template["fibula"], there @ limbs[1] @ fibula, 0.6 * bone)
            patella = make_transform(np.eye(3), (0.0, rng.uniform(10, 28), rng.uniform(36, 48)))
            half_axes = np.diag([21.0, 21.0, 8.0, 1.0])
            scene.put(self._template["ball"], there @ limbs[0] @ patella @ half_axes, 0.5 * bone)

    def _put_objects(self, scene: _Scene, center_mm: FloatArray, rng: np.random.Generator) -> None:
        """Cables and a table's edge, which do not move with the knee."""
        if self.ranges.happens("cables", rng):
            for _ in range(rng.integers(1, 4)):
                thickness = rng.uniform(0.6, 2.2)
                T = make_transform(
                    Rotation.random(random_state=rng).as_matrix(), center_mm + _direction(rng) * rng.uniform(0, 130)
                )
                cable = self._template[f"cable {rng.integers(CABLES)}"]
                scene.put(
                    cable, [T @ np.diag([thickness, 1.0, thickness, 1.0])] * 2, rng.uniform(0.02, 0.4) / thickness
                )
        if self.ranges.happens("tables", rng):
            extents = np.array([rng.uniform(150, 320), rng.uniform(8, 40), rng.uniform(150, 240)])
            R = Rotation.from_euler(
                "YXZ", [rng.uniform(0, 360), *rng.normal(0, 25, 2)], degrees=True
            ).as_matrix()
            offset_mm = R @ (rng.uniform(-1, 1, 3) * (extents / 2 + 60))
            T = make_transform(R, center_mm + offset_mm) @ np.diag([*extents, 1.0])
            scene.put(self._template["box"], [T] * 2, rng.uniform(0.1, 0.9) / extents[1] / 2)

    def _cropped(
        self, views: Sequence[View], poses: FloatArray, pair: tuple[int, int], rng: np.random.Generator
    ) -> tuple[View, View]:
        """Views of this laboratory's rig of which parts around the implants are given."""
        cropped = bool(rng.random() < self.ranges.crops) and all(view.own for view in views)
        if not cropped:
            return views[0], views[1]
        found = []
        for view in views:
            px = view.px(self._box_mm(poses, pair))
            margins_px = rng.uniform(4, 60, (2, 2)) / 360.0 * self.size
            low = np.floor(px.min(0) - margins_px[0]).clip(0, self.size - 2)
            high = np.ceil(px.max(0) + margins_px[1]).clip(low + 1, self.size - 1)
            found.append(replace(view, first_px=low, size_px=high - low + 1))
        return found[0], found[1]

    def _distorted(self, index: int) -> FloatArray:
        """Where images lie in raw frames, see `raw_positions`, for one of some distortions."""
        rng = np.random.default_rng((_DISTORTION_STREAM, index))
        return raw_positions(random_distortion(rng), self.size)


def _shifted(T: FloatArray, translation_mm: FloatArray) -> FloatArray:
    moved = T.copy()
    moved[:3, 3] += translation_mm
    return moved


def _about(point_mm: FloatArray, rotation_rad: FloatArray, translation_mm: FloatArray) -> FloatArray:
    """Motion (4, 4) that turns about a point and then shifts."""
    R = Rotation.from_rotvec(rotation_rad).as_matrix()
    return make_transform(R, point_mm - R @ point_mm + translation_mm)


def _direction(rng: np.random.Generator) -> FloatArray:
    vector = rng.normal(size=3)
    unit: FloatArray = vector / np.linalg.norm(vector)
    return unit
