"""What many solids absorb in many images at once, in torch: every image with solids, poses and cameras of its own.

The method is that of `veriserum_hf.rendering.differentiable`, without gradients. There all images show the same
meshes; here the triangles of all solids of all images are one list, so that a batch of different scenes takes as
many calls to the device as one. On a CPU, where calls cost nothing and memory is slow, `rasteriser` draws massive
solids one after another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from torch import Tensor

from veriserum_hf.rendering.differentiable import covered, numbered
from veriserum_hf.rendering.rasteriser import check_closed, lengths_window

# Images of so many rays are rendered together: at up to 3 hits a ray and 300 bytes a hit this takes some 15 GB.
_RAYS_AT_ONCE = 2**24
_NEAREST_MM = 20.0  # depths below are not meant, and must not divide by zero
_STEEPEST = 6.0  # an oblique ray crosses at most so many thicknesses of a thin wall


@dataclass(frozen=True, eq=False)
class Solids:
    """Closed surfaces on one device, mm, outward.

    Attributes
    ----------
    vertices_mm : (V, 3) float32 of all of them, one after another.
    faces : (F, 3) int64 indices of the vertices of their own solid.
    first_vertex, vertex_count, first_face, face_count : (S,) int64 by solid.

    """

    vertices_mm: Tensor
    faces: Tensor
    first_vertex: Tensor
    vertex_count: Tensor
    first_face: Tensor
    face_count: Tensor

    @classmethod
    def of(cls, meshes: Sequence[trimesh.Trimesh], device: torch.device | str = "cpu") -> "Solids":
        """Copy closed meshes; ValueError if one is not closed or is inside out."""
        for mesh in meshes:
            check_closed(mesh)
        vertices = torch.tensor([len(mesh.vertices) for mesh in meshes])
        faces = torch.tensor([len(mesh.faces) for mesh in meshes])
        return cls(
            torch.cat([torch.tensor(mesh.vertices, dtype=torch.float32) for mesh in meshes]).to(device),
            torch.cat([torch.tensor(mesh.faces, dtype=torch.int64) for mesh in meshes]).to(device),
            (vertices.cumsum(0) - vertices).to(device),
            vertices.to(device),
            (faces.cumsum(0) - faces).to(device),
            faces.to(device),
        )


@dataclass(frozen=True, eq=False)
class Placed:
    """Solids in images, in the order of the images.

    Attributes
    ----------
    image, solid : (I,) int64.
    T_camera_solid : (I, 4, 4) float32, mm. They may scale, and must not mirror.
    per_mm : (I,) float32 attenuation; negative for what is missing in another solid.
    wall_mm : (I,) float32 thickness of a hollow solid's wall, 0 of a massive one.

    """

    image: Tensor
    solid: Tensor
    T_camera_solid: Tensor
    per_mm: Tensor
    wall_mm: Tensor

    def to(self, device: torch.device) -> "Placed":
        """The same on a device."""
        return Placed(*(getattr(self, name).to(device, non_blocking=True) for name in self.__dataclass_fields__))

    def _only(self, chosen: Tensor) -> "Placed":
        """Those where ``chosen`` (I,) is true."""
        return Placed(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def _within(self, first: int, last: int) -> "Placed":
        """Those in the images from ``first`` to before ``last``, which count from 0 then."""
        low, high = torch.searchsorted(self.image, torch.tensor([first, last], device=self.image.device)).tolist()
        image, *others = (getattr(self, name)[low:high] for name in self.__dataclass_fields__)
        return Placed(image - first, *others)


@torch.no_grad()
def absorbed(solids: Solids, placed: Placed, intrinsics: Tensor, edge: int) -> Tensor:
    """Sum over the solids of attenuation times path length, (n, edge, edge) float32.

    Parameters
    ----------
    solids : that there are.
    placed : where they are in the n images.
    intrinsics : (n, 3, 3) float32 without skew, px of the square images to render.
    edge : of these images, px.

    """
    images = len(intrinsics)
    if intrinsics.device.type == "cpu":
        massive = _in_front(solids, placed) & (placed.wall_mm == 0)
        others = _absorbed(solids, placed._only(~massive), intrinsics, edge)
        return others + _absorbed_one_by_one(solids, placed._only(massive), intrinsics, edge)
    step = max(1, _RAYS_AT_ONCE // edge**2)
    parts = [
        _absorbed(solids, placed._within(first, first + step), intrinsics[first : first + step], edge)
        for first in range(0, images, step)
    ]
    return torch.cat(parts)


def _in_front(solids: Solids, placed: Placed) -> Tensor:
    """Whether each solid, (I,), is in front of the source as a whole, with the ball around it."""
    owner, _ = numbered(solids.vertex_count)
    radius_mm = torch.zeros(len(solids.vertex_count)).scatter_reduce_(
        0, owner, solids.vertices_mm.norm(dim=1), "amax"
    )[placed.solid]
    scale = placed.T_camera_solid[:, :3, :3].norm(dim=(1, 2))  # at least the largest factor of any direction
    in_front: Tensor = placed.T_camera_solid[:, 2, 3] - scale * radius_mm > _NEAREST_MM
    return in_front


def _absorbed_one_by_one(solids: Solids, placed: Placed, intrinsics: Tensor, edge: int) -> Tensor:
    """Like `absorbed`, of massive solids on a CPU."""
    summed = torch.zeros(len(intrinsics), edge, edge)
    images, K = summed.numpy(), intrinsics.double().numpy()
    vertices_mm, faces = solids.vertices_mm.double().numpy(), solids.faces.numpy().astype(np.uint32)
    T = placed.T_camera_solid.double().numpy()
    for place, (image, solid) in enumerate(zip(placed.image.tolist(), placed.solid.tolist(), strict=True)):
        first, first_face = int(solids.first_vertex[solid]), int(solids.first_face[solid])
        seen = lengths_window(
            vertices_mm[first : first + int(solids.vertex_count[solid])],
            faces[first_face : first_face + int(solids.face_count[solid])],
            T[place],
            K[image],
            (edge, edge),
        )
        images[image][seen.slices()] += float(placed.per_mm[place]) * seen.values
    return summed


def _absorbed(solids: Solids, placed: Placed, intrinsics: Tensor, edge: int) -> Tensor:
    vertex_count = solids.vertex_count[placed.solid]
    owner, number = numbered(vertex_count)
    at = solids.vertices_mm[solids.first_vertex[placed.solid][owner] + number]
    R, t = placed.T_camera_solid[:, :3, :3][owner], placed.T_camera_solid[:, :3, 3]
    rotated = (R * at[:, None]).sum(-1)
    K = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1], intrinsics[:, 0, 2], intrinsics[:, 1, 2]], dim=1)
    K = K[placed.image]
    in_camera = rotated + t[owner]
    of_vertex = K[owner]
    px = in_camera[:, :2] / in_camera[:, 2:].clamp(min=_NEAREST_MM) * of_vertex[:, :2] + of_vertex[:, 2:]

    owner, number = numbered(solids.face_count[placed.solid])
    first_vertex = vertex_count.cumsum(0) - vertex_count
    faces = solids.faces[solids.first_face[placed.solid][owner] + number] + first_vertex[owner, None]
    triangle, row, column, sign = covered(px[faces], edge, edge)
    v0, v1, v2 = rotated[faces].unbind(1)
    normal = torch.linalg.cross(v1 - v0, v2 - v0)
    depths = rotated[..., 2][faces]
    of_triangle = [*normal.unbind(1), (normal * v0).sum(1), depths.amin(1), depths.amax(1)]
    of_triangle += [values[owner] for values in (*t.unbind(1), placed.per_mm, placed.wall_mm, *K.unbind(1))]
    lengths = _crossings([values[triangle] for values in of_triangle], row, column, sign)
    pixels = (placed.image[owner][triangle] * edge + row) * edge + column
    flat = torch.zeros(len(intrinsics) * edge * edge, device=intrinsics.device)
    return flat.index_add_(0, pixels, lengths).view(-1, edge, edge)


def _crossings(of_hit: Sequence[Tensor], row: Tensor, column: Tensor, sign: Tensor) -> Tensor:
    """What every hit adds to its pixel's sum, (n,), from the values (n,) of its triangle, solid and camera."""
    n_x, n_y, n_z, at_corner, nearest, farthest, t_x, t_y, t_z, per_mm, wall_mm, fx, fy, cx, cy = of_hit
    ray_x, ray_y = (column - cx) / fx, (row - cy) / fy
    # From the ray's point at the depth of the solid's origin to that origin: short, so float32 is enough.
    ahead = at_corner + n_x * (t_x - t_z * ray_x) + n_y * (t_y - t_z * ray_y)
    across = n_x * ray_x + n_y * ray_y + n_z
    norm = (1 + ray_x**2 + ray_y**2).sqrt()
    depth = (ahead / torch.where(across == 0, 1.0, across)).clamp(nearest, farthest)
    area = (n_x**2 + n_y**2 + n_z**2).sqrt()
    steep = (area * norm / across.abs().clamp(min=1e-12)).clamp(max=_STEEPEST)
    return per_mm * torch.where(wall_mm > 0, wall_mm * steep, sign * depth * norm)
