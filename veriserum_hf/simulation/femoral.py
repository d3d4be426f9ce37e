"""Femoral components of total knee replacements as solids.

A sagittal curve, given by its radius of curvature, is swept across the knee and sunk where the surface lies deeper:
at the edges, between the condyles, in the trochlear groove. The bone's box cuts are then subtracted.
Sagittal points are (z, y), mm. The outward normal at the angle theta is (sin theta, -cos theta): 0 is distal, +90
degrees anterior, -90 posterior; at a flexion phi the point with the normal at -phi is the lowest.
"""

from dataclasses import dataclass

import numpy as np
from manifold3d import CrossSection, FillRule, Manifold, Mesh64
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import PchipInterpolator

from veriserum_hf.core import FloatArray

IntArray = NDArray[np.int64]

GRID_MM = 0.81
_FAR_MM = 80.0
# The swept surface is closed by its own image, shrunk toward this point: inside the bone, which is subtracted.
_HUB_MM, _SHRINK = np.array([5.0, 9.0]), 0.4
# Metal between the outer surface and each facet of the bone, by the angle of the facet's normal.
_THICKNESS_MM = {-91.0: 8.5, -46.0: 9.0, 0.0: 9.0, 47.0: 9.5, 87.0: 8.5}


@dataclass(frozen=True)
class FemoralShape:
    """Dimensions of one femoral component, mm."""

    half_width_mm: float
    posterior_radius_mm: float
    distal_radius_mm: float
    flange_radius_mm: float
    notch_half_width_mm: float
    posterior_stabilised: bool  # a closed box and a cam instead of an open notch


def femoral_solid(shape: FemoralShape) -> Manifold:
    """Femoral component, mm: x to the patient's left, y proximal, z anterior, its flexion axis on x."""
    curve = sagittal_curve(shape)
    facets = _facets(curve)
    bone = _bone(facets)
    body = _sweep(shape, curve) - _across(bone, _FAR_MM)
    if shape.posterior_stabilised:
        body = _with_box(body, bone, shape.notch_half_width_mm)
    else:
        body -= _open_notch(shape.notch_half_width_mm)
    crown_mm = (shape.notch_half_width_mm + shape.half_width_mm) / 2
    distal_cut_mm = -float(facets[2, 2])
    return body + _peg(crown_mm, distal_cut_mm) + _peg(-crown_mm, distal_cut_mm)


@dataclass(frozen=True)
class SagittalCurve:
    """Outline of the condyles' crowns from the posterior end to the tip of the flange, evenly sampled."""

    theta: FloatArray  # (n,) angle of the normal, rad
    arc_mm: FloatArray  # (n,) along the curve, 0 where it faces distally
    point_mm: FloatArray  # (n, 2) (z, y)
    normal: FloatArray  # (n, 2) (z, y)


def sagittal_curve(shape: FemoralShape) -> SagittalCurve:
    """J-shaped outline: a circle about the origin behind, a larger radius below, a nearly flat flange in front."""
    posterior, distal, flange = shape.posterior_radius_mm, shape.distal_radius_mm, shape.flange_radius_mm
    radius_mm = PchipInterpolator(
        np.radians([-215, -133, -121, -28, -8, 22, 40, 57, 72, 99, 105, 190]),
        [6.2, 6.2, posterior, posterior, distal, distal, 22.0, 22.0, flange, flange, 7.0, 7.0],
    )
    theta = np.radians(np.linspace(-205, 178, 8001))
    R = radius_mm(theta)
    tangent = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    point = cumulative_trapezoid(R[:, None] * tangent, theta, axis=0, initial=0)
    point += (-posterior, 0.0) - _interpolate(np.array([-np.pi / 2]), theta, point)
    arc = cumulative_trapezoid(R, theta, initial=0)
    arc -= np.interp(0.0, theta, arc)
    arc_mm = np.linspace(arc[0], arc[-1], round((arc[-1] - arc[0]) / GRID_MM))
    theta_at = np.interp(arc_mm, arc, theta)
    normal = np.stack([np.sin(theta_at), -np.cos(theta_at)], axis=1)
    return SagittalCurve(theta_at, arc_mm, _interpolate(arc_mm, arc, point), normal)


def _interpolate(at: FloatArray, x: FloatArray, points: FloatArray) -> FloatArray:
    return np.stack([np.interp(at, x, column) for column in points.T], axis=1)


def _sweep(shape: FemoralShape, curve: SagittalCurve) -> Manifold:
    """The outer surface with everything inside it."""
    width, notch, arc = shape.half_width_mm, shape.notch_half_width_mm, curve.arc_mm
    start, end = arc[0], arc[-1]
    half_width = PchipInterpolator(
        [start, -50, -36, -15, 12, 28, end - 34, end - 20, end - 12, end - 7, end],
        width * np.array([0.80, 0.85, 0.95, 1, 1, 0.95, 0.79, 0.57, 0.4, 0.27, 0.1]),
    )(arc)[:, None]
    v = np.linspace(-1, 1, round(2 * width / GRID_MM))
    x = half_width * (0.75 * v + 0.25 * np.sin(np.pi / 2 * v))  # denser at the edges, which are round
    side = np.abs(x)

    crown = (half_width + notch) / 2
    condyles = _edge(side - notch, 3.5) + (np.maximum(side, notch) - crown) ** 2 / 90
    ridge = 0.62 * half_width
    groove = 4.6 * np.cos(np.pi / 2 * np.minimum(side / ridge, 1)) ** 2
    in_front = _smoothstep(curve.theta, np.radians(2), np.radians(32))[:, None]
    at_tip = _smoothstep(arc, end - 32, end - 8)[:, None]
    depth = _edge(half_width - side, 4.0) + (1 - in_front) * condyles + in_front * (1 - at_tip) * groove

    sagittal = curve.point_mm[:, None] - depth[..., None] * curve.normal[:, None]
    # The trochlea of a right knee leans to the lateral side.
    x = x - 3.0 * _smoothstep(arc, 20, end)[:, None]
    outer = np.stack([x, sagittal[..., 1], sagittal[..., 0]], axis=-1)
    z, y = np.moveaxis(_HUB_MM + _SHRINK * (sagittal - _HUB_MM), -1, 0)
    return _between(outer, np.stack([x, y, z], axis=-1))


