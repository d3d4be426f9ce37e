"""Tibial components of total knee replacements as solids.

A kidney-shaped tray with its proximal surface at y = 0, and what anchors it in the bone: stem, keel, wings or pegs.
An anchor is drawn downward from half of the tray's thickness, so that both are one body.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from manifold3d import CrossSection, FillRule, JoinType, Manifold, OpType

_ANCHOR_Z_MM = 1.5
_RIM_WIDTH_MM = 2.2
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class TibialShape:
    """Dimensions of one tibial component, mm."""

    width_mm: float
    depth_mm: float
    thickness_mm: float
    anchor: Callable[[], Manifold]
    rim_mm: float = 0.0
    medial_mm: float = 0.0  # how much further back the medial side reaches than the lateral one


def tibial_solid(shape: TibialShape) -> Manifold:
    """Tibial component, mm: x to the patient's left, y proximal, z anterior, y = 0 on the tray's upper surface."""
    outline = _kidney(shape.width_mm, shape.depth_mm, shape.medial_mm)
    tray = _prism(outline, -shape.thickness_mm, shape.rim_mm)
    if shape.rim_mm:
        tray -= _prism(outline.offset(-_RIM_WIDTH_MM, JoinType.Round, circular_segments=64), 0.0, shape.rim_mm + 1.0)
    return tray + shape.anchor().translate((0, -shape.thickness_mm / 2, _ANCHOR_Z_MM))


def slotted_stem() -> Manifold:
    """Tapered stem between two swept fins, fluted, its tip slotted for cement."""
    stem = _revolved([(9.0, 0), (8.6, -8), (6.6, -32), (6.0, -43), (5.2, -45.5), (3.4, -46.5)])
    fins = _both_sides(_plate([(4, 0), (27, 0), (25.5, -5), (7, -30), (4, -30)], 3.2), swept_deg=24)
    flutes = _around(_bar(2.0, (0, -18, 9.6), (0, -70, 6.5)), 6, 30)
    slots = _both_sides(_plate([(-20, -60), (20, -60), (20, -34), (-20, -34)], 1.8), swept_deg=45)
    return _union(stem - flutes, fins) - slots


def winged_stem() -> Manifold:
    """Round stem with a spherical tip between two broad triangular wings."""
    tip = [(7.0 * np.cos(a), -33.0 + 7.0 * np.sin(a)) for a in np.radians(np.arange(0, -86, -9))]
    wings = _both_sides(_plate([(3, 0), (25, 0), (22, -9), (9, -26), (3, -31)], 4.0), swept_deg=38)
    return _union(_revolved([(7.0, 0), *tip]), wings)


def four_pegs() -> Manifold:
    """Four hexagonal pegs about a short central cone: fixed without cement."""
    cone = _revolved([(9.5, 0), (8.8, -5), (4.8, -17), (2.8, -19), (1.0, -19.6)])
    peg = _revolved([(4.4, 0), (4.4, -11), (2.8, -14), (1.0, -14.6)], segments=6)
    return _union(cone, *(peg.translate((x, 0, z)) for x, z in ((20, 8), (-20, 8), (20.5, -11), (-20.5, -11))))


def cross_keel() -> Manifold:
    """Broad keel with two windows, and a narrow one across it."""
    windows = [(side * x, y, radius) for side in (-1, 1) for x, y, radius in ((10.0, -13, 3.2), (8.5, -25, 2.4))]
    broad = _plate([(-22, 0), (22, 0), (21, -8), (9, -36), (6, -39), (-6, -39), (-9, -36), (-21, -8)], 3.6, windows)
    deep = _plate([(-12, 0), (10, 0), (7, -32), (4, -39), (-4, -39), (-7, -32)], 3.6).rotate((0, -90, 0))
    return _union(broad, deep, _revolved([(5.2, 0), (4.6, -37), (3.4, -41), (1.2, -42)]))


def long_stem() -> Manifold:
    """Long stem with eight flutes below a sleeve with short fins."""
    shaft = _revolved([(9.4, 0), (9.0, -16), (7.2, -24), (6.8, -62), (5.8, -66.5), (3.2, -68.5), (1.0, -69)])
    fins = _both_sides(_plate([(4, 0), (19, 0), (18, -7), (10, -17), (4, -20)], 3.0), swept_deg=15)
    return _union(shaft - _around(_bar(1.5, (0, -32, 7.8), (0, -90, 7.2)), 8), fins)


def _kidney(width_mm: float, depth_mm: float, medial_mm: float) -> CrossSection:
    """Outline of a tray from above, (x, z): two round posterior lobes with a notch between, flatter in front."""
    lobes = []
    for side, further_mm in ((1, medial_mm), (-1, 0.0)):
        radius = 0.36 * depth_mm + further_mm / 2
        at = (side * (width_mm / 2 - radius), radius - depth_mm / 2 + medial_mm - further_mm)
        lobes.append(CrossSection.circle(radius, 96).translate(at))
    front = CrossSection.circle(1.0, 144).scale((0.44 * width_mm, 0.40 * depth_mm)).translate((0, 0.10 * depth_mm))
    notch = CrossSection.circle(8.0, 64).translate((0, 0.5 - depth_mm / 2))
    outline = CrossSection.batch_hull([*lobes, front]) - CrossSection.batch_hull([notch, notch.translate((0, -20))])
    corner_mm = 4.0
    return outline.offset(-corner_mm, JoinType.Round, circular_segments=64).offset(
        corner_mm, JoinType.Round, circular_segments=64
    )


def _prism(section: CrossSection, low_mm: float, high_mm: float) -> Manifold:
    """Solid over a section (x, z) between two heights y."""
    upright = Manifold.extrude(section, high_mm - low_mm).translate((0, 0, low_mm))
    return upright.transform([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]])


def _revolved(profile: Points, segments: int = 60) -> Manifold:
    """Solid of revolution about y of a profile (radius, y), drawn from top to bottom."""
    section = CrossSection([[(0.0, profile[-1][1]), *profile[::-1], (0.0, profile[0][1])]])
    return Manifold.revolve(section, segments).transform([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]])


def _plate(outline: Points, thickness_mm: float, windows: Sequence[tuple[float, float, float]] = ()) -> Manifold:
    """Plate with an outline (x, y) and round windows (x, y, radius), half of its thickness on each side of z = 0."""
    section = CrossSection([outline], FillRule.NonZero)
    for x, y, radius in windows:
        section -= CrossSection.circle(radius, 40).translate((x, y))
    return Manifold.extrude(section, thickness_mm).translate((0, 0, -thickness_mm / 2))


def _bar(radius_mm: float, start: tuple[float, float, float], end: tuple[float, float, float]) -> Manifold:
    ball = Manifold.sphere(radius_mm, 24)
    return Manifold.batch_hull([ball.translate(start), ball.translate(end)])


def _both_sides(part: Manifold, swept_deg: float = 0.0) -> Manifold:
    """A part on the left, rotated backward about the stem, and its mirror image on the right."""
    left = part.rotate((0, swept_deg, 0))
    return left + left.mirror((1, 0, 0))


def _around(part: Manifold, count: int, first_deg: float = 0.0) -> Manifold:
    return _union(*(part.rotate((0, first_deg + k * 360 / count, 0)) for k in range(count)))


def _union(*parts: Manifold) -> Manifold:
    return Manifold.batch_boolean(parts, OpType.Add)
