"""The holder of an implant component in the X-ray images: post, bolt, clamp, cement, and the robot's end.

A clear acrylic post carries the component; a steel bolt in the post's bore pulls it onto a base with countersunk
screws. The femoral base is a rounded housing on a stepped fixture block with an acrylic wing, the tibial one a clamp
plate on the robot's wrist. Shapes and proportions are read from a real frame, where the magnification is 1.26.

Holder coordinates, mm: z along the post, away from the component; z = 0 where the post meets its base.
"""

import operator
from functools import reduce
from typing import Literal, NamedTuple

import numpy as np
import trimesh
from manifold3d import CrossSection, FillRule, Manifold, OpType
from numpy.typing import ArrayLike

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import invert_transform, make_transform
from veriserum_hf.simulation.solids import mesh_of, solid_of

Material = Literal["steel", "aluminium", "PMMA", "cement"]
Pieces = dict[Material, list[Manifold]]
Outline = list[tuple[float, float]]

# Distance of the femoral post from the component, and its arm's height and depth inside the component.
_BESIDE_MM, _INSIDE_YZ_MM, _ARM_RADIUS_MM = 14.0, (9.0, -7.0), 7.0
# Side view of the fixture block and its jaw and wing (u across the post, z), measured in the real frame.
_BLOCK_UZ_MM: Outline = [(-64, 27), (-43, 24), (39, 14), (44, 33), (44, 85), (-64, 85)]
_JAW_UZ_MM: Outline = [
    *((43, 32), (50, 32), (53, 17), (58, 16), (62, 24.5)),
    *((71, 23.5), (85, 22.5), (97, 50), (102, 85), (43, 85)),
]
_WING_UZ_MM: Outline = [(37, 24), (40, 14), (58, 14.5), (84, 20), (90, 34), (47, 40)]
_SMALLEST_DETAIL_MM = 0.004


class Solid(NamedTuple):
    """All of a holder that is of one material.

    Attributes
    ----------
    mesh : closed mesh, mm, in the coordinates of the implant component that it holds.
    material : "steel", "aluminium", "PMMA" or "cement".

    """

    mesh: trimesh.Trimesh
    material: Material


def holder(
    component: Literal["femur", "tibia"], implant: trimesh.Trimesh, direction: ArrayLike, rng: np.random.Generator
) -> tuple[Solid, ...]:
    """Build the holder of one implant component; it moves with the component.

    The femoral post is next to the component, on its lateral side, where it clears the tibia at every flexion; an
    arm leads from it to the component's inside. The tibial one continues the stem.

    Parameters
    ----------
    component : which one is held.
    implant : its mesh, mm, of a right knee.
    direction : (3,) unit vector along the post, from the component to its base, in implant coordinates.
    rng : draws lengths, sizes, angles and the cement's shape; the same state gives the same meshes.

    Returns
    -------
    One part per material. Parts share surfaces, with each other and with the implant; they overlap
    by a few mm3 at most.

    Raises
    ------
    ValueError
        If the component is invalid, or the direction is not a unit vector.

    """
    axis = np.asarray(direction, dtype=np.float64)
    if axis.shape != (3,) or not abs(np.linalg.norm(axis) - 1.0) < 1e-6:
        raise ValueError(f"direction must be a unit vector of 3 numbers, got {axis}; divide it by its length")
    builders = {"femur": _femoral_pieces, "tibia": _tibial_pieces}
    if component not in builders:
        raise ValueError(f"component must be 'femur' or 'tibia', got {component!r}")
    start_mm = _post_start_mm(component, implant)
    post_mm, pieces = builders[component](rng)
    T_implant_holder = make_transform(_axes(axis, rng), start_mm + post_mm * axis)
    # Cut apart where the pieces were drawn: there, faces that touch lie in one plane exactly.
    T_holder_implant = invert_transform(T_implant_holder)[:3]
    if component == "femur":
        pieces["PMMA"].append(_arm(start_mm).transform(T_holder_implant))
    apart = _apart(pieces, solid_of(implant).transform(T_holder_implant))
    return tuple(
        Solid(mesh_of(solid.transform(T_implant_holder[:3]), _SMALLEST_DETAIL_MM), material)
        for material, solid in apart.items()
    )


def _post_start_mm(component: str, implant: trimesh.Trimesh) -> FloatArray:
    """Start of the post's axis."""
    corners = implant.vertices
    if component == "femur":
        return np.array([corners[:, 0].min() - _BESIDE_MM, *_INSIDE_YZ_MM])
    tip_mm: FloatArray = corners[corners[:, 1] < corners[:, 1].min() + 1].mean(axis=0)
    return tip_mm


