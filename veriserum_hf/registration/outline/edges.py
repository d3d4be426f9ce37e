"""Edges of an image along the normals of an outline, to a fraction of a pixel.

Grey values are never compared with each other at a distance: only where they rise fastest counts, so that any
monotone change of grey values leaves the result nearly the same.
"""

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.rendering import compiled

_STEP_PX = 0.5  # between samples of a profile
_FITTED_PX = (
    1.5  # on either side of the steepest sample: a parabola through three samples locks to the grid of pixels
)


def steepest(
    image: NDArray[np.float32], px: FloatArray, normals: FloatArray, window_px: float
) -> tuple[FloatArray, FloatArray]:
    """Place and slope of the steepest rise along each normal.

    Parameters
    ----------
    image : (rows, columns), blurred, brighter outside the implants.
    px, normals : (n, 2) centres of the profiles, (column, row), and unit vectors.
    window_px : how far from the centre an edge is looked for.

    Returns
    -------
    Distances along the normals, (n,) px, and slopes, (n,) per px; NaN where nothing rises, or a profile leaves the
    image.

    """
    return _steepest(image, px, normals, window_px)


def mean_rise(
    image: NDArray[np.float32], px: FloatArray, normals: FloatArray, window_px: float
) -> tuple[FloatArray, FloatArray]:
    """Like `steepest`, but the mean place of all rises, weighted by their squared slopes and their nearness.

    It changes smoothly with the centre, also far from an edge; a maximum jumps from one edge to the next.
    """
    return _mean_rise(image, px, normals, window_px)


def seen_around(usable: BoolArray, px: FloatArray, normals: FloatArray, offset_px: FloatArray) -> BoolArray:
    """Whether the pixels within 1.5 px of an edge at ``offset_px`` along its normal can be used, (n,) bool.

    They cannot where there is no edge (NaN), or outside the image.
    """
    return _seen_around(usable, px, normals, offset_px)


@compiled
def _seen_around(usable: BoolArray, px: FloatArray, normals: FloatArray, offset_px: FloatArray) -> BoolArray:
    rows, columns = usable.shape
    seen = np.zeros(len(px), np.bool_)
    for n in range(len(px)):
        if not np.isfinite(offset_px[n]):
            continue
        seen[n] = True
        for step in range(-1, 2):
            along = offset_px[n] + step * _FITTED_PX
            column, row = round(px[n, 0] + along * normals[n, 0]), round(px[n, 1] + along * normals[n, 1])
            if not (0 <= row < rows and 0 <= column < columns) or not usable[row, column]:
                seen[n] = False
    return seen


@register_jitable
def _profile(image: NDArray[np.float32], x: float, y: float, nx: float, ny: float, profile: FloatArray) -> None:
    """Sample along a normal, centred; NaN outside the image."""
    rows, columns = image.shape
    half = (len(profile) - 1) / 2
    for i in range(len(profile)):
        u, v = x + (i - half) * _STEP_PX * nx, y + (i - half) * _STEP_PX * ny
        if not (0 <= u < columns - 1 and 0 <= v < rows - 1):
            profile[i] = np.nan
            continue
        c, r = int(u), int(v)
        p, q = u - c, v - r
        above = image[r, c] * (1 - p) + image[r, c + 1] * p
        below = image[r + 1, c] * (1 - p) + image[r + 1, c + 1] * p
        profile[i] = above * (1 - q) + below * q


@compiled
def _steepest(
    image: NDArray[np.float32], px: FloatArray, normals: FloatArray, window_px: float
) -> tuple[FloatArray, FloatArray]:
    fitted = round(_FITTED_PX / _STEP_PX)
    reach = int(np.ceil(window_px / _STEP_PX))
    count = 2 * (reach + fitted) + 1  # slopes
    profile = np.empty(count + 2)
    slopes = np.empty(count)
    offset_px, slope = np.full(len(px), np.nan), np.full(len(px), np.nan)
    squares = 0.0
    for j in range(-fitted, fitted + 1):
        squares += float(j) ** 2
    fourth = 0.0
    for j in range(-fitted, fitted + 1):
        fourth += float(j) ** 4
    points = 2 * fitted + 1
    for n in range(len(px)):
        _profile(image, px[n, 0], px[n, 1], normals[n, 0], normals[n, 1], profile)
        for i in range(count):
            slopes[i] = (profile[i + 2] - profile[i]) / (2 * _STEP_PX)
        best, highest = -1, 0.0
        for i in range(fitted, count - fitted):
            value = slopes[i]
            # NaN compares as False.
            if value > highest and value >= slopes[i - 1] and value >= slopes[i + 1]:
                best, highest = i, value
        if best < 0:
            continue
        # Least squares parabola a + b j + c j^2 through 2 * fitted + 1 slopes.
        s0, s1, s2 = 0.0, 0.0, 0.0
        for j in range(-fitted, fitted + 1):
            value = slopes[best + j]
            s0 += value
            s1 += j * value
            s2 += j * j * value
        curvature = (points * s2 - squares * s0) / (points * fourth - squares * squares)
        if not curvature < 0:
            continue
        shift = -(s1 / squares) / (2 * curvature)
        if not abs(shift) <= fitted:
            continue
        offset_px[n] = (best - (count - 1) / 2 + shift) * _STEP_PX
        slope[n] = highest
    return offset_px, slope


@compiled
def _mean_rise(
    image: NDArray[np.float32], px: FloatArray, normals: FloatArray, window_px: float
) -> tuple[FloatArray, FloatArray]:
    reach = int(np.ceil(window_px / _STEP_PX))
    count = 2 * reach + 1
    profile = np.empty(count + 2)
    offset_px, slope = np.full(len(px), np.nan), np.full(len(px), np.nan)
    for n in range(len(px)):
        _profile(image, px[n, 0], px[n, 1], normals[n, 0], normals[n, 1], profile)
        total, moment, strength = 0.0, 0.0, 0.0
        for i in range(count):
            rise = (profile[i + 2] - profile[i]) / (2 * _STEP_PX)
            if not rise > 0:
                continue
            along = (i - reach) * _STEP_PX
            weight = rise * rise * np.exp(-2 * (along / window_px) ** 2)
            total += weight
            moment += weight * along
            strength += weight * rise
        if total > 0:
            offset_px[n] = moment / total
            slope[n] = strength / total
    return offset_px, slope
