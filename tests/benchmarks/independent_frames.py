"""Frames by another renderer and another imaging chain than the simulator's, on the grid of corrected images.

Path lengths are embree's, by tracing every ray through every solid. The chain shares no code with that of
`veriserum_hf.simulation`: another open field, one even veil of scatter, another blur, Poisson noise, gamma, no JPEG.
"""

from collections.abc import Sequence

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy import ndimage

from veriserum_hf.geometry import Plane, px_to_mm
from veriserum_hf.simulation.imaging import ATTENUATION_PER_MM, Part

SIZE_PX = 512
_RAYS = 2  # along each edge of a pixel
_OFF = 0.35  # part that attenuations differ by at most, each material on its own


def independent_frame(parts: Sequence[Part], plane: Plane, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Corrected grey image of a scene, (512, 512)."""
    per_mm = {name: value * rng.uniform(1 - _OFF, 1 + _OFF) for name, value in ATTENUATION_PER_MM.items()}
    exponent = np.zeros((SIZE_PX * _RAYS,) * 2)
    for part in parts:
        _add(exponent, part, plane, per_mm[part.material])
    through = np.exp(-exponent).reshape(SIZE_PX, _RAYS, SIZE_PX, _RAYS).mean(axis=(1, 3))
    grid = np.arange(SIZE_PX, dtype=float)
    h_mm, v_mm = px_to_mm(np.stack(np.meshgrid(grid, grid), axis=-1), SIZE_PX).transpose(2, 0, 1)
    center_h_mm, center_v_mm, edge_mm = *rng.uniform(-25, 25, 2), rng.uniform(230, 320)
    field = 1 / (1 + ((h_mm - center_h_mm) ** 2 + (v_mm - center_v_mm) ** 2) / edge_mm**2) ** 2
    signal = ndimage.gaussian_filter(field * through, rng.uniform(0.4, 0.9))
    signal = signal + rng.uniform(0.05, 0.2) * ndimage.gaussian_filter(field, 60) * through.mean()
    signal /= signal.max()  # exposed so that nothing is overexposed
    quanta = rng.uniform(1500, 6800)  # a pixel of 0.7 mm gets, as many as in the simulator's frames
    counted = rng.poisson(signal * quanta) / quanta + rng.normal(0, 0.004, signal.shape)
    gamma = rng.uniform(0.9, 1.1)
    return np.clip(np.round(235 * np.clip(counted, 0, None) ** gamma + 8), 0, 255).astype(np.uint8)


def _add(exponent: NDArray[np.float64], part: Part, plane: Plane, per_mm: float) -> None:
    """Add a solid's attenuation in the window that it is seen in."""
    seen = traced_mm(part, plane, len(exponent))
    if seen:
        window, length_mm = seen
        exponent[window] += per_mm * length_mm


def traced_mm(part: Part, plane: Plane, size: int) -> tuple[tuple[slice, slice], NDArray[np.float64]] | None:
    """Window (rows, columns) of a ``size`` px image that a solid is seen in, and its path lengths there, mm."""
    posed = part.mesh.copy()
    posed.apply_transform(part.T_world_part)
    px = plane.project(posed.vertices, size)
    low = np.clip(np.floor(px.min(axis=0)).astype(int), 0, size)
    high = np.clip(np.ceil(px.max(axis=0)).astype(int) + 1, 0, size)
    if (high <= low).any():
        return None
    columns, rows = (np.arange(low[axis], high[axis]) for axis in (0, 1))
    source, directions = plane.rays(np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2), size)
    tracer = trimesh.ray.ray_pyembree.RayMeshIntersector(posed)
    hits, ray, triangle = tracer.intersects_location(
        np.broadcast_to(source, directions.shape), directions, multiple_hits=True
    )
    leaves = np.sign((posed.face_normals[triangle] * directions[ray]).sum(axis=1))
    depth_mm = ((hits - source) * directions[ray]).sum(axis=1)
    length_mm, unpaired = (np.bincount(ray, weights, len(directions)) for weights in (leaves * depth_mm, leaves))
    # A ray along an edge may miss one of its hits; it gets the value of the adjacent rays.
    length_mm = np.where(unpaired == 0, length_mm, np.nan).reshape(len(rows), len(columns))
    lost = np.isnan(length_mm)
    if lost.any() and not lost.all():
        nearest = ndimage.distance_transform_edt(lost, return_distances=False, return_indices=True)
        length_mm = length_mm[tuple(nearest)]
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return window, np.nan_to_num(length_mm)
