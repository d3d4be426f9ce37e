"""X-ray path length through closed triangle meshes, by rasterising every triangle once.

A ray that crosses a closed surface enters through front faces and leaves through back faces, so its path length
inside is the sum of the depths of the back faces less that of the front faces. Every triangle therefore adds its
signed depth to the pixels it covers, in any order; no hit is sorted and no ray is traced.

That sum is meaningless at a pixel where a front face counts and its back face does not. Coverage is therefore exact:
a triangle covers the pixels between its edges' crossings with a row, half open in both directions; two triangles
that share an edge compute the crossing from the same end points in the same order, to the same bit, with opposite
signs. On a closed mesh the signs add to zero at every pixel, whatever the rounding.

Within a triangle 1/z is affine in the pixel (perspective), z the depth along the camera's axis.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import trimesh
from numba.extending import register_jitable
from numpy.typing import ArrayLike, NDArray

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import Camera, Plane, Size, rows_columns
from veriserum_hf.rendering.compilation import compiled

# Where front and back meet at the outline, their depths differ by rounding alone.
_ROUNDING_MM = 1e-6
_KEPT = 256  # meshes


class Window(NamedTuple):
    """The part of an image that a mesh is seen in.

    Attributes
    ----------
    row, column : of its first pixel; negative in an image's margin.
    values : (rows, columns) path lengths, mm.

    """

    row: int
    column: int
    values: FloatArray

    def slices(self, margin_px: int = 0) -> tuple[slice, slice]:
        """Where the window lies in an image that has ``margin_px`` more on every side."""
        row, column = self.row + margin_px, self.column + margin_px
        return slice(row, row + self.values.shape[0]), slice(column, column + self.values.shape[1])


def path_length(
    mesh: trimesh.Trimesh, T_world_implant: ArrayLike, camera: Camera | Plane, size: Size = 512
) -> FloatArray:
    """Path length in mm, (rows, columns), of the ray of every pixel of an image through a closed mesh.

    Parameters
    ----------
    mesh : closed mesh in mm, normals outwards.
    T_world_implant : (4, 4) pose of the mesh in the world.
    camera : of the image; or a plane of the rig, whose corrected image has the edge ``size``.
    size : of the image, px: its edge, or (rows, columns).

    Raises
    ------
    ValueError
        If the mesh is not closed or is inside out, or reaches the source or behind it, or the pose has a wrong shape.

    """
    image = np.zeros(rows_columns(size))
    window = path_length_window(mesh, T_world_implant, camera, size)
    image[window.slices()] = window.values
    return image


def path_length_window(
    mesh: trimesh.Trimesh,
    T_world_implant: ArrayLike,
    camera: Camera | Plane,
    size: Size = 512,
    margin_px: int = 0,
) -> Window:
    """Like `path_length`, but only where the mesh is seen, up to ``margin_px`` outside the image."""
    check_closed(mesh)
    if np.shape(T_world_implant) != (4, 4):
        raise ValueError(f"expected a (4, 4) pose, got {np.shape(T_world_implant)}")
    rows, columns = rows_columns(size)
    camera = camera_of(camera, size)
    T_camera_implant = camera.world_to_camera @ np.asarray(T_world_implant, dtype=np.float64)
    return lengths_window(*_surface(mesh), T_camera_implant, camera.intrinsics, (rows, columns), margin_px)


def lengths_window(
    vertices_mm: FloatArray,
    faces: NDArray[np.uint32],
    T_camera_implant: FloatArray,
    intrinsics: FloatArray,
    rows_columns_px: tuple[int, int],
    margin_px: int = 0,
) -> Window:
    """Like `path_length_window`, of the vertices (V, 3) and faces (F, 3) of a closed surface, unchecked.

    The pose (4, 4) in the camera may scale, and must not mirror; ``intrinsics`` (3, 3) have no skew.
    """
    (rows, columns), K = rows_columns_px, intrinsics
    corners, least, most = _projected(vertices_mm, T_camera_implant, K[0, 0], K[1, 1], K[0, 2], K[1, 2])
    if not (least[2] > 0 and np.isfinite(T_camera_implant).all()):
        raise ValueError(
            f"the mesh reaches {-least[2]:.0f} mm behind the X-ray source, expected all of it in front; check that "
            "its pose is in mm and in the world frame"
        )
    column, width = _seen(least[0], most[0], -margin_px, columns + margin_px)
    row, height = _seen(least[1], most[1], -margin_px, rows + margin_px)
    values = np.zeros((height, width))
    _add_signed_depths(values, corners, faces, column, row)
    _depths_to_lengths(values, K[0, 0], K[1, 1], K[0, 2] - column, K[1, 2] - row)
    return Window(row, column, values)


def _seen(least_px: float, most_px: float, start: int, stop: int) -> tuple[int, int]:
    """First pixel from ``start`` to ``stop`` that is between two coordinates, and the number of those."""
    first = math.ceil(min(max(least_px, start), stop))
    last = math.floor(min(max(most_px, start - 1), stop - 1))
    return first, max(last - first + 1, 0)


@lru_cache(maxsize=_KEPT)
def _surface(mesh: trimesh.Trimesh) -> tuple[FloatArray, NDArray[np.uint32]]:
    """Vertices and faces as plain arrays, kept by the content of the mesh."""
    return np.array(mesh.vertices, dtype=np.float64), np.array(mesh.faces, dtype=np.uint32)


def camera_of(camera: Camera | Plane, size: Size) -> Camera:
    """Camera of an image of a size; of a plane of the rig, that of its corrected image, which is square."""
    if isinstance(camera, Camera):
        return camera
    rows, columns = rows_columns(size)
    if rows != columns:
        raise ValueError(f"a plane's corrected image is square, got {rows} x {columns} px; give the camera instead")
    return camera.at(rows)


def check_closed(mesh: trimesh.Trimesh) -> None:
    """Raise ValueError where path lengths would be meaningless; trimesh caches the results with the mesh."""
    if not mesh.is_watertight:
        raise ValueError(
            f"the mesh ({len(mesh.faces)} triangles) is not closed, so a ray may enter it and never leave; "
            "merge its vertices or fill its holes, e.g. with trimesh.repair"
        )
    if not mesh.is_winding_consistent:
        raise ValueError("some triangles of the mesh face inwards, others outwards; trimesh.repair.fix_normals helps")
    if not mesh.volume > 0:
        raise ValueError("the mesh is inside out (its volume is negative); call its invert()")


@compiled
def _projected(
    vertices: FloatArray, T_camera_implant: FloatArray, fx: float, fy: float, cx: float, cy: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Column and row in px, depth in mm and its inverse, of every vertex, (n, 4), and the least and largest of each.

    The four of a vertex lie together, since triangles need them so. They are NaN where it is behind the source.
    """
    R, t = T_camera_implant[:3, :3], T_camera_implant[:3, 3]
    corners, least, most = np.empty((len(vertices), 4)), np.full(4, np.inf), np.full(4, -np.inf)
    for n in range(len(vertices)):
        x, y, z = vertices[n, 0], vertices[n, 1], vertices[n, 2]
        depth = R[2, 0] * x + R[2, 1] * y + R[2, 2] * z + t[2]
        inverse = 1.0 / depth if depth > 0.0 else np.nan
        corners[n, 0] = (R[0, 0] * x + R[0, 1] * y + R[0, 2] * z + t[0]) * inverse * fx + cx
        corners[n, 1] = (R[1, 0] * x + R[1, 1] * y + R[1, 2] * z + t[1]) * inverse * fy + cy
        corners[n, 2] = depth
        corners[n, 3] = inverse
        for i in range(4):
            least[i], most[i] = min(least[i], corners[n, i]), max(most[i], corners[n, i])
    return corners, least, most


