"""Axes of a tibial component from its mesh: the plane of its tray, and the symmetry of the tray's outline.

Proximal is perpendicular to the tray, away from stem, keel or pegs. Posterior is where the outline has its notch;
the outline is nearly symmetric about that direction. The origin is in the centre of the outline, on the upper
surface.
"""

from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.optimize import minimize_scalar
from scipy.spatial import ConvexHull, KDTree

from veriserum_hf.core import FloatArray
from veriserum_hf.errors import KinematicsError
from veriserum_hf.geometry.pose import make_transform

_FLAT_DEG = 2.0
_CANDIDATES = 300
_BELOW_MM = 1.0  # the outline's section is below the upper surface
_SPACING_MM = 0.5  # of points on the outline
_NOTCH_MM = 1.0
_SYMMETRY_DEG = 30.0  # from the direction of the notch
_WIDTH_MM, _DEPTH_MM = (45.0, 100.0), (30.0, 70.0)


@dataclass(frozen=True, eq=False)
class Tray:
    """Outline of a tray.

    Attributes
    ----------
    outline_mm : (n, 3) points in the frame of the mesh.
    width_mm, depth_mm : along the tray's axes.
    asymmetry_mm : mean distance of the outline from its image.

    """

    outline_mm: FloatArray
    width_mm: float
    depth_mm: float
    asymmetry_mm: float


def tibial_axes(mesh: trimesh.Trimesh) -> tuple[FloatArray, Tray]:
    """Axes of a tibial component, ``T_implant_axes`` (4, 4), mm, and the outline of its tray.

    Raises
    ------
    KinematicsError
        If the mesh has no tray of that kind.

    """
    y, height_mm = _upper_surface(mesh)
    outline = _outline(mesh, y, height_mm - _BELOW_MM)
    across = np.linalg.svd(np.eye(3) - np.outer(y, y))[0][:, :2].T
    flat = outline @ across.T
    z, asymmetry_mm = _anterior(flat)
    z = z @ across
    x = np.cross(y, z)
    along_x, along_z = outline @ x, outline @ z
    tray = Tray(outline, float(np.ptp(along_x)), float(np.ptp(along_z)), asymmetry_mm)
    _check(tray)
    middle = [(along.max() + along.min()) / 2 for along in (along_x, along_z)]
    R = np.stack([x, y, z], axis=-1)
    return make_transform(R, R @ (middle[0], height_mm, middle[1])), tray


def _upper_surface(mesh: trimesh.Trimesh) -> tuple[FloatArray, float]:
    """Direction across the tray, away from what anchors it, and the height of its upper surface along it, mm."""
    normals, areas = np.asarray(mesh.face_normals), np.asarray(mesh.area_faces)
    heights_of = np.asarray(mesh.triangles_center)
    candidates = normals[np.argsort(-areas)[:_CANDIDATES]]
    parallel = np.abs(normals @ candidates.T) > np.cos(np.radians(_FLAT_DEG))
    best = (areas[:, None] * parallel).sum(axis=0).argmax()
    flat = parallel[:, best]
    signs = np.sign(normals[flat] @ candidates[best])
    y = (areas[flat] * signs) @ normals[flat]
    y /= np.linalg.norm(y)
    height = heights_of @ y
    tray_mm = float(np.median(np.repeat(height[flat], np.ceil(areas[flat]).astype(int))))
    reach = np.asarray(mesh.vertices) @ y
    if reach.max() - tray_mm > tray_mm - reach.min():
        y, height = -y, -height
    up = normals @ y > np.cos(np.radians(_FLAT_DEG))
    bins = np.arange(height[up].min() - 0.1, height[up].max() + 0.2, 0.1)
    area = np.histogram(height[up], bins, weights=areas[up])[0]
    level = up & (np.abs(height - bins[area.argmax()] - 0.05) < 0.15)
    return np.asarray(y), float(np.average(height[level], weights=areas[level]))


def _outline(mesh: trimesh.Trimesh, y: FloatArray, height_mm: float) -> FloatArray:
    """Points (n, 3) along the section of the mesh at a height, evenly spaced."""
    segments = np.asarray(trimesh.intersections.mesh_plane(mesh, y, height_mm * y))  # type: ignore[no-untyped-call]
    if len(segments) < 3:
        raise KinematicsError("it has no section below its largest flat surface, expected a tray")
    counts = np.ceil(np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1) / _SPACING_MM).astype(int).clip(1)
    part = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])[:, None]
    start, end = (np.repeat(segments[:, k], counts, axis=0) for k in (0, 1))
    return np.asarray(start + part * (end - start))


def _anterior(flat: FloatArray) -> tuple[FloatArray, float]:
    """Direction (2,) of the outline's symmetry, away from its notch, and its mean distance from its image, mm."""
    hull = ConvexHull(flat)
    corners = flat[hull.vertices]
    middle = (corners.max(axis=0) + corners.min(axis=0)) / 2
    depth_mm = -(flat @ hull.equations[:, :2].T + hull.equations[:, 2]).max(axis=1)
    if depth_mm.max() < _NOTCH_MM:
        raise KinematicsError(
            f"the outline of its tray has no posterior notch (its deepest is {depth_mm.max():.1f} mm, expected at "
            f"least {_NOTCH_MM:.0f} mm), so that its front and back are not known"
        )
    notch = np.average(flat, axis=0, weights=depth_mm.clip(0) ** 2) - middle
    behind = np.arctan2(notch[1], notch[0])
    tree = KDTree(flat)

    def asymmetry(angle: float) -> float:
        """Best over positions of the mirror: the outline and its image have the same middle across it."""
        normal = np.array([-np.sin(angle), np.cos(angle)])
        across = flat @ normal
        center = (across.max() + across.min()) / 2
        return float(tree.query(flat - 2 * (across - center)[:, None] * normal)[0].mean())

    angles = behind + np.radians(np.arange(-_SYMMETRY_DEG, _SYMMETRY_DEG + 1, 1.0))
    first = min(angles, key=asymmetry)
    step = np.radians(1.0)
    found = minimize_scalar(asymmetry, bounds=(first - step, first + step), method="bounded")
    return -np.array([np.cos(found.x), np.sin(found.x)]), float(found.fun)


def _check(tray: Tray) -> None:
    is_tray = _WIDTH_MM[0] < tray.width_mm < _WIDTH_MM[1] and _DEPTH_MM[0] < tray.depth_mm < _DEPTH_MM[1]
    if not is_tray or tray.width_mm < tray.depth_mm:
        raise KinematicsError(
            f"its tray is {tray.width_mm:.1f} mm wide and {tray.depth_mm:.1f} mm deep; expected {_WIDTH_MM[0]:.0f} "
            f"to {_WIDTH_MM[1]:.0f} mm and {_DEPTH_MM[0]:.0f} to {_DEPTH_MM[1]:.0f} mm, wider than deep"
        )
