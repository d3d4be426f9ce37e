"""What surrounds implants in the beam: fixtures of a phantom, a leg and its bones, cables and the table.

All path lengths are those on the fine grid of `tests.benchmarks.independent_chain`, by material.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.benchmarks.independent_chain import FINE_PX, SIZE_PX, Floats, fine_mm
from veriserum_hf.core import Component, FloatArray
from veriserum_hf.geometry import Plane, make_transform, pixel_size_mm
from veriserum_hf.simulation.imaging import Part

# Ellipsoids of a right leg in the implants' frames: material, sign, centre and half-axes, mm. Marrow is subtracted.
_LEG: dict[Component, list[tuple[str, int, tuple[float, float, float], tuple[float, float, float]]]] = {
    "femur": [
        ("tissue", 1, (0, 200, -12), (62, 235, 66)),
        ("bone", 1, (0, 190, -3), (16, 182, 16)),
        ("bone", -1, (0, 190, -3), (10, 176, 10)),
        ("bone", 1, (0, 20, 4), (31, 26, 22)),
        ("bone", -1, (0, 20, 4), (29, 24, 20)),
        ("bone", 1, (3, 16, 50), (20, 22, 9)),
    ],
    "tibia": [
        ("tissue", 1, (0, -205, -10), (52, 240, 54)),
        ("tissue", 1, (0, 15, 4), (60, 85, 64)),
        ("bone", 1, (0, -182, -4), (15, 178, 15)),
        ("bone", -1, (0, -182, -4), (9, 172, 9)),
        ("bone", 1, (0, -28, 0), (35, 25, 23)),
        ("bone", -1, (0, -28, 0), (33, 23, 21)),
        ("bone", 1, (-32, -190, -18), (7, 165, 7)),
    ],
}


def fixtures(
    component: Component, mesh: trimesh.Trimesh, T_world_implant: FloatArray, rng: np.random.Generator
) -> list[Part]:
    """Solids that hold an implant, of other shapes and sizes than the simulator's, clear of most of its outline."""
    size, tip_mm = rng.uniform(0.85, 1.15), float(mesh.bounds[0, 1]) - 1
    solids: list[tuple[trimesh.Trimesh, str, tuple[float, float, float]]]
    if component == "femur":
        solids = [
            (_post(6.5 * size, 68, axis=0), "PMMA", (-30, 9, -4)),
            (_post(20 * size, 130, sides=6), "PMMA", (-66, 55, -4)),
            (_post(4 * size, 70), "steel", (-66, 95, -4)),
        ]
    else:
        solids = [
            (trimesh.creation.box((42 * size, 80, 42 * size)), "PMMA", (0, tip_mm - 40, 0)),
            (trimesh.creation.box((60 * size, 8, 60 * size)), "aluminium", (0, tip_mm - 84, 0)),
            (_post(4.5 * size, 60), "steel", (0, tip_mm - 58, 0)),
        ]
    T = T_world_implant @ make_transform(
        Rotation.from_rotvec(rng.normal(0, 3, 3), degrees=True).as_matrix(), (0, 0, 0)
    )
    return [Part(mesh, material, T @ make_transform(np.eye(3), at)) for mesh, material, at in solids]


def plastic(component: Component, T_world_implant: FloatArray) -> list[Part]:
    """Blocks in contact with the surfaces that are fixed to bone."""
    solids = {
        "femur": (trimesh.creation.box((48, 66, 34)), (0, 19, 7)),
        "tibia": (_post(20, 88), (0, -46, 0)),
    }
    mesh, at = solids[component]
    return [Part(mesh, "PMMA", T_world_implant @ make_transform(np.eye(3), at))]


def _post(radius_mm: float, length_mm: float, axis: int = 1, sides: int = 64) -> trimesh.Trimesh:
    """Post along an axis."""
    post = trimesh.creation.cylinder(radius_mm, length_mm, sections=sides)
    post.vertices = np.roll(post.vertices, axis - 2, axis=1)
    return post


def legs(poses: dict[Component, FloatArray], plane: Plane, rng: np.random.Generator) -> Iterator[tuple[str, Floats]]:
    """Soft tissue and bones of the leg, and of the other one behind or in front of it."""
    aside = make_transform(np.eye(3), (rng.uniform(150, 220), rng.uniform(-20, 20), rng.uniform(-90, 90)))
    grid = np.arange(SIZE_PX, dtype=float)
    source_mm, directions = plane.rays(np.stack(np.meshgrid(grid, grid), axis=-1), SIZE_PX)
    for leg in (np.eye(4), aside):
        tissue = np.zeros((SIZE_PX, SIZE_PX), np.float32)
        for component, ellipsoids in _LEG.items():
            for material, sign, center_mm, axes_mm in ellipsoids:
                T_world = poses[component] @ leg @ make_transform(np.eye(3), center_mm)
                chord_mm = sign * _chord_mm(source_mm, directions, T_world, axes_mm)
                if material == "tissue":  # of overlapping ones only the longest, not their sum
                    np.maximum(tissue, chord_mm, out=tissue)
                else:
                    yield material, _fine(chord_mm)
        yield "tissue", _fine(tissue)


def _fine(image: Floats) -> Floats:
    return cv2.resize(image, (FINE_PX, FINE_PX), interpolation=cv2.INTER_LINEAR)


def _chord_mm(source_mm: FloatArray, directions: FloatArray, T: FloatArray, axes_mm: tuple[float, ...]) -> Floats:
    """Path lengths through an ellipsoid with its axes along those of a pose."""
    start = (source_mm - T[:3, 3]) @ T[:3, :3] / axes_mm
    along = directions @ T[:3, :3] / axes_mm
    square, mixed = (along**2).sum(axis=-1), along @ start
    inside = np.maximum(mixed**2 - square * (start @ start - 1), 0)
    return (2 * np.sqrt(inside) / square).astype(np.float32)


def cables_and_table(rng: np.random.Generator) -> Iterator[tuple[str, Floats]]:
    """Three cables across the field, and a table that ends in it with a rail."""
    pitch_mm = pixel_size_mm(FINE_PX)
    for _ in range(3):
        across, control = 0.8 * FINE_PX * _unit(rng), FINE_PX / 2 + rng.normal(0, 180, 2)
        t = np.linspace(0, 1, 200)[:, None]
        curve = FINE_PX / 2 + (2 * t - 1) * across + 2 * t * (1 - t) * (control - FINE_PX / 2)
        free = np.ones((FINE_PX, FINE_PX), np.uint8)
        cv2.polylines(free, [np.round(curve).astype(np.int32)], isClosed=False, color=0)
        far_mm = cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * pitch_mm
        yield "copper", 2 * np.sqrt(np.maximum(rng.uniform(0.5, 1.0) ** 2 - far_mm**2, 0)).astype(np.float32)
    h_mm, v_mm = fine_mm()
    normal = _unit(rng)
    beyond_mm = h_mm * normal[0] + v_mm * normal[1] - rng.uniform(-50, 50)
    yield "PMMA", (20 * np.clip(beyond_mm, 0, 1)).astype(np.float32)
    yield "aluminium", (3 * np.clip(7 - np.abs(beyond_mm - 12), 0, 1)).astype(np.float32)


def _unit(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
