"""The field of an image: all of it but the corners outside a round or collimated one, whatever its grey values.

Where an encoder has made all that is outside the field one level, only this level is outside: under another scale of
grey values, tissue near the rim may be nearly as dark. Where glare or noise is outside, all that is dark is. A ring
of glare between a round field and that level is outside too: the field ends in a step to dark levels, on a circle.
Beyond the edge of a semi-transparent collimator or filter, levels are not dark.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from veriserum_hf.core.arrays import BoolArray, FloatArray

# Only beyond this share of the radius of the largest circle in the image can a dark corner be outside the field;
# within it, it may be an implant.
_RIM = 150 / 180
_DARK = 0.08  # of the range of levels, from the level outside the field
_FLAT = 1.5 / 255
# Of what is beyond the largest circle, the least that is on one level: at least 0.59 in real 8-bit images, whatever
# their gamma, at most 0.15 in simulated ones with glare; and the least number of corners.
_COVERED, _CORNERS = 0.3, 3
# The circle where a field ends, found along rays from its centre. Lengths are shares of the radius of the largest
# circle in the image.
_RAYS, _AS_FAR_AS, _SAMPLE, _FALL, _ON_CIRCLE = 720, 1.15, 0.001, 0.008, 0.006
_TRIES, _MISSED = 200, 1e-4  # at most; and the probability that all points drawn so far were not on the circle
# Of the rays to the outside, the least whose steepest fall is on one circle: 0.8 to 0.99 in real images; and of all.
_AGREEING, _LEAST_RAYS = 0.7, 0.25
# There is a ring if at least this share of the rays is in one, so far beyond the circle. It is glare if most of its
# levels (per cent) are less than this share of the range above the darkest. Three quarters of them are below 0.15 in
# real 8-bit images, below 0.36 with a gamma of 0.5.
_LEAST_RING, _FOOT, _GLARE, _MOST = 0.1, 0.02, 0.4, 75
_STEP_PX = 5  # within which the inverted level of the outside ends; saturated background fades into tissue


def round_field(
    image: NDArray[np.float32],
    pixel_mm: ArrayLike = (1.0, 1.0),
    center_px: ArrayLike | None = None,
    diameter_mm: float | None = None,
) -> BoolArray:
    """Field of an image, (rows, columns): all but dark regions that touch a corner, outside the circle of the object.

    In an inverted image these are bright.

    Parameters
    ----------
    image : (rows, columns), 1 is the brightest pixel.
    pixel_mm : width and height of a pixel; in any unit, if all of the image is in it.
    center_px, diameter_mm : of a round field, (column, row) and in the unit of ``pixel_mm``; not given: the largest
        circle in the image.

    """
    size = np.array(image.shape[::-1])
    center = (size - 1) / 2 if center_px is None else np.asarray(center_px)
    edges = np.asarray(pixel_mm)
    diameter = float((size * edges).min()) if diameter_mm is None else diameter_mm
    x, y = ((np.arange(n) - at) * edge for n, at, edge in zip(size, center, edges, strict=True))
    radius = np.hypot(y[:, None], x[None, :])
    rim, beyond = radius > _RIM * diameter / 2, radius > diameter / 2
    levels = np.asarray(cv2.blur(image, (3, 3)), np.float32)
    low, high = float(image.min()), float(image.max())
    if not high > low:
        return np.ones(image.shape, np.bool_)
    flat, apart = _FLAT * (high - low), _DARK * (high - low)
    black = _at_corners((levels <= low + flat) & rim, beyond)
    if black is not None:
        return ~(
            _with_edge(black, image <= low + flat) | _beyond_the_edge(levels, black, center, edges, diameter / 2)
        )
    for margin in (flat, apart):
        white = _at_corners((levels >= high - margin) & rim, beyond)
        if white is not None and _ends_in_a_step(white, levels < high - apart):
            return ~(
                _with_edge(white, image >= high - flat)
                | _beyond_the_edge(-levels, white, center, edges, diameter / 2)
            )
    return ~_touching_corners((levels < _DARK) & rim)[0]


def _touching_corners(region: BoolArray) -> tuple[BoolArray, int]:
    """Connected parts of a region that touch corners of the image, and how many corners they touch."""
    labels = cv2.connectedComponents(region.astype(np.uint8))[1]
    at_corners = labels[[0, 0, -1, -1], [0, -1, 0, -1]]
    parts = at_corners[at_corners > 0]
    return np.isin(labels, parts), len(parts)


def _at_corners(region: BoolArray, beyond: BoolArray) -> BoolArray | None:
    """Parts of a region that touch corners, if they cover most of what is beyond the circle; else None."""
    found, corners = _touching_corners(region)
    covers = np.count_nonzero(found & beyond) >= _COVERED * np.count_nonzero(beyond)
    return found if corners >= _CORNERS and covers else None


def _with_edge(region: BoolArray, on_level: BoolArray) -> BoolArray:
    """A region and those pixels next to it that are on its level: the mean of their neighbours is not."""
    grown: BoolArray = cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return region | (grown & on_level)


def _beyond_the_edge(
    levels: NDArray[np.float32], outside: BoolArray, center_px: FloatArray, edges: FloatArray, radius: float
) -> BoolArray:
    """What is beyond the circle on which levels fall most steeply, to dark ones; nothing, if most do not on one."""
    angle = np.arange(_RAYS)[:, None] * 2 * np.pi / _RAYS
    direction = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    distance = np.arange(_RIM, _AS_FAR_AS, _SAMPLE) * radius
    per_mm = (direction / edges).astype(np.float32)
    px = center_px.astype(np.float32) + distance[:, None, None].astype(np.float32) * per_mm
    along = cv2.remap(levels, px[..., 0], px[..., 1], cv2.INTER_LINEAR, borderValue=np.nan)
    reach = round(_FALL / _SAMPLE)
    fall = np.nan_to_num(along[:-reach] - along[reach:], nan=-np.inf)
    is_outside = cv2.remap(outside.astype(np.uint8), px[..., 0], px[..., 1], cv2.INTER_NEAREST, borderValue=0) > 0
    ends = is_outside.any(axis=0) & (fall.max(axis=0) > 0)
    nothing = np.zeros(levels.shape, np.bool_)
    if ends.sum() < _LEAST_RAYS * _RAYS:
        return nothing
    at = fall.argmax(axis=0)
    points = ((distance[at] + _FALL * radius / 2)[:, None] * direction)[ends]
    near = _on_one_circle(points, radius)
    if near.sum() < _AGREEING * len(points):
        return nothing
    foot = np.minimum(at + reach // 2 + round(_FOOT / _SAMPLE), len(along) - 1), np.arange(_RAYS)
    ring = along[foot][ends][near & ~is_outside[foot][ends]]
    ring = ring[np.isfinite(ring)]
    low, high = float(levels.min()), float(levels.max())
    if len(ring) < _LEAST_RING * near.sum() or np.percentile(ring, _MOST) > low + _GLARE * (high - low):
        return nothing
    x, y, fitted = _circle(points[near])
    columns, rows = (
        (np.arange(n) - at) * edge for n, at, edge in zip(levels.shape[::-1], center_px, edges, strict=True)
    )
    beyond: BoolArray = (rows[:, None] - y) ** 2 + (columns[None, :] - x) ** 2 > fitted**2
    return beyond


def _circle(points: FloatArray) -> FloatArray:
    """Least-squares circle through points (n, 2): x, y of its centre and radius."""
    columns = np.column_stack([points, np.ones(len(points))])
    x, y, rest = np.linalg.lstsq(columns, (points**2).sum(axis=1), rcond=None)[0] * (0.5, 0.5, 1)
    return np.array([x, y, np.sqrt(max(rest + x**2 + y**2, 0.0))])


def _on_one_circle(points: FloatArray, radius: float) -> BoolArray:
    """Which points are on the circle through three of them that most are on (RANSAC)."""
    near = np.zeros(len(points), np.bool_)
    rng = np.random.default_rng(0)
    for tries in range(_TRIES):
        if (1 - near.mean() ** 3) ** tries < _MISSED:
            break
        x, y, fitted = _circle(points[rng.choice(len(points), 3, replace=False)])
        found = np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - fitted) < _ON_CIRCLE * radius
        near = found if found.sum() > near.sum() else near
    return near


def _ends_in_a_step(region: BoolArray, different: BoolArray) -> bool:
    """Whether most of the pixels next to a region have clearly different levels."""
    reach = np.ones((2 * _STEP_PX + 1, 2 * _STEP_PX + 1), np.uint8)
    next_to = (cv2.dilate(region.astype(np.uint8), reach) > 0) & ~region
    return bool(next_to.any() and different[next_to].mean() > 0.5)