def _edge(inside_mm: FloatArray, depth_mm: float) -> FloatArray:
    """How deep the surface has sunk at a distance inside a round edge; it sinks over 7 mm."""
    return np.asarray(depth_mm * np.clip(1 - inside_mm / 7.0, 0, 1) ** 2.6)


def _smoothstep(x: FloatArray, low: float, high: float) -> FloatArray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t**3 * (10 + t * (6 * t - 15)))


def _between(outer: FloatArray, inner: FloatArray) -> Manifold:
    """Solid between two grids of points, each (rows, columns, 3) mm."""
    rows, columns = outer.shape[:2]
    index = np.arange(2 * rows * columns).reshape(2, rows, columns)
    rim = index[:, 0, ::-1], index[:, :, 0], index[:, -1], index[:, ::-1, -1]
    corners = [_quads(index[0]), _quads(index[1])[:, ::-1], *(_quads(strip) for strip in rim)]
    quads = np.concatenate(corners).astype(np.uint64)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return Manifold(Mesh64(np.concatenate([outer, inner]).reshape(-1, 3), triangles))


def _quads(index: IntArray) -> IntArray:
    return np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], axis=-1).reshape(-1, 4)


def _facets(curve: SagittalCurve) -> FloatArray:
    """Planes of the box cuts from the posterior to the anterior one, (5, 3): normal (z, y) and distance, mm."""
    angles = np.radians(list(_THICKNESS_MM))
    normals = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    reach_mm = (curve.point_mm @ normals.T).max(axis=0)
    return np.column_stack([normals, reach_mm - list(_THICKNESS_MM.values())])


def _bone(facets: FloatArray) -> CrossSection:
    """Section of the resected bone, open upward."""
    normals, distances = facets[:, :2], facets[:, 2]
    corners = [np.linalg.solve(normals[i : i + 2], distances[i : i + 2]) for i in range(len(facets) - 1)]
    posterior_top = corners[0] + _FAR_MM * normals[0] @ [[0, -1], [1, 0]]
    anterior_top = corners[-1] + _FAR_MM * normals[-1] @ [[0, 1], [-1, 0]]
    return _section([posterior_top, *corners, anterior_top])


def _open_notch(half_width_mm: float) -> Manifold:
    """U-shaped from below and open behind; to be subtracted."""
    front = CrossSection.circle(half_width_mm, 64).translate((0, 12.0 - half_width_mm))
    u = CrossSection.batch_hull([front, front.translate((0, -_FAR_MM))])
    upright = Manifold.extrude(u, 2 * _FAR_MM).translate((0, 0, -_FAR_MM))
    return upright.transform([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]])


def _with_box(body: Manifold, bone: CrossSection, notch_half_width_mm: float) -> Manifold:
    """Body whose notch is a box, closed above and in front, with a cam between the posterior condyles."""
    wall_mm, embedded_mm = 2.5, 2.0
    back, front, roof = -9.0, 13.0, 0.0
    walls = _section([(back, -40), (front + 3, -40), (front + 3, roof + 3), (back, roof + 6)])
    inside = [(-_FAR_MM, -40), (front, -40), (front, roof), (back, roof + 3), (back, _FAR_MM), (-_FAR_MM, _FAR_MM)]
    body += _across(walls ^ bone.offset(embedded_mm), notch_half_width_mm + wall_mm)
    body -= _across(_section(inside), notch_half_width_mm)
    cam = CrossSection.circle(4.2, 48).scale((1.0, 0.85)).translate((-13.0, 8.5))
    return body + _across(cam, notch_half_width_mm + embedded_mm)


def _peg(x: float, distal_cut_mm: float) -> Manifold:
    profile = [(0, -2.0), (3.6, -2.0), (3.3, 9.5), (2.6, 11.2), (1.4, 12.2), (0, 12.5)]
    return Manifold.revolve(_section(profile), 48).rotate((-90, 0, 0)).translate((x, distal_cut_mm, 4.0))


def _section(outline: list[tuple[float, float]] | list[FloatArray]) -> CrossSection:
    return CrossSection([[(float(z), float(y)) for z, y in outline]], FillRule.NonZero)


def _across(section: CrossSection, half_width_mm: float) -> Manifold:
    """Prism of a sagittal section (z, y) over both sides of the midplane."""
    prism = Manifold.extrude(section, 2 * half_width_mm).translate((0, 0, -half_width_mm))
    return prism.transform([[0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0]])
