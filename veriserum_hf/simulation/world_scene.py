"""Solids in front of both detectors of a randomised world: implants, holders, legs with bones, cables, a table."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from veriserum_hf.core import COMPONENTS, FloatArray
from veriserum_hf.geometry import make_transform
from veriserum_hf.simulation.imaging import ATTENUATION_PER_MM
from veriserum_hf.simulation.world_implants import WorldShape
from veriserum_hf.simulation.world_ranges import WorldRanges, random_direction
from veriserum_hf.simulation.world_rigs import View
from veriserum_hf.simulation.world_surroundings import CABLES, KNEE_RADIUS_MM, LIMB, templates

_LEAST_THROUGH = 0.015  # of the light behind metal
_OPAQUE_PER_MM = 1.5
_OPAQUE_STEEL = 6.0  # factor
_OFF = (0.6, 1.5)  # factors on the attenuation of holders
_MARROW = -0.75  # of bone's attenuation: spongy bone is left
_FIBULA, _PATELLA = 0.6, 0.5  # of bone's attenuation
_SIDEWARD_MM = (110.0, 200.0)  # between both legs


class Stock:
    """All solids that there are, by number: implants first, in the order of ``shapes``.

    Attributes
    ----------
    meshes : by number.
    holders : by shape, the holders to choose from, each with numbers of solids and their materials.
    template : numbers by name, see `world_surroundings.templates`.

    """

    def __init__(self, shapes: Sequence[WorldShape]) -> None:
        self.meshes: list[trimesh.Trimesh] = [shape.mesh for shape in shapes]
        self.holders: list[list[list[tuple[int, str]]]] = [
            [[(self._add(solid.mesh), solid.material) for solid in solids] for solids in shape.holders]
            for shape in shapes
        ]
        self.template = {name: self._add(mesh) for name, mesh in templates()}

    def _add(self, mesh: trimesh.Trimesh) -> int:
        self.meshes.append(mesh)
        return len(self.meshes) - 1


class Moving(NamedTuple):
    """A component in a frame.

    Attributes
    ----------
    number : of its mesh among all solids.
    shape : the component.
    moments : poses (2, 4, 4) by plane of its anatomical coordinates in the world, at moments of the exposure.

    """

    number: int
    shape: WorldShape
    moments: Sequence[FloatArray]

    @property
    def poses(self) -> FloatArray:
        """Poses (2, 4, 4) by plane in the middle of the exposure."""
        return self.moments[len(self.moments) // 2]


class Row(NamedTuple):
    """A solid in an image; see `veriserum_hf.rendering.scenes.Placed`.

    Attributes
    ----------
    moment : at which of the exposure it is there; None where it does not move.

    """

    image: int
    solid: int
    T_camera_solid: FloatArray
    per_mm: float
    wall_mm: float
    moment: int | None


class Scene:
    """Solids of a frame in the images of both planes.

    Parameters
    ----------
    stock : to choose from.
    ranges : what is drawn from.
    views : the planes.
    rng : random numbers.

    Attributes
    ----------
    rows : the solids, as they were put there.

    """

    def __init__(self, stock: Stock, ranges: WorldRanges, views: Sequence[View], rng: np.random.Generator) -> None:
        self.rows: list[Row] = []
        self._stock, self._ranges, self._rng = stock, ranges, rng
        self._world_to_camera = np.stack([view.plane.world_to_camera for view in views])

    def put_implant(self, moving: Moving, stray: float) -> None:
        """Put an implant, of whatever looks; ``stray`` is the part of the light that is scattered."""
        ranges, rng, shape = self._ranges, self._rng, moving.shape
        # Stray light brightens the shadow, so that the metal itself must let less pass.
        through = max((ranges.draw("metal", rng) - stray) / (1 - stray), _LEAST_THROUGH)
        per_mm, wall_mm = -np.log(through) / shape.chord_mm, 0.0
        kind = rng.random()
        if kind < ranges.hollow:
            wall_mm = ranges.draw("wall_mm", rng)
            per_mm = -np.log(through) / (3 * wall_mm)  # two walls, most of them crossed obliquely
        elif kind < ranges.hollow + ranges.opaque:
            per_mm = _OPAQUE_PER_MM
        for number, T_world in enumerate(moving.moments):
            moment = number if len(moving.moments) > 1 else None
            self._put(moving.number, T_world @ shape.T_anatomical_mesh, per_mm, wall_mm, moment)

    def put_holders(self, both: Sequence[Moving]) -> None:
        """Put a holder of each component, where there is any."""
        factor = {material: self._rng.uniform(*_OFF) for material in ATTENUATION_PER_MM}
        if self._ranges.happens("opaque_blocks", self._rng):
            factor["steel"] *= _OPAQUE_STEEL
        for moving in both:
            choices = self._stock.holders[moving.number]
            for solid, material in choices[self._rng.integers(len(choices))]:
                per_mm = factor[material] * ATTENUATION_PER_MM[material]
                self._put(solid, moving.poses @ moving.shape.T_anatomical_mesh, per_mm)

    def put_legs(self, both: Sequence[Moving]) -> None:
        """Put a leg around the components, and perhaps another one beside it."""
        ranges, rng = self._ranges, self._rng
        tissue, bone = ranges.draw("tissue_per_mm", rng), ranges.draw("bone_per_mm", rng)
        scale = np.array([rng.uniform(0.8, 1.2), rng.uniform(0.9, 1.1)])
        self._put_leg(both, np.eye(4), tissue, bone, scale)
        if ranges.happens("second_legs", rng):
            T_world_tibia = both[1].poses[0]
            aside_mm = rng.choice([-1.0, 1.0]) * rng.uniform(*_SIDEWARD_MM) * T_world_tibia[:3, 0]
            moved = about(T_world_tibia[:3, 3], rng.normal(0, 0.15, 3), aside_mm + rng.normal(0, 15, 3))
            self._put_leg(both, moved, tissue, bone, scale)

    def _put_leg(
        self, both: Sequence[Moving], moved: FloatArray, tissue: float, bone: float, scale: FloatArray
    ) -> None:
        """Put thigh and shank with their bones; attenuations per mm, and factors across and along the leg."""
        template, across, along = self._stock.template, *scale
        T_world = [moved @ moving.poses for moving in both]
        for component, T in zip(COMPONENTS, T_world, strict=True):
            skin, cortex, marrow = (template[name] for name in LIMB[component])
            # Both limbs turn about the femoral component's origin.
            T_joint = make_transform(T[:, :3, :3], T_world[0][:, :3, 3])
            self._put(skin, T_joint @ _scaled(across, along, across), tissue)
            bones = T @ _scaled(across, 1, across)
            self._put(cortex, bones, bone)
            self._put(marrow, bones, _MARROW * bone)
        femur, tibia = T_world
        # Both limbs end in the same ball about the joint, of which there is one.
        radius_mm = KNEE_RADIUS_MM * across
        self._put(template["ball"], femur @ _scaled(radius_mm, KNEE_RADIUS_MM * along, radius_mm), -tissue)
        lateral_mm = (30.0 if both[0].shape.left else -30.0) * across
        self._put(template["fibula"], tibia @ make_transform(np.eye(3), (lateral_mm, 0.0, 0.0)), _FIBULA * bone)
        patella = make_transform(np.eye(3), (0.0, self._rng.uniform(10, 28), self._rng.uniform(36, 48)))
        self._put(template["ball"], femur @ patella @ _scaled(21, 21, 8), _PATELLA * bone)

    def put_cables(self, center_mm: FloatArray) -> None:
        """Put one to three cables, which do not move with the knee."""
        rng = self._rng
        for _ in range(rng.integers(1, 4)):
            radius_mm = rng.uniform(0.6, 2.2)
            R = Rotation.random(random_state=rng).as_matrix()
            T = make_transform(R, center_mm + random_direction(rng) * rng.uniform(0, 130))
            cable = self._stock.template[f"cable {rng.integers(CABLES)}"]
            self._put(cable, T @ _scaled(radius_mm, 1, radius_mm), rng.uniform(0.02, 0.4) / radius_mm)

    def put_table(self, center_mm: FloatArray) -> None:
        """Put a board of which the detectors see an edge."""
        rng = self._rng
        extents_mm = np.array([rng.uniform(150, 320), rng.uniform(8, 40), rng.uniform(150, 240)])
        R = Rotation.from_euler("YXZ", [rng.uniform(0, 360), *rng.normal(0, 25, 2)], degrees=True).as_matrix()
        aside_mm = R @ (rng.uniform(-1, 1, 3) * (extents_mm / 2 + 60))
        T = make_transform(R, center_mm + aside_mm) @ _scaled(*extents_mm)
        self._put(self._stock.template["box"], T, rng.uniform(0.05, 0.45) / extents_mm[1])

    def _put(
        self, solid: int, T_world_solid: FloatArray, per_mm: float, wall_mm: float = 0.0, moment: int | None = None
    ) -> None:
        """Put a solid into both images, at one pose or at one for each plane."""
        for image, T in enumerate(self._world_to_camera @ T_world_solid):
            self.rows.append(Row(image, solid, T, per_mm, wall_mm, moment))


def about(point_mm: FloatArray, rotation_rad: FloatArray, translation_mm: FloatArray) -> FloatArray:
    """Motion (4, 4) that turns about a point and then shifts."""
    R = Rotation.from_rotvec(rotation_rad).as_matrix()
    return make_transform(R, point_mm - R @ point_mm + translation_mm)


def _scaled(x: float, y: float, z: float) -> FloatArray:
    return np.diag([x, y, z, 1.0])
