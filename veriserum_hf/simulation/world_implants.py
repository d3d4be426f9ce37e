"""Implants beyond the simulator's seven: femoral and tibial components drawn by number, with their holders.

A number gives the same component in every process and every run, so that what a model was trained on is known, and
others are new to it. Components are drawn for right knees in anatomical coordinates (see
`veriserum_hf.simulation.implants`); those of left knees are mirrored, and the coordinates of all are turned and
shifted, as those of CAD files are by their maker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import trimesh
from manifold3d import Manifold
from scipy.spatial.transform import Rotation

from veriserum_hf.core import Component, FloatArray
from veriserum_hf.geometry import invert_transform, make_transform, transform_points
from veriserum_hf.jobs import local_pool
from veriserum_hf.rendering import simplified
from veriserum_hf.simulation.femoral import FemoralShape, femoral_solid
from veriserum_hf.simulation.implants import IMPLANTS, implant_mesh
from veriserum_hf.simulation.phantom import Solid, holder
from veriserum_hf.simulation.solids import mesh_of
from veriserum_hf.simulation.tibial import (
    TibialShape,
    cross_keel,
    four_pegs,
    long_stem,
    slotted_stem,
    tibial_solid,
    winged_stem,
)
from veriserum_hf.simulation.world_ranges import WorldRanges, random_direction

FIRST_ID: dict[Component, int] = {"femur": 10_000, "tibia": 20_000}  # of drawn components, by their number
HELD_OUT = 5_000  # numbers from here on are never trained on
_STREAM = 71  # of random numbers
MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
_TOLERANCE_MM = 0.1  # less than a fifth of a pixel at 512 px
_TRIES = 20
_ANCHORS = (slotted_stem, winged_stem, four_pegs, cross_keel, long_stem)
# Means of the directions of posts from the component, in its coordinates, and their deviation.
_POSTS: dict[Component, Sequence[tuple[float, float, float]]] = {
    "femur": [(-0.6, -0.9, 0.5), (-0.6, 0.9, 0.3)],
    "tibia": [(0.0, -1.0, 0.0)],
}
_POST_DEVIATION = 0.2


@dataclass(frozen=True, eq=False)
class WorldShape:
    """One component, and how it may be held.

    Attributes
    ----------
    anatomy_id, component : as in a data set.
    mesh : closed, outward, mm, in its own coordinates.
    T_anatomical_mesh : (4, 4) to the coordinates of a right knee, mirrored for a left one.
    left : whether it is of a left knee.
    corners_mm : (n, 3) of its convex hull, in the coordinates of a right knee, not mirrored.
    chord_mm : mean path length of rays through it.
    holders : each with its solids in the mesh's coordinates.

    """

    anatomy_id: int
    component: Component
    mesh: trimesh.Trimesh
    T_anatomical_mesh: FloatArray
    left: bool
    corners_mm: FloatArray
    chord_mm: float
    holders: Sequence[Sequence[Solid]]

    @property
    def own(self) -> bool:
        """Whether it is one of the simulator's seven."""
        return self.anatomy_id in IMPLANTS


def world_shapes(ranges: WorldRanges, *, held_out: bool = False, processes: int = 1) -> list[WorldShape]:
    """Draw the components of randomised worlds: the simulator's seven, then the femoral and the tibial ones.

    Parameters
    ----------
    ranges : how many, and of which sizes.
    held_out : draw others, which no training has seen, and none of the seven.
    processes : that share the work.

    """
    first = HELD_OUT if held_out else 0
    numbers = [(component, first + k) for component in FIRST_ID for k in range(ranges.shapes)]
    own = [] if held_out else [(model.component, -model.anatomy_id) for model in IMPLANTS.values()]
    draw = partial(_shape, ranges)
    if processes <= 1:
        return [draw(*each) for each in own + numbers]
    with local_pool(processes) as pool:
        return list(pool.map(draw, *zip(*(own + numbers), strict=True)))


