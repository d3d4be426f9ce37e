"""Axes of a femoral component from its mesh: a flexion axis through both condyles, and the distal cut.

The component is nearly symmetric, which gives its width. Each condyle's outline along that direction is a circle
where it bears in flexion; the flexion axis passes through the two centres. Proximal is perpendicular to it and to the
flat facet that lies on the distal cut of the bone; anterior is where the flange closes the gap of the condyles.
"""

from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.optimize import minimize
from scipy.spatial import KDTree

from veriserum_hf.core import FloatArray, Side
from veriserum_hf.errors import KinematicsError
from veriserum_hf.geometry.pose import invert_transform, make_transform, transform_points

# Normals of the bearing surface in flexion: 0 is distal, 90 posterior. Fully extended knees stand on the part before.
_FLEXED_DEG = np.arange(40.0, 101.0)
_SAMPLES, _DIRECTIONS = 1500, 400
_FLAT_DEG, _FLAT_SHARE, _PEAK_DEG = 1.0, 0.02, 6.0
_FACING_DEG = 135.0  # normals of facets on the bone are closer than this to the direction in which it is open
_MIDDLE_MM = 4.0
# Of the flange. Three real components lean by 7 to 9 mm, the simulated ones by 3.
_IN_FRONT_MM, _UPPER_MM, _LEAST_LEAN_MM = 5.0, 12.0, 1.5
_RADIUS_MM, _APART_MM, _ROUND_MM = (10.0, 40.0), (25.0, 75.0), 1.0


@dataclass(frozen=True, eq=False)
class Condyles:
    """Circles of the condyles in flexion: the one at x > 0 in the component's axes, then that at x < 0.

    Attributes
    ----------
    center_mm : (2, 3) centres in the frame of the mesh.
    radius_mm : (2,).
    residual_mm : largest distance of the outlines from the circles.

    """

    center_mm: FloatArray
    radius_mm: FloatArray
    residual_mm: float


def femoral_axes(mesh: trimesh.Trimesh) -> tuple[FloatArray, Condyles]:
    """Axes of a femoral component, ``T_implant_axes`` (4, 4), mm, and the circles that give its flexion axis.

    Raises
    ------
    KinematicsError
        If the mesh has no such circles or no flat facet.

    """
    points = np.asarray(mesh.vertices, dtype=np.float64)
    middle = np.asarray(mesh.centroid, dtype=np.float64)
    x = _width(mesh, middle)
    opening = _opening(mesh, x)
    for _ in range(3):  # the outlines are those along the flexion axis, which they give
        y = _across_distal_facet(mesh, x, opening)
        x, y, z = _forward(points, middle, x, y)
        condyles = _condyles(points - middle, x, y, z)
        axis = condyles.center_mm[0] - condyles.center_mm[1]
        x = axis / np.linalg.norm(axis)
    y = y - x * (x @ y)
    y /= np.linalg.norm(y)
    condyles = Condyles(condyles.center_mm + middle, condyles.radius_mm, condyles.residual_mm)
    _check(condyles)
    R = np.stack([x, y, np.cross(x, y)], axis=-1)
    return make_transform(R, condyles.center_mm.mean(axis=0)), condyles


def shown_side(mesh: trimesh.Trimesh, T_implant_axes: FloatArray) -> Side | None:
    """Knee that a component is made for, to whose lateral side its flange leans; None where it does not lean."""
    points = transform_points(invert_transform(T_implant_axes), np.asarray(mesh.triangles_center))
    in_front = points[:, 2] > _IN_FRONT_MM
    upper = in_front & (points[:, 1] > points[in_front, 1].max() - _UPPER_MM)
    lean_mm = float(np.average(points[upper, 0], weights=np.asarray(mesh.area_faces)[upper]))
    if abs(lean_mm) < _LEAST_LEAN_MM:
        return None
    return "left" if lean_mm > 0 else "right"


def _width(mesh: trimesh.Trimesh, middle: FloatArray) -> FloatArray:
    """Normal of the plane in which the surface's image is closest to the surface."""
    sample = np.asarray(trimesh.sample.sample_surface(mesh, _SAMPLES, seed=0)[0]) - middle
    tree = KDTree(sample)

    def asymmetry(normal_and_offset: FloatArray) -> float:
        normal = normal_and_offset[:3] / np.linalg.norm(normal_and_offset[:3])
        image = sample - 2 * ((sample @ normal) - normal_and_offset[3])[:, None] * normal
        return float(tree.query(image)[0].mean())

    index = np.arange(_DIRECTIONS) + 0.5  # spread evenly over half a sphere
    height = index / _DIRECTIONS
    turn = np.pi * (1 + np.sqrt(5)) * index
    flat = np.sqrt(1 - height**2)
    normals = np.stack([flat * np.cos(turn), flat * np.sin(turn), height, np.zeros(_DIRECTIONS)], axis=-1)
    first = min(normals, key=asymmetry)
    best = minimize(asymmetry, first, method="Nelder-Mead", options={"initial_simplex": _around(first)}).x[:3]
    return np.asarray(best / np.linalg.norm(best))