def _arm(start_mm: FloatArray) -> Manifold:
    """Round bar from the start of the femoral post across the inside of the component."""
    bar = Manifold.cylinder(10.0 - start_mm[0] + _ARM_RADIUS_MM, _ARM_RADIUS_MM, circular_segments=24)
    return bar.rotate((0, 90, 0)).translate((start_mm[0] - _ARM_RADIUS_MM, start_mm[1], start_mm[2]))


def _axes(z: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Columns u, v, z of the holder: u shows in a side view of the knee, up to a random rotation about the post."""
    lateral = np.eye(3)[0 if abs(z[0]) < 0.9 else 2]
    u = np.cross(z, lateral)
    u /= np.linalg.norm(u)
    v = np.cross(z, u)
    angle = np.radians(rng.uniform(-25, 25))
    return np.column_stack([np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u, z])


def _apart(pieces: Pieces, implant: Manifold) -> dict[Material, Manifold]:
    """One solid per material, each less the implant and the harder ones before it."""
    whole = {material: Manifold.batch_boolean(solids, OpType.Add) for material, solids in pieces.items()}
    materials = list(whole)
    return {
        material: reduce(operator.sub, (whole[harder] for harder in materials[:rank]), whole[material] - implant)
        for rank, material in enumerate(materials)
    }


def _femoral_pieces(rng: np.random.Generator) -> tuple[float, Pieces]:
    """Length of the post, and the pieces, hardest material first."""
    post_mm, radius_mm = rng.uniform(100, 130), rng.uniform(27, 31)
    bolt_mm = rng.uniform(0.45, 0.58) * post_mm
    tip_mm = rng.uniform(9, 13)
    bolt = _revolved(
        [(2.6, -bolt_mm), (3.0, 2.5 - bolt_mm), (3.0, tip_mm - bolt_mm), (2.2, tip_mm + 1 - bolt_mm), (2.2, 10)]
    )
    height_mm, fillet_mm = rng.uniform(26, 32), rng.uniform(9, 13)
    corner = np.linspace(0, np.pi / 2, 5)
    shoulder = np.column_stack([radius_mm - fillet_mm * (1 - np.sin(corner)), fillet_mm * (1 - np.cos(corner))])
    housing = _revolved([*shoulder, (radius_mm, height_mm)], 40)
    tilt_deg, scale, depth_mm = rng.uniform(-5, 5), rng.uniform(0.92, 1.08), rng.uniform(50, 68)

    def upright(outline: Outline, depth_mm: float, center_mm: float = 0.0) -> Manifold:
        solid = Manifold.extrude(CrossSection([outline]).scale((scale, scale)), depth_mm).rotate((90, tilt_deg, 0))
        return solid.translate((0, center_mm + depth_mm / 2, 0))

    jaw_depth_mm, jaw_center_mm = rng.uniform(30, 42), rng.uniform(-8, 8)
    return (
        post_mm,
        {
            "steel": [
                *(bolt, upright(_BLOCK_UZ_MM, depth_mm), upright(_JAW_UZ_MM, jaw_depth_mm, jaw_center_mm)),
                *_fasteners(rng, radius_mm - 7, head_mm=rng.uniform(-8, -5)),
            ],
            "aluminium": [housing],
            "PMMA": [_post(rng, post_mm, bolt_mm), upright(_WING_UZ_MM, rng.uniform(9, 14), jaw_center_mm)],
        },
    )


def _tibial_pieces(rng: np.random.Generator) -> tuple[float, Pieces]:
    """Length of the post, and the pieces, hardest material first."""
    post_mm, radius_mm, flange_mm = rng.uniform(90, 130), rng.uniform(28, 32), rng.uniform(7, 9)
    bolt_mm = rng.uniform(0.5, 0.62) * post_mm
    nut_mm, under_nut_mm, plate_mm = rng.uniform(3.5, 4.4), rng.uniform(8, 11), flange_mm + rng.uniform(8, 11)
    bolt = _revolved(
        [(2.2, -bolt_mm), (2.2, 4 - bolt_mm), (nut_mm, 4 - bolt_mm), (nut_mm, 4 + under_nut_mm - bolt_mm)]
        + [(2.5, 5 + under_nut_mm - bolt_mm), (2.5, 0), (10.5, 0), (7, flange_mm), (7, plate_mm)]
    )
    flange = _revolved([(radius_mm + 3, 0), (radius_mm + 3, flange_mm)], 40)
    plate = _revolved([(radius_mm, flange_mm), (radius_mm, plate_mm)], 40)
    side_bolt = _revolved([(5, 0), (5, 3), (2.5, 3), (2.5, 10)], 16).rotate((0, 90, 0))
    side_bolt = side_bolt.translate((-radius_mm - 4, 0, (flange_mm + plate_mm) / 2))
    neck_mm, wrist_mm = plate_mm + rng.uniform(3, 7), rng.uniform(42, 48)
    neck = _revolved([(9, plate_mm - 1), (9, neck_mm + 12)])
    around = np.linspace(0.05, np.pi / 2, 8)
    dome = np.column_stack([wrist_mm * np.sin(around), rng.uniform(28, 40) * (1 - np.cos(around))])
    wrist = _revolved([*dome, (wrist_mm, 110)], 40).rotate((rng.uniform(-15, 15), rng.uniform(-15, 15), 0))
    return (
        post_mm,
        {
            "steel": [
                *(bolt, plate, side_bolt.rotate((0, 0, rng.uniform(0, 360))), neck, wrist.translate((0, 0, neck_mm))),
                *_fasteners(rng, radius_mm - rng.uniform(5, 7), head_mm=0.0),
            ],
            "cement": [_cement(rng).translate((0, 0, -post_mm))],
            "PMMA": [_post(rng, post_mm - rng.uniform(4, 9), bolt_mm), flange],
        },
    )


def _post(rng: np.random.Generator, length_mm: float, bolt_mm: float) -> Manifold:
    """Post with the bolt's bore, which is drilled deeper than the bolt goes."""
    radius_mm, bore_mm, deeper_mm = rng.uniform(8.5, 10), rng.uniform(2.7, 3.4), rng.uniform(2, 25)
    post = _revolved([(radius_mm, -length_mm), (radius_mm, 0.5)])
    return post - _revolved([(bore_mm, -bolt_mm - deeper_mm), (bore_mm, 1)])


def _fasteners(rng: np.random.Generator, circle_mm: float, head_mm: float) -> list[Manifold]:
    """Three or four countersunk screws around the post and a dowel pin, heads at ``head_mm``."""
    count, first_deg = int(rng.integers(3, 5)), rng.uniform(0, 360)
    head_radius_mm = rng.uniform(4.2, 5.2)
    screw = _revolved(
        [(head_radius_mm, head_mm), (head_radius_mm, head_mm + 0.6), (2.2, head_mm + 3.6), (2.2, 10)], 16
    )
    pin = _revolved([(2.6, -rng.uniform(5, 8)), (2.6, 10)], 16)
    return [
        piece.translate((circle_mm, 0, 0)).rotate((0, 0, angle_deg))
        for piece, angle_deg in (
            *((screw, first_deg + i * 360 / count + rng.uniform(-8, 8)) for i in range(count)),
            (pin, first_deg + (0.5 + rng.uniform(-0.15, 0.15)) * 360 / count),
        )
    ]


def _cement(rng: np.random.Generator) -> Manifold:
    """Lump around the start of the post: a ball with lobes, star-shaped about its centre."""
    lobes = rng.normal(size=(7, 3))
    lobes /= np.linalg.norm(lobes, axis=1, keepdims=True)
    heights_mm, widths = rng.uniform(4, 10, size=7), rng.uniform(0.25, 0.5, size=7)
    core_mm = rng.uniform(9, 11)
    offset_mm = [*rng.uniform(-3, 3, size=2), rng.uniform(4, 7)]

    def bulge(sphere: FloatArray) -> FloatArray:
        angle = np.arccos(np.clip(sphere @ lobes.T, -1, 1))
        return sphere * (core_mm + np.exp(-((angle / widths) ** 2)) @ heights_mm)[:, None]

    return Manifold.sphere(1.0, 32).warp_batch(bulge).scale((1.25, 1.25, 0.9)).translate(offset_mm)


def _revolved(outline_rz_mm: Outline, segments: int = 20) -> Manifold:
    """Solid of revolution about z; the outline (radius, z) runs from one end to the other."""
    outline = [(0.0, outline_rz_mm[0][1]), *outline_rz_mm, (0.0, outline_rz_mm[-1][1])]
    return Manifold.revolve(CrossSection([outline], FillRule.NonZero), segments)