def _shape(ranges: WorldRanges, component: Component, number: int) -> WorldShape:
    """A drawn component by its number; the simulator's own by its id, negative."""
    rng = np.random.default_rng((_STREAM, list(FIRST_ID).index(component), abs(number), int(number < 0)))
    if number < 0:
        anatomy_id, T, left = -number, np.eye(4), False
        right = simplified(implant_mesh(anatomy_id), _TOLERANCE_MM)
    else:
        anatomy_id, left = FIRST_ID[component] + number, ranges.happens("left", rng)
        right = _drawn(ranges, component, rng)
        turn = Rotation.from_rotvec(random_direction(rng) * ranges.draw("frame_deg", rng), degrees=True)
        T = make_transform(turn.as_matrix(), random_direction(rng) * ranges.draw("frame_mm", rng))
    to_mesh = T @ MIRROR if left else T
    held = [
        [Solid(_moved(solid.mesh, to_mesh), solid.material) for solid in _held(component, right, mean, rng)]
        for mean in _POSTS[component]
    ]
    return WorldShape(
        anatomy_id=anatomy_id,
        component=component,
        mesh=_moved(right, to_mesh),
        T_anatomical_mesh=invert_transform(T),
        left=left,
        corners_mm=np.asarray(right.convex_hull.vertices),
        chord_mm=4 * float(right.volume) / float(right.area),
        holders=held,
    )


def _drawn(ranges: WorldRanges, component: Component, rng: np.random.Generator) -> trimesh.Trimesh:
    """A component of a right knee in anatomical coordinates, the first that is one closed body."""
    for _ in range(_TRIES):
        solid = femoral_solid(_femoral(rng)) if component == "femur" else tibial_solid(_tibial(rng))
        factors = ranges.draw("size", rng) * rng.uniform(*ranges.aspect, 3)
        if component == "tibia":
            factors[1] *= rng.uniform(0.85, 1.15)  # of stems and keels, apart from the tray's outline
        try:
            mesh = simplified(mesh_of(solid.scale(tuple(factors.tolist())), 0.001), _TOLERANCE_MM)
        except RuntimeError:
            continue
        if mesh.is_watertight and mesh.volume > 0 and mesh.body_count == 1:
            return mesh
    raise RuntimeError(f"no {component} component is one closed body in {_TRIES} tries")


def _femoral(rng: np.random.Generator) -> FemoralShape:
    return FemoralShape(
        half_width_mm=rng.uniform(32, 36),
        posterior_radius_mm=rng.uniform(19, 22.5),
        distal_radius_mm=rng.uniform(31, 39),
        flange_radius_mm=rng.uniform(58, 74),
        notch_half_width_mm=rng.uniform(7.5, 10),
        posterior_stabilised=bool(rng.random() < 0.5),
    )


def _tibial(rng: np.random.Generator) -> TibialShape:
    anchor = _ANCHORS[rng.integers(len(_ANCHORS))]
    return TibialShape(
        width_mm=rng.uniform(66, 75),
        depth_mm=rng.uniform(43, 50),
        thickness_mm=rng.uniform(3.6, 5.2),
        anchor=partial(_scaled, anchor(), rng.uniform(0.85, 1.15, 3)),
        rim_mm=float(rng.choice([0.0, rng.uniform(0.6, 1.6)])),
        medial_mm=float(rng.choice([0.0, rng.uniform(1, 4)])),
    )


def _scaled(anchor: Manifold, factors: FloatArray) -> Manifold:
    return anchor.scale(tuple(factors.tolist()))


def _held(
    component: Component, mesh: trimesh.Trimesh, mean: tuple[float, float, float], rng: np.random.Generator
) -> Sequence[Solid]:
    direction = np.array(mean) + rng.normal(0, _POST_DEVIATION, 3)
    return holder(component, mesh, direction / np.linalg.norm(direction), rng)


def _moved(mesh: trimesh.Trimesh, T: FloatArray) -> trimesh.Trimesh:
    """A mesh in other coordinates, outward in those too."""
    vertices_mm = transform_points(T, np.asarray(mesh.vertices))
    faces = np.asarray(mesh.faces)
    mirrored = np.linalg.det(T[:3, :3]) < 0
    return trimesh.Trimesh(vertices_mm, faces[:, ::-1].copy() if mirrored else faces, process=False)
