"""Outlines of an implant from all directions, as templates for a search over poses.

A template is the outline of the implant's silhouette, seen along a ray through the centre of its mesh. A rotation
about that ray only rotates the outline, so templates are rendered for directions on the sphere alone. Coordinates are
mm in the plane through the implant's centre, normal to the ray; perspective is that of a nominal distance.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from veriserum_hf.core import FloatArray
from veriserum_hf.registration.implant import Implant
from veriserum_hf.rendering import compiled

POINTS = 64  # of a template
_CELLS = 28  # a reduced mesh has this many grid cells along the radius of the implant
_MASK_PX = 40  # radius of the implant in the masks that outlines are taken from
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


@dataclass(frozen=True, eq=False)
class Templates:
    """Outlines of an implant for directions on the sphere.

    Attributes
    ----------
    rotations : (D, 3, 3) implant to the axes of a camera whose z axis is the ray: x right, y down.
    points_mm : (D, POINTS, 2) of the outlines, relative to the centre of the mesh.
    normals : (D, POINTS, 2) outward unit normals in the image.

    """

    rotations: FloatArray
    points_mm: FloatArray
    normals: FloatArray

    @classmethod
    def of_mesh(cls, mesh: "ReducedMesh", count: int, distance_mm: float) -> "Templates":
        """Templates of ``count`` directions for an implant at a distance from the source."""
        rotations = _rotations_of(_directions(count))
        focal_px = _MASK_PX * distance_mm / mesh.reach_mm
        outlines = [
            mesh.outline(rotation, np.array([0.0, 0.0, distance_mm]), np.full(2, focal_px), POINTS)
            for rotation in rotations
        ]
        scale = distance_mm / focal_px
        return cls(rotations, np.array([o.px for o in outlines]) * scale, np.array([o.normals for o in outlines]))

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.rotations[:, 2])

    def nearest(self, rotations: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
        """Template and in-plane angle in radians, (N,) each, nearest to rotations (N, 3, 3) into a ray's axes."""
        index = np.asarray(self._tree.query(rotations[:, 2])[1], dtype=np.int64)
        # The rotation about z that brings the template's rotation nearest to the given one.
        product = rotations @ self.rotations[index].swapaxes(1, 2)
        return index, np.arctan2(product[:, 1, 0] - product[:, 0, 1], product[:, 0, 0] + product[:, 1, 1])


@dataclass(frozen=True, eq=False)
class Outline:
    """Points of the outline of a silhouette.

    Attributes
    ----------
    px : (n, 2) relative to the principal point.
    normals : (n, 2) outward unit normals in the image.
    depths_mm : (n,) depths of the surface next to the outline.

    """

    px: FloatArray
    normals: FloatArray
    depths_mm: FloatArray


class ReducedMesh:
    """An implant whose vertices are merged within the cells of a grid: enough for a coarse silhouette.

    Attributes
    ----------
    vertices_mm : (n, 3) relative to the centre of the mesh.
    faces : (m, 3) indices of vertices.
    reach_mm : distance of the farthest vertex from the centre.

    """

    def __init__(self, implant: Implant) -> None:
        mesh: trimesh.Trimesh = implant.mesh
        self.reach_mm = implant.reach_mm
        relative = mesh.vertices - implant.center_mm
        cells = np.floor(relative / (self.reach_mm / _CELLS)).astype(np.int64)
        _, inverse, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
        inverse = inverse.ravel()
        sums = np.stack([np.bincount(inverse, relative[:, axis]) for axis in range(3)], axis=1)
        self.vertices_mm: FloatArray = sums / counts[:, None]
        faces = inverse[mesh.faces]
        proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        self.faces: NDArray[np.int64] = np.unique(np.sort(faces[proper], axis=1), axis=0)

    def outline(self, rotation: FloatArray, center_mm: FloatArray, focal_px: FloatArray, count: int) -> Outline:
        """Outline of the silhouette, holes included, as ``count`` points at equal distances along it.

        Parameters
        ----------
        rotation, center_mm : (3, 3) and (3,) of the implant's centre in the camera's axes.
        focal_px : (2,) of the camera; outlines are accurate to a fraction of a pixel.
        count : of points.

        """
        in_camera = self.vertices_mm @ rotation.T + center_mm
        px = in_camera[:, :2] / in_camera[:, 2:] * focal_px
        first = np.floor(px.min(axis=0)) - 3
        size = np.ceil(px.max(axis=0) - first).astype(int) + 4
        front = np.full((size[1], size[0]), np.inf, np.float32)
        _fill(front, px - first, in_camera[:, 2], self.faces)
        mask = np.isfinite(front)
        found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        corners = np.concatenate([contour[:, 0] for contour in found])
        corners = corners[np.linspace(0, len(corners), count, endpoint=False).astype(int)]
        smooth = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.2)
        column, row = corners.T
        across = smooth[row, column - 1] - smooth[row, column + 1]
        down = smooth[row - 1, column] - smooth[row + 1, column]
        normals = np.stack([across, down], axis=1).astype(np.float64)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        # Contours go through the outermost pixels of the silhouette, half a pixel inside its edge.
        return Outline(corners + first + 0.5 * normals, normals, front[row, column].astype(np.float64))


def _directions(count: int) -> FloatArray:
    """Directions that are spread evenly over the sphere (Fibonacci), (count, 3)."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle, radius = np.arange(count) * _GOLDEN_ANGLE, np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)


def _rotations_of(directions: FloatArray) -> FloatArray:
    """Rotations (n, 3, 3) that bring directions (n, 3) to the z axis."""
    helper = np.where(np.abs(directions[:, 2:]) < 0.9, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    x = np.cross(helper, directions)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.stack([x, np.cross(directions, x), directions], axis=1)


@compiled
def _fill(front: NDArray[np.float32], px: FloatArray, z: FloatArray, faces: NDArray[np.int64]) -> None:
    """Lower the depths of the pixels that triangles cover to the mean depth of the triangle's corners."""
    rows, columns = front.shape
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, x1, y1, x2, y2 = px[i, 0], px[i, 1], px[j, 0], px[j, 1], px[k, 0], px[k, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0.0:
            continue
        depth = (z[i] + z[j] + z[k]) / 3
        for row in range(max(0, math.ceil(min(y0, y1, y2))), min(rows - 1, math.floor(max(y0, y1, y2))) + 1):
            for column in range(
                max(0, math.ceil(min(x0, x1, x2))), min(columns - 1, math.floor(max(x0, x1, x2))) + 1
            ):
                a = ((x1 - column) * (y2 - row) - (x2 - column) * (y1 - row)) / area
                b = ((x2 - column) * (y0 - row) - (x0 - column) * (y2 - row)) / area
                if a >= 0.0 and b >= 0.0 and a + b <= 1.0 and depth < front[row, column]:
                    front[row, column] = depth
