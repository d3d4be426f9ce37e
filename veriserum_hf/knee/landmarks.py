"""Axes of implants from landmarks: points on the surface of a mesh, in mm, by name.

Of a femoral component: ``medial_condyle`` and ``lateral_condyle`` (three or more points each along the crown, where
it bears in flexion; a circle is fitted), ``distal_cut`` (three or more on the flat facet that lies on the distal cut
of the bone) and ``anterior`` (one on the flange). Of a tibial component: ``tray`` (three or more on the upper
surface), ``distal`` (one on what anchors it, below the tray), and ``medial_edge``, ``lateral_edge``,
``anterior_edge`` and ``posterior_edge`` (one each on the outline of the tray).
"""

from collections.abc import Mapping

import numpy as np
import trimesh

from veriserum_hf.core import Component, FloatArray, Side, listed
from veriserum_hf.errors import KinematicsError
from veriserum_hf.geometry import make_transform

# Names, and the fewest points of each.
LANDMARKS: Mapping[Component, Mapping[str, int]] = {
    "femur": {"medial_condyle": 3, "lateral_condyle": 3, "distal_cut": 3, "anterior": 1},
    "tibia": {
        **{"tray": 3, "distal": 1, "medial_edge": 1, "lateral_edge": 1},
        **{"anterior_edge": 1, "posterior_edge": 1},
    },
}
_ON_SURFACE_MM = 1.0
_FLAT_MM = 0.5  # of points on a plane or a circle
Landmarks = Mapping[str, FloatArray]


def landmark_axes(component: Component, landmarks: Landmarks, side: Side) -> FloatArray:
    """Axes of a component, ``T_implant_axes`` (4, 4), mm, from its landmarks, (n, 3) mm each.

    Raises
    ------
    KinematicsError
        If points are on one line or far from a plane or circle, or the landmarks are those of the other knee.

    """
    T = _femoral(landmarks, side) if component == "femur" else _tibial(landmarks, side)
    ahead = landmarks["anterior" if component == "femur" else "anterior_edge"].mean(axis=0)
    behind = T[:3, 3] if component == "femur" else landmarks["posterior_edge"].mean(axis=0)
    if (ahead - behind) @ T[:3, 2] < 0:
        other = "left" if side == "right" else "right"
        raise KinematicsError(
            f"its landmarks are those of a {other} knee: with side {side}, the anterior one is behind the others. "
            "Correct the side, or exchange medial and lateral landmarks"
        )
    return T


def check_on_surface(landmarks: Landmarks, mesh: trimesh.Trimesh) -> None:
    """Raise KinematicsError where a landmark is not on the surface of its mesh."""
    for name, points in landmarks.items():
        for point in points:
            everywhere = np.broadcast_to(point, (len(mesh.faces), 3))
            nearest = trimesh.triangles.closest_point(mesh.triangles, everywhere)  # type: ignore[no-untyped-call]
            off_mm = float(np.linalg.norm(nearest - point, axis=1).min())
            if off_mm > _ON_SURFACE_MM:
                raise KinematicsError(
                    f"{name} {point.tolist()} is {off_mm:.1f} mm off its mesh, expected at most "
                    f"{_ON_SURFACE_MM:.0f} mm. Landmarks are in mm and in the coordinates of the mesh's file"
                )