@register_jitable
def _first_px(px: float, count: int) -> int:
    """First pixel of an image that is not before a coordinate."""
    return math.ceil(min(max(px, 0.0), float(count)))


@register_jitable
def _first_column(x: float, y: float, slope: float, row: int, column_a: int, column_b: int) -> int:
    """First column that is not before the crossing of an edge with a row; never beyond those of the edge's ends."""
    column = math.ceil(x + (row - y) * slope)
    return min(max(column, min(column_a, column_b)), max(column_a, column_b))


@compiled
def _add_signed_depths(
    image: FloatArray, corners: FloatArray, faces: NDArray[np.uint32], first_column: int, first_row: int
) -> None:
    """Add to every pixel the depths of the triangles that cover it: back faces positive, front faces negative.

    Arrays are not passed on to functions of the loop: that would cost as much as a triangle.
    """
    # Most triangles are about as small as a pixel: whole numbers, found once a corner, show which cover none.
    first = np.empty((len(corners), 2), np.int64)
    for n in range(len(corners)):
        corners[n, 0] -= first_column
        corners[n, 1] -= first_row
        first[n, 0] = _first_px(corners[n, 0], image.shape[1])
        first[n, 1] = _first_px(corners[n, 1], image.shape[0])
    for f in range(len(faces)):
        # From top to bottom one edge goes all the way. Rows run downwards: seen from the source, a front face has its
        # downward edge on the left. This is a short one, until two corners are swapped.
        i, j, k, sign = faces[f, 0], faces[f, 1], faces[f, 2], 1.0
        if first[j, 1] < first[i, 1]:
            i, j, sign = j, i, -sign
        if first[k, 1] < first[j, 1]:
            j, k, sign = k, j, -sign
            if first[j, 1] < first[i, 1]:
                i, j, sign = j, i, -sign
        column_i, column_j, column_k = first[i, 0], first[j, 0], first[k, 0]
        if first[i, 1] == first[k, 1] or (column_i == column_j and column_i == column_k):
            continue
        x, y, z, a = corners[i, 0], corners[i, 1], corners[i, 2], corners[i, 3]
        x_j, y_j, z_j = corners[j, 0], corners[j, 1], corners[j, 2]
        x_k, y_k, z_k = corners[k, 0], corners[k, 1], corners[k, 2]
        # 1/z = a + b (column - x) + c (row - y)
        x1, y1, d1, x2, y2, d2 = x_j - x, y_j - y, corners[j, 3] - a, x_k - x, y_k - y, corners[k, 3] - a
        area = x1 * y2 - x2 * y1
        per_area = 1.0 / area if area != 0.0 else 0.0
        b, c = (d1 * y2 - d2 * y1) * per_area, (x1 * d2 - x2 * d1) * per_area
        # A triangle seen edge on has no reliable plane; its corners still bound its depth.
        z_low, z_high = min(z, z_j, z_k), max(z, z_j, z_k)
        long_slope = x2 / y2
        for is_lower in range(2):
            start, stop = (first[j, 1], first[k, 1]) if is_lower else (first[i, 1], first[j, 1])
            short_x, short_y = (x_j, y_j) if is_lower else (x, y)
            column_a, column_b = (column_j, column_k) if is_lower else (column_i, column_j)
            dx, dy = (x_k - x_j, y_k - y_j) if is_lower else (x1, y1)
            short_slope = dx / dy if start < stop else 0.0
            for row in range(start, stop):
                left, signed = _first_column(x, y, long_slope, row, column_i, column_k), sign
                right = _first_column(short_x, short_y, short_slope, row, column_a, column_b)
                if right < left:
                    left, right, signed = right, left, -sign
                inverse = a + c * (row - y)
                for column in range(left, right):
                    depth = 1.0 / (inverse + b * (column - x))
                    image[row, column] += signed * min(max(depth, z_low), z_high)


@compiled
def _depths_to_lengths(image: FloatArray, fx: float, fy: float, column_px: float, row_px: float) -> None:
    """Convert lengths along the camera's axis into lengths along each pixel's ray."""
    for row in range(image.shape[0]):
        v = (row - row_px) / fy
        for column in range(image.shape[1]):
            h = (column - column_px) / fx
            length = image[row, column] * math.sqrt(1.0 + h * h + v * v)
            image[row, column] = 0.0 if -_ROUNDING_MM < length < 0.0 else length
