"""What is done for every piece of an outline, compiled: with arrays, each step costs more in calls than in work."""

import math

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.rendering import compiled


@compiled
def covered(image: NDArray[np.float32], px: FloatArray, column: int, row: int) -> BoolArray:
    """Whether an image, whose first pixel is given, is positive in the pixels nearest to places; not outside it."""
    found = np.zeros(len(px), np.bool_)
    for n in range(len(px)):
        c, r = round(px[n, 0] - column), round(px[n, 1] - row)
        if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]:
            found[n] = image[r, c] > 0
    return found


@compiled
def directions(image: NDArray[np.float32], px: FloatArray, column: int, row: int) -> tuple[FloatArray, FloatArray]:
    """Unit vectors of the steepest rise, (n, 2), and slopes per pixel, of an image whose first pixel is given.

    Slopes are those of Sobel's filter, linear between pixels; 0 where that does not fit in the image.
    """
    unit, slope = np.zeros((len(px), 2)), np.zeros(len(px))
    for n in range(len(px)):
        x, y = px[n, 0] - column, px[n, 1] - row
        c, r = math.floor(x), math.floor(y)
        if not (1 <= c < image.shape[1] - 2 and 1 <= r < image.shape[0] - 2):
            continue
        p, q = x - c, y - r
        by_column, by_row = 0.0, 0.0
        for i in range(-1, 3):
            # Sobel's filter is 1, 2, 1 across the difference: here, of two places next to each other.
            across_rows = (1 - q if i < 1 else q) + (1.0 if i == 0 or i == 1 else 0.0)
            across_columns = (1 - p if i < 1 else p) + (1.0 if i == 0 or i == 1 else 0.0)
            by_column += across_rows * (
                (1 - p) * (image[r + i, c + 1] - image[r + i, c - 1]) + p * (image[r + i, c + 2] - image[r + i, c])
            )
            by_row += across_columns * (
                (1 - q) * (image[r + 1, c + i] - image[r - 1, c + i]) + q * (image[r + 2, c + i] - image[r, c + i])
            )
        steepness = math.sqrt(by_column * by_column + by_row * by_row)
        if steepness > 0:
            unit[n, 0], unit[n, 1], slope[n] = by_column / steepness, by_row / steepness, steepness / 8
    return unit, slope


@compiled
def by_step(
    points_mm: FloatArray,
    normals: FloatArray,
    T_world_implant: FloatArray,
    T_camera_implant: FloatArray,
    K: FloatArray,
    center_mm: FloatArray,
    radius_mm: float,
) -> FloatArray:
    """Derivatives of the places of points along normals in the image by steps of `scene`, (n, 6) px per mm."""
    T, A = T_world_implant, T_camera_implant
    found = np.empty((len(points_mm), 6))
    for n in range(len(points_mm)):
        x, y, z = points_mm[n, 0], points_mm[n, 1], points_mm[n, 2]
        depth_mm = A[2, 0] * x + A[2, 1] * y + A[2, 2] * z + A[2, 3]
        column = (A[0, 0] * x + A[0, 1] * y + A[0, 2] * z + A[0, 3]) / depth_mm
        row = (A[1, 0] * x + A[1, 1] * y + A[1, 2] * z + A[1, 3]) / depth_mm
        # Derivative by the point's place: along the axes of the camera, of the implant, of the world.
        u, v = normals[n, 0] * K[0, 0] / depth_mm, normals[n, 1] * K[1, 1] / depth_mm
        w = -(u * column + v * row)
        p = A[0, 0] * u + A[1, 0] * v + A[2, 0] * w
        q = A[0, 1] * u + A[1, 1] * v + A[2, 1] * w
        r = A[0, 2] * u + A[1, 2] * v + A[2, 2] * w
        x, y, z = x - center_mm[0], y - center_mm[1], z - center_mm[2]
        for i in range(3):
            found[n, i] = T[i, 0] * p + T[i, 1] * q + T[i, 2] * r
        # A cross product turns with its factors.
        a, b, c = (y * r - z * q) / radius_mm, (z * p - x * r) / radius_mm, (x * q - y * p) / radius_mm
        for i in range(3):
            found[n, 3 + i] = T[i, 0] * a + T[i, 1] * b + T[i, 2] * c
    return found


@compiled
def supported(residual_px: FloatArray, length_px: FloatArray, counted: BoolArray) -> float:
    """Share of the pieces that count, by length, that have an edge where it must be; 0 where none counts."""
    near_px, total_px = 0.0, 0.0
    for n in range(len(residual_px)):
        if counted[n]:
            total_px += length_px[n]
            if not np.isnan(residual_px[n]):
                near_px += length_px[n] / (1 + residual_px[n] ** 2) ** 2
    return near_px / total_px if total_px > 0 else 0.0


@compiled
def robust_weights(
    residual_px: FloatArray, slope: FloatArray, length_px: FloatArray, least_mad_px: float, max_slope: float
) -> FloatArray:
    """Weights (n,) by length, slope and residual (Geman-McClure); 0 where that is NaN."""
    weight = np.zeros(len(residual_px))
    found = np.isfinite(residual_px)
    if not found.any():
        return weight
    mad_px = max(float(np.median(np.abs(residual_px[found]))), least_mad_px)
    median_slope = max(float(np.median(slope[found])), 1e-12)
    for n in range(len(weight)):
        if found[n]:
            robust = 1 / (1 + (residual_px[n] / (2 * mad_px)) ** 2) ** 2
            weight[n] = length_px[n] * robust * min(slope[n] / median_slope, max_slope)
    return weight