def landmarks_of(component: Component, found: Mapping[str, object]) -> Landmarks:
    """Landmarks of a component from plain lists of a file, (n, 3) each.

    Raises
    ------
    KinematicsError
        If one is missing, unknown, or holds no such points.

    """
    expected = LANDMARKS[component]
    if missing := [name for name in expected if name not in found]:
        raise KinematicsError(
            f"it has no landmark {listed(missing)}; expected {', '.join(expected)}, or none of them"
        )
    if unknown := [str(name) for name in found if name not in expected]:
        raise KinematicsError(f"{listed(unknown)} is no landmark of a {component}; expected {', '.join(expected)}")
    landmarks = {}
    for name, least in expected.items():
        try:
            points = np.array(found[name], dtype=np.float64)
        except (TypeError, ValueError):
            points = np.empty(0)
        points = points[None] if points.shape == (3,) else points
        if points.ndim != 2 or points.shape[1:] != (3,) or len(points) < least or not np.isfinite(points).all():
            what = "one point [x, y, z]" if least == 1 else f"at least {least} points [x, y, z]"
            raise KinematicsError(f"{name} is {str(found[name])[:100]}; expected {what}, in mm")
        landmarks[name] = points
    return landmarks


def _femoral(landmarks: Landmarks, side: Side) -> FloatArray:
    medial, lateral = (_circle(landmarks[name], name) for name in ("medial_condyle", "lateral_condyle"))
    origin = (medial + lateral) / 2
    x = _unit(medial - lateral) if side == "right" else _unit(lateral - medial)
    cut_mm, y = _plane(landmarks["distal_cut"], "distal_cut")
    y *= np.sign(y @ (origin - cut_mm))
    return _transform(x, y, origin)


def _tibial(landmarks: Landmarks, side: Side) -> FloatArray:
    tray_mm, y = _plane(landmarks["tray"], "tray")
    y *= np.sign(y @ (tray_mm - landmarks["distal"].mean(axis=0)))
    medial, lateral, anterior, posterior = (
        landmarks[f"{name}_edge"].mean(axis=0) for name in ("medial", "lateral", "anterior", "posterior")
    )
    x = medial - lateral if side == "right" else lateral - medial
    x = _unit(x - y * (x @ y))
    z = np.cross(x, y)
    middle = x * (x @ (medial + lateral)) / 2 + z * (z @ (anterior + posterior)) / 2 + y * (y @ tray_mm)
    return _transform(x, y, middle)


def _transform(x: FloatArray, y: FloatArray, origin_mm: FloatArray) -> FloatArray:
    y = _unit(y - x * (x @ y))
    return make_transform(np.stack([x, y, np.cross(x, y)], axis=-1), origin_mm)


def _unit(vector: FloatArray) -> FloatArray:
    length = float(np.linalg.norm(vector))
    if length < _ON_SURFACE_MM / 1000:
        raise KinematicsError("medial and lateral landmarks are at the same place")
    return vector / length


def _plane(points: FloatArray, name: str) -> tuple[FloatArray, FloatArray]:
    """Middle and normal of points on a plane."""
    middle = points.mean(axis=0)
    _, spread, axes = np.linalg.svd(points - middle)
    off_mm = np.abs((points - middle) @ axes[2]).max()
    if spread[1] < 1.0 or off_mm > _FLAT_MM:
        found = "on one line" if spread[1] < 1.0 else f"up to {off_mm:.1f} mm from a plane"
        raise KinematicsError(
            f"the points of {name} are {found}; "
            f"expected at most {_FLAT_MM} mm from a plane, and more than 1 mm apart in it"
        )
    return middle, axes[2]


def _circle(points: FloatArray, name: str) -> FloatArray:
    """Centre of the circle through points of a plane."""
    middle, normal = _plane(points, name)
    along = np.linalg.svd(np.eye(3) - np.outer(normal, normal))[0][:, :2]
    flat = (points - middle) @ along
    solution = np.linalg.lstsq(np.column_stack([2 * flat, np.ones(len(flat))]), (flat**2).sum(axis=1))[0]
    center = solution[:2]
    radii = np.linalg.norm(flat - center, axis=1)
    if np.ptp(radii) > 2 * _FLAT_MM:
        raise KinematicsError(
            f"the points of {name} are {radii.min():.1f} to {radii.max():.1f} mm from the centre of their circle; "
            f"expected them on one circle to {_FLAT_MM} mm"
        )
    return np.asarray(middle + along @ center)
