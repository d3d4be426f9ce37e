"""How well an outline agrees with the edges of an image, against what chance gives on that image.

What counts is where the shadow of an implant ends. Edges inside it are there in images of semi-transparent metal
alone, so that their absence is no evidence against a pose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from veriserum_hf.core import BoolArray, PlaneName
from veriserum_hf.registration.outline.levels import Level, Shadow
from veriserum_hf.registration.outline.residuals import EDGE_PX, Residuals
from veriserum_hf.rendering import ContourPieces

NEAR_PX = 1.0  # an edge so near an outline supports it
_STEEP = 0.25  # of the median slope along the outline: what is less steep is no edge
_SHARED_PX = 2 * EDGE_PX  # the largest error that all edges of an outline are taken to share
_LEAST_PX = 20.0  # length of an outline that is assessed
_AWAY_PX = (12.0, 20.0, 28.0)  # by which an outline is shifted to find what chance gives
_DIRECTIONS = 8


def seen_in(residuals: Mapping[PlaneName, Residuals]) -> list[PlaneName]:
    """Planes that show at least 20 px of an implant's outline."""
    return [plane for plane, own in residuals.items() if own.pieces.length_px[_shown(own)].sum() >= _LEAST_PX]


def without_shared_error(residuals: Mapping[PlaneName, Residuals]) -> dict[PlaneName, Residuals]:
    """Residuals less their median, as far as it may be an error of edges, by plane.

    Those of one plane are unchanged: there it may be depth.
    """
    if len(seen_in(residuals)) < 2:
        return dict(residuals)
    found = {}
    for plane, own in residuals.items():
        with_edge = own.residual_px[own.ends & np.isfinite(own.residual_px)]
        shared_px = float(np.clip(np.median(with_edge), -_SHARED_PX, _SHARED_PX)) if len(with_edge) else 0.0
        found[plane] = replace(own, residual_px=own.residual_px - shared_px)
    return found


def shares_near(residuals: Mapping[PlaneName, Residuals], near_px: float) -> dict[PlaneName, float]:
    """Share of the visible outline with an edge of the image so near where it must be, 0 to 1, by plane.

    Planes that show less than 20 px of it are excluded.
    """
    found = {}
    for plane in seen_in(residuals):
        own = residuals[plane]
        length_px = own.pieces.length_px * _shown(own)
        near = np.abs(np.nan_to_num(own.residual_px, nan=np.inf)) < near_px
        near &= own.slope > _STEEP * median_slope(own)
        found[plane] = float(length_px[near].sum() / length_px.sum())
    return found


def chance(level: Level, own: Residuals, shadows: Sequence[Shadow], window_px: float) -> float:
    """Share of the outline that would have an edge by chance: that of the outline shifted away from all implants."""
    seen = _shown(own) & np.isfinite(own.slope)
    steep, pieces = _STEEP * median_slope(own), own.pieces.taken(seen)
    angles = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    shifts_px = np.concatenate([distance_px * directions for distance_px in _AWAY_PX])
    shifted = ContourPieces(
        np.tile(pieces.points_mm, (len(shifts_px), 1)),
        (shifts_px[:, None] + pieces.px).reshape(-1, 2),
        np.tile(pieces.normals, (len(shifts_px), 1)),
        np.tile(pieces.length_px, len(shifts_px)),
    )
    for shadow in shadows:
        shifted = shifted.taken(~shadow.covers(shifted.px, int(np.ceil(window_px)) + 2))
    offset_px, slope, visible = level.edges(shifted, window_px, soft=False)
    near = (np.abs(np.nan_to_num(offset_px, nan=np.inf)) < NEAR_PX) & (slope > steep)
    visible_px = float(shifted.length_px[visible].sum())
    return float(shifted.length_px[near].sum()) / visible_px if visible_px else 0.0


def above_chance(share: float, by_chance: float) -> float:
    """Share of an outline that has an edge for another reason than chance, 0 to 1."""
    return float(np.clip((share - by_chance) / max(1 - by_chance, 1e-6), 0.0, 1.0))


def median_slope(own: Residuals) -> float:
    """Median slope of the edges along an outline; NaN without any."""
    found = own.slope[own.ends & np.isfinite(own.slope)]
    return float(np.median(found)) if len(found) else float("nan")


def _shown(own: Residuals) -> BoolArray:
    """Pieces where an implant's shadow ends and the image is not missing."""
    return own.visible & own.ends