def _around(start: FloatArray) -> FloatArray:
    """Simplex of five points: steps of about 6 degrees and of 1 mm."""
    return np.asarray(start + np.concatenate([np.zeros((1, 4)), np.diag([0.1, 0.1, 0.1, 1.0])]))


def _opening(mesh: trimesh.Trimesh, x: FloatArray) -> FloatArray:
    """Direction in which the component is open, roughly proximal: from its metal towards the middle of its hull."""
    towards = np.asarray(mesh.convex_hull.center_mass - mesh.centroid, dtype=np.float64)
    towards -= x * (x @ towards)
    return np.asarray(towards / np.linalg.norm(towards))


def _across_distal_facet(mesh: trimesh.Trimesh, x: FloatArray, opening: FloatArray) -> FloatArray:
    """Normal, perpendicular to x, of the flat facet on the distal cut: midway between the posterior and the anterior.

    Five flat facets face the bone, about 45 degrees from one to the next; those outside are next to none of these.
    """
    aside = np.cross(x, opening)
    normals, areas = np.asarray(mesh.face_normals), np.asarray(mesh.area_faces)
    near = np.abs(normals @ x) < np.sin(np.radians(5))
    angle, areas_near = np.degrees(np.arctan2(normals[near] @ aside, normals[near] @ opening)), areas[near]
    bins = np.arange(-_FACING_DEG, _FACING_DEG + 0.5, 0.5)
    area = np.array([areas_near[np.abs(angle - each) < _FLAT_DEG].sum() for each in bins])
    is_peak = [area[k] == area[np.abs(bins - at) < _PEAK_DEG].max() for k, at in enumerate(bins)]
    peaks = bins[is_peak & (area > _FLAT_SHARE * areas.sum())]
    if not len(peaks):
        raise KinematicsError(
            "it has no flat facets for the cuts of the bone, expected some of at least "
            f"{100 * _FLAT_SHARE:.0f} % of its surface"
        )
    distal = peaks[np.abs(peaks - (peaks[0] + peaks[-1]) / 2).argmin()]
    flat = np.abs(angle - distal) < _FLAT_DEG
    at = np.radians(np.average(angle[flat], weights=areas_near[flat]))
    return np.asarray(np.cos(at) * opening + np.sin(at) * aside)


def _forward(
    points: FloatArray, middle: FloatArray, x: FloatArray, y: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Axes x, y, z with z anterior: near the middle is the flange, behind is the gap of the condyles."""
    y = y - x * (x @ y)
    y /= np.linalg.norm(y)
    z = np.cross(x, y)
    offset = points - middle
    central = np.abs(offset @ x) < _MIDDLE_MM
    sign = -1.0 if (offset[central] @ z).mean() < 0 else 1.0
    return sign * x, y, sign * z


def _condyles(points: FloatArray, x: FloatArray, y: FloatArray, z: FloatArray) -> Condyles:
    """Circles by the reach of each half in every direction n, which for a circle is center . n + radius."""
    theta = np.radians(_FLEXED_DEG)
    directions = -np.sin(theta)[:, None] * z - np.cos(theta)[:, None] * y
    A = np.column_stack([-np.sin(theta), -np.cos(theta), np.ones(len(theta))])
    centers, radii, residuals = [], [], []
    for side in (1.0, -1.0):
        half = points[side * (points @ x) > _MIDDLE_MM]
        reach = half @ directions.T
        solution = np.linalg.lstsq(A, reach.max(axis=0))[0]
        crown_mm = (half[reach.argmax(axis=0)] @ x).mean()
        centers.append(crown_mm * x + solution[0] * z + solution[1] * y)
        radii.append(solution[2])
        residuals.append(np.abs(A @ solution - reach.max(axis=0)).max())
    return Condyles(np.array(centers), np.array(radii), float(max(residuals)))


def _check(condyles: Condyles) -> None:
    apart_mm = float(np.linalg.norm(condyles.center_mm[0] - condyles.center_mm[1]))
    radii = " and ".join(f"{radius:.1f}" for radius in condyles.radius_mm)
    low, high = _RADIUS_MM
    is_round = condyles.residual_mm < _ROUND_MM and ((condyles.radius_mm > low) & (condyles.radius_mm < high)).all()
    if not is_round or not _APART_MM[0] < apart_mm < _APART_MM[1]:
        raise KinematicsError(
            f"its condyles have radii of {radii} mm, {apart_mm:.1f} mm apart, with {condyles.residual_mm:.2f} mm "
            f"from circles; expected {low:.0f} to {high:.0f} mm, {_APART_MM[0]:.0f} to {_APART_MM[1]:.0f} mm apart, "
            f"at most {_ROUND_MM:.0f} mm from circles"
        )
