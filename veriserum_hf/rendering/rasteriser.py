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
from typing import NamedTuple

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import Camera, Plane, Size, rows_columns, transform_points
from veriserum_hf.rendering.compilation import compiled

# Where front and back meet at the outline, their depths differ by rounding alone.
_ROUNDING_MM = 1e-6


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
    in_camera = transform_points(T_camera_implant, mesh.vertices)
    nearest_mm = in_camera[:, 2].min()
    if not nearest_mm > 0:
        raise ValueError(
            f"the mesh reaches {-nearest_mm:.0f} mm behind the X-ray source, expected all of it in front; check that "
            "its pose is in mm and in the world frame"
        )
    K = camera.intrinsics
    px = in_camera[:, :2] / in_camera[:, 2:] * (K[0, 0], K[1, 1]) + K[:2, 2]
    x, y = px.T  # numpy reduces a column far faster than it reduces both at once
    low, high = -margin_px, np.array([columns, rows]) + margin_px
    first = np.clip(np.ceil((x.min(), y.min())), low, high).astype(int)
    last = np.clip(np.floor((x.max(), y.max())), low - 1, high - 1).astype(int)
    values = np.zeros(np.maximum(last - first + 1, 0)[::-1])
    _add_signed_depths(values, px - first, in_camera[:, 2], mesh.faces)
    _depths_to_lengths(values, K[0, 0], K[1, 1], K[0, 2] - first[0], K[1, 2] - first[1])
    return Window(int(first[1]), int(first[0]), values)


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
def _add_signed_depths(image: FloatArray, px: FloatArray, z: FloatArray, faces: NDArray[np.int64]) -> None:
    """Add to every pixel the depths of the triangles that cover it: back faces positive, front faces negative."""
    rows, columns = image.shape
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        y_low = min(px[i, 1], px[j, 1], px[k, 1])
        y_high = max(px[i, 1], px[j, 1], px[k, 1])
        first_row = max(0, math.ceil(y_low))
        end_row = min(rows, math.ceil(y_high))
        if first_row >= end_row:
            continue
        # 1/z = a + b (x - x_i) + c (y - y_i)
        x1, y1, x2, y2 = px[j, 0] - px[i, 0], px[j, 1] - px[i, 1], px[k, 0] - px[i, 0], px[k, 1] - px[i, 1]
        a = 1.0 / z[i]
        d1, d2 = 1.0 / z[j] - a, 1.0 / z[k] - a
        area = x1 * y2 - x2 * y1
        b, c = 0.0, 0.0
        if area != 0.0:
            b, c = (d1 * y2 - d2 * y1) / area, (x1 * d2 - x2 * d1) / area
        # A triangle seen edge on has no reliable plane; its corners still bound its depth.
        z_low, z_high = min(z[i], z[j], z[k]), max(z[i], z[j], z[k])
        for row in range(first_row, end_row):
            # Of a closed polygon's edges, one crosses the row upwards and one downwards, or none does.
            up, down = math.inf, math.inf
            for tail, head in ((i, j), (j, k), (k, i)):
                if (px[tail, 1] <= row) != (px[head, 1] <= row):
                    low, high = (tail, head) if px[tail, 1] <= row else (head, tail)
                    across = (row - px[low, 1]) / (px[high, 1] - px[low, 1])
                    x = px[low, 0] + across * (px[high, 0] - px[low, 0])
                    if low == tail:
                        down = x
                    else:
                        up = x
            # Rows run downwards: seen from the source, a front face has its downward edge on the left.
            sign, left, right = (1.0, up, down) if up < down else (-1.0, down, up)
            for column in range(max(0, math.ceil(left)), min(columns, math.ceil(right))):
                depth = 1.0 / (a + b * (column - px[i, 0]) + c * (row - px[i, 1]))
                image[row, column] += sign * min(max(depth, z_low), z_high)


@compiled
def _depths_to_lengths(image: FloatArray, fx: float, fy: float, column_px: float, row_px: float) -> None:
    """Convert lengths along the camera's axis into lengths along each pixel's ray."""
    for row in range(image.shape[0]):
        v = (row - row_px) / fy
        for column in range(image.shape[1]):
            h = (column - column_px) / fx
            length = image[row, column] * math.sqrt(1.0 + h * h + v * v)
            image[row, column] = 0.0 if -_ROUNDING_MM < length < 0.0 else length
