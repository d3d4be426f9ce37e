"""How far the edges of an image are from the projected outlines of implants.

Independent of the registration: the outline is that of the rendered silhouette, sampled evenly, and the edge is the
steepest rise from dark to bright along its outward normal in the blurred image.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from veriserum_hf.geometry import Camera
from veriserum_hf.rendering import outline, path_length

_FINE = 8  # contour points per pixel of `outline`, whose contours are up to 1/8 px inside the true ones
_BLUR_PX = 1.3  # standard deviation
_STEP_PX = 0.5
_REACH_PX = 4.0  # the edge is looked for so far on both sides
_FIT_PX = 1.5  # half-width of the parabola
_CLEAR_PX = 4  # between the outline and the other implant, saturated pixels, and the edge of the field
_NEAR_PX = 1.0
_PER_MM = (0.3, 0.5, 0.7, 1.0, 1.5, 2.5, 20.0)  # attenuations that are tried
_DETECTOR_PX = 1.0  # its blur, standard deviation
_RENDERED = 2  # pixels of a rendering in one of the image
_SMOOTHED = 12  # contour points on both sides, of which the tangent is the mean

Array = NDArray[np.float64]


class Edges(NamedTuple):
    """Signed distances from outline to edge, px, outward positive; NaN where there is no edge within reach."""

    offsets_px: Array

    @property
    def median_px(self) -> float:
        """Median distance."""
        return _median(np.abs(self.offsets_px))

    @property
    def signed_px(self) -> float:
        """Median of the signed distances."""
        return _median(self.offsets_px)

    @property
    def share(self) -> float:
        """Share of the outline with an edge within a pixel; NaN where nothing of it can be judged."""
        return float((np.abs(self.offsets_px) <= _NEAR_PX).mean()) if len(self.offsets_px) else np.nan


def edges_at(
    image: NDArray[np.uint8],
    camera: Camera,
    meshes: Mapping[str, trimesh.Trimesh],
    poses: Mapping[str, Array],
    *,
    expected: bool = False,
) -> dict[str, Edges]:
    """Edges of an 8-bit image at the outlines of implants at their poses (4, 4), by component.

    Points of the outline count where neither the other implant, nor a pixel at the end of the scale (saturated, or
    black outside the field), nor the border of the image is within 4 px.

    Metal that X-rays cross has its steepest rise inside the outline, at 0.7 per mm some 0.2 px. With ``expected``
    distances are those to the edges of a rendering, at that attenuation which fits best, of one for each implant.
    """
    shadows = {name: path_length(meshes[name], T, camera, image.shape) > 0 for name, T in poses.items()}
    ends = _grown((image == 0) | (image == np.iinfo(image.dtype).max), _CLEAR_PX)
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), _BLUR_PX)
    found = {}
    for name, T in poses.items():
        covered = ends.copy()
        for other, shadow in shadows.items():
            if other != name:
                covered |= _grown(shadow, _CLEAR_PX)
        points, normals = _outline(meshes[name], T, camera, image.shape)
        column, row = np.rint(points).astype(int).T
        rows, columns = image.shape
        inside = (np.minimum(column, row) > _REACH_PX + _FIT_PX) & (column < columns - 6) & (row < rows - 6)
        inside[inside] = ~covered[row[inside], column[inside]]
        points, normals = points[inside], normals[inside]
        offsets_px = edge_offsets(blurred, points, normals)
        if expected and len(points):
            rendered = _rendered_offsets(meshes[name], poses[name], camera, image.shape, points, normals)
            offsets_px = min((offsets_px - each for each in rendered), key=lambda each: _median(np.abs(each)))
        found[name] = Edges(offsets_px)
    return found


def _rendered_offsets(
    mesh: trimesh.Trimesh, T: Array, camera: Camera, size: tuple[int, int], points: Array, normals: Array
) -> Iterator[Array]:
    """Distances to the edges of renderings, for each attenuation."""
    fine = (_RENDERED * size[0], _RENDERED * size[1])
    length_mm = path_length(mesh, T, camera.resized(size, fine), fine).astype(np.float32)
    for per_mm in _PER_MM:
        reduced = cv2.resize(np.exp(-per_mm * length_mm), size[::-1], interpolation=cv2.INTER_AREA)
        yield edge_offsets(cv2.GaussianBlur(reduced, (0, 0), np.hypot(_BLUR_PX, _DETECTOR_PX)), points, normals)


def edge_offsets(blurred: NDArray[np.float32], points: Array, normals: Array) -> Array:
    """Distances (n,) px along the normals (n, 2) to the steepest rise; NaN where no maximum is within reach."""
    count = round((_REACH_PX + _FIT_PX + _STEP_PX) / _STEP_PX)
    along = _STEP_PX * np.arange(-count, count + 1)
    at = points[:, None] + along[:, None] * normals[:, None]
    values = cv2.remap(
        blurred, at[..., 0].astype(np.float32), at[..., 1].astype(np.float32), cv2.INTER_LINEAR
    ).astype(np.float64)
    slope = (values[:, 2:] - values[:, :-2]) / (2 * _STEP_PX)
    half = round(_FIT_PX / _STEP_PX)
    searched = slope[:, half:-half]
    best = searched.argmax(axis=1) + half
    x = _STEP_PX * np.arange(-half, half + 1)
    to_parabola = np.linalg.pinv(np.stack([np.ones_like(x), x, x**2], axis=1))
    near = np.take_along_axis(slope, best[:, None] + np.arange(-half, half + 1), axis=1)
    _, linear, square = to_parabola @ near.T
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = np.where(square < 0, -linear / (2 * square), np.nan)
    offset = along[1:-1][best] + vertex
    bad = (np.abs(vertex) > _FIT_PX) | (np.abs(offset) > _REACH_PX) | (slope[np.arange(len(best)), best] <= 0)
    offset[bad] = np.nan
    return offset


def _outline(mesh: trimesh.Trimesh, T: Array, camera: Camera, size: tuple[int, int]) -> tuple[Array, Array]:
    """Points (n, 2) of the outline, one for about each pixel, and the outward normals."""
    points, normals = [np.empty((0, 2))], [np.empty((0, 2))]
    contours = [each for each in outline(mesh, T, camera, size) if len(each) > 4 * _SMOOTHED]
    if not contours:
        return points[0], normals[0]
    largest = max(contours, key=len)
    sense = np.sign(_area(largest))  # holes run the other way round
    for contour in contours:
        smooth = sum(np.roll(contour, k, axis=0) for k in range(-_SMOOTHED // 2, _SMOOTHED // 2 + 1)) / (
            _SMOOTHED + 1
        )
        tangent = np.roll(smooth, -_SMOOTHED // 2, axis=0) - np.roll(smooth, _SMOOTHED // 2, axis=0)
        length = np.linalg.norm(tangent, axis=1, keepdims=True)
        normal = sense * np.stack([tangent[:, 1], -tangent[:, 0]], axis=1) / np.where(length > 0, length, np.nan)
        kept = np.isfinite(normal[:, 0])
        kept &= np.arange(len(contour)) % _FINE == 0
        points.append((contour + normal / (2 * _FINE))[kept])
        normals.append(normal[kept])
    return np.concatenate(points), np.concatenate(normals)


def _area(contour: Array) -> float:
    x, y = contour.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _grown(mask: NDArray[np.bool_], by_px: int) -> NDArray[np.bool_]:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by_px + 1, 2 * by_px + 1))
    return cv2.dilate(mask.astype(np.uint8), disc) > 0


def _median(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else np.nan
