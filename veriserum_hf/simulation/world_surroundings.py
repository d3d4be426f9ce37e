"""What is around the implants in randomised worlds: legs with their bones, cables and tables, as closed meshes.

Each is a template in coordinates of its own, mm, that a scene places, turns and scales. Limbs are tubes about y with
the joint at the origin; what they consist of adds up, so that marrow is bone that is missing.
"""

from typing import NamedTuple

import numpy as np
import trimesh
from numpy.typing import ArrayLike

from veriserum_hf.core import Component, FloatArray

KNEE_RADIUS_MM = 56.0  # of soft tissue about the joint
CABLES = 4
_SIDES, _FINE_SIDES = 24, 48
# Rings (y, radius along x, radius along z, centre along z), mm, from the joint on; half-axes of adult legs.
Rings = list[tuple[float, float, float, float]]
_THIGH: Rings = [(40, 57, 58, 0), (90, 64, 68, -4), (150, 72, 78, -6), (230, 80, 88, -6), (260, 40, 40, -6)]
_SHANK: Rings = [(-40, 53, 54, -2), (-90, 54, 60, -10), (-140, 51, 57, -12), (-200, 43, 46, -8), (-240, 22, 22, -6)]
_FEMUR: Rings = [
    *((10, 26, 20, 3), (16, 32, 26, 3), (30, 31, 25, 2), (50, 24, 19, 2)),
    *((75, 17, 16, 2), (110, 14, 14, 3), (180, 13.5, 14, 6), (240, 14, 14, 6)),
]
_TIBIA: Rings = [
    *((-6, 30, 20, 0), (-9, 35, 23, 0), (-20, 34, 22, 0), (-42, 23, 19, 1)),
    *((-70, 16, 17, 2), (-120, 12, 14, 2), (-200, 11, 12, 1), (-236, 11, 11, 1)),
]
_FIBULA: Rings = [(-18, 3, 3, -16), (-22, 9, 9, -16), (-36, 8, 8, -17), (-60, 5, 5, -18), (-220, 5.5, 5.5, -16)]
_CORTEX_MM = {"thin": 1.2, "thick": 4.5}  # near the joint, and of the shaft


class Template(NamedTuple):
    """A mesh, and what it moves with: a component's anatomical coordinates, or nothing."""

    name: str
    mesh: trimesh.Trimesh


def templates() -> list[Template]:
    """All of them; the names of cables end with their numbers."""
    found = [
        Template("thigh", _tube(_domed(_THIGH), _FINE_SIDES)),
        Template("shank", _tube(_domed(_SHANK), _FINE_SIDES)),
        Template("femur", _tube(_FEMUR)),
        Template("femur marrow", _tube(_hollow(_FEMUR))),
        Template("tibia", _tube(_TIBIA)),
        Template("tibia marrow", _tube(_hollow(_TIBIA))),
        Template("fibula", _tube(_FIBULA)),
        Template("ball", _tube(_arc(-80, 80) / KNEE_RADIUS_MM, _FINE_SIDES)),
        Template("box", trimesh.creation.box((1, 1, 1))),
    ]
    for number in range(CABLES):
        found.append(Template(f"cable {number}", _cable(np.random.default_rng(number))))
    return found


LIMB: dict[Component, tuple[str, str, str]] = {
    "femur": ("thigh", "femur", "femur marrow"),
    "tibia": ("shank", "tibia", "tibia marrow"),
}


def _domed(rings: ArrayLike) -> FloatArray:
    """Rings of a limb, with those of half a ball about the joint before them."""
    rings = np.asarray(rings, float)
    return np.concatenate([_arc(-80, 24) * (np.sign(rings[0, 0]), 1, 1, 1), rings])


def _arc(first_deg: float, last_deg: float) -> FloatArray:
    """Rings of a ball, so fine that what one ball has and another has not is less than a pixel wide."""
    angle = np.radians(np.arange(first_deg, last_deg + 1, 8))
    radius_mm = KNEE_RADIUS_MM * np.cos(angle)
    return np.column_stack([KNEE_RADIUS_MM * np.sin(angle), radius_mm, radius_mm, np.zeros(len(angle))])


def _hollow(rings: ArrayLike) -> FloatArray:
    """Rings of what is inside the cortex, which is thin near the joint."""
    rings = np.asarray(rings, float)
    far = np.clip((abs(rings[:, 0]) - 30) / 60, 0, 1)
    cortex_mm = _CORTEX_MM["thin"] + far * (_CORTEX_MM["thick"] - _CORTEX_MM["thin"])
    inner = rings.copy()
    inner[:, 1:3] -= cortex_mm[:, None]
    inner[0, 0] += np.sign(rings[-1, 0]) * 2
    return inner


def _tube(rings: ArrayLike, sides: int = _SIDES) -> trimesh.Trimesh:
    """Closed tube through rings (y, radius along x, radius along z, centre along z)."""
    rings = np.asarray(rings, float)
    return _through(np.column_stack([np.zeros(len(rings)), rings[:, 0], rings[:, 3]]), rings[:, 1:3], sides)


def _through(centers: FloatArray, radii: FloatArray, sides: int) -> trimesh.Trimesh:
    """Closed tube about y through ellipses with centres (n, 3) and radii (n, 2) along x and z."""
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    around = np.stack([np.cos(angle), np.zeros(sides), np.sin(angle)], axis=1)
    points = centers[:, None] + around * np.insert(radii, 1, 0, axis=1)[:, None]
    count = len(centers)
    index = np.arange(count * sides).reshape(count, sides)
    nextward = np.roll(index, -1, axis=1)
    a, b, c, d = index[:-1], nextward[:-1], nextward[1:], index[1:]
    low, high = count * sides, count * sides + 1
    faces = [
        np.stack([a, d, b], axis=-1),
        np.stack([b, d, c], axis=-1),
        np.stack([index[0], nextward[0], np.full(sides, low)], axis=-1),
        np.stack([nextward[-1], index[-1], np.full(sides, high)], axis=-1),
    ]
    vertices = np.concatenate([points.reshape(-1, 3), centers[[0, -1]]])
    mesh = trimesh.Trimesh(vertices, np.concatenate([each.reshape(-1, 3) for each in faces]), process=False)
    if mesh.volume < 0:
        mesh = trimesh.Trimesh(vertices, np.array(mesh.faces)[:, ::-1].copy(), process=False)
    return mesh


def _cable(rng: np.random.Generator) -> trimesh.Trimesh:
    """Wire of 2 mm about y, 320 mm long, that sways."""
    along = np.linspace(-160, 160, 40)
    waves = [(rng.uniform(3, 22), rng.uniform(0.01, 0.045), rng.uniform(0, 6, 2)) for _ in range(2)]
    sway = np.sum([high * np.sin(along[:, None] * often + phase) for high, often, phase in waves], axis=0)
    centers = np.column_stack([sway[:, 0], along, sway[:, 1]])
    return _through(centers, np.ones((40, 2)), 8)
