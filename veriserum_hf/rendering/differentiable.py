"""X-ray path length through closed meshes in torch: batched over poses and parts, differentiable in pose and camera.

The method is that of `veriserum_hf.rendering.rasteriser`: back faces add their depth to the pixels they cover, front
faces subtract it. Which triangle covers which pixel is found without a gradient, all triangles at once; the depth of
every such hit is then written as a function of the pose, ray against plane,

    depth = n . v0 / n . ray,    n = (v1 - v0) x (v2 - v0),    ray = ((column - cx) / fx, (row - cy) / fy, 1)

and autograd does the rest. Path length is continuous in the pose except where a face is parallel to the ray, so
moving outlines need no term of their own. At a single pixel near an outline the gradient is steep all the same:
blur the image before comparing it.

Depths count from the implant's origin. The signs at a pixel add to zero, so the sum stays the same, and float32
keeps the 1e-3 mm that it would lose at 1500 mm from the source.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import trimesh

from veriserum_hf.rendering.rasteriser import check_closed

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('differentiable rendering needs torch: pip install "veriserum-hf[train]"') from error

# Sine of the angle between ray and face below which the gradient grows no more. Faces nearly edge on are hit by few
# pixels, with gradients so steep that one of them may outweigh the rest of the image. 0.01 bounds these and takes
# less than 1 % off the gradient: of 120 poses at 256 px, blurred, the worst agreed with the gradient at 1024 px to a
# cosine of 0.97, without the bound 0.90.
_LEAST_SINE = 0.01


@dataclass(frozen=True, eq=False)
class TensorMesh:
    """One closed surface, such as a femoral component, as tensors.

    Attributes
    ----------
    vertices_mm : (V, 3) float32 or float64, in implant coordinates.
    faces : (F, 3) int64 indices of vertices, counter-clockwise seen from outside.

    Raises
    ------
    ValueError
        If a shape or a type is wrong, or the mesh is not closed.

    """

    vertices_mm: Tensor
    faces: Tensor

    def __post_init__(self) -> None:
        for name, tensor in (("vertices_mm", self.vertices_mm), ("faces", self.faces)):
            if tensor.ndim != 2 or tensor.shape[1] != 3:
                raise ValueError(f"{name} must have shape (n, 3), got {tuple(tensor.shape)}")
        if self.faces.dtype != torch.int64:
            raise ValueError(f"faces must be int64, got {self.faces.dtype}")
        # On a closed surface every edge is passed once in either direction.
        tail, head = self.faces.flatten(), self.faces.roll(-1, 1).flatten()
        count = len(self.vertices_mm)
        if not torch.equal((tail * count + head).sort()[0], (head * count + tail).sort()[0]):
            raise ValueError("the mesh is not closed, or some of its triangles face inwards; trimesh.repair may help")

    @classmethod
    def from_mesh(
        cls, mesh: trimesh.Trimesh, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> "TensorMesh":
        """Copy a closed mesh in mm; ValueError if it is not closed or is inside out."""
        check_closed(mesh)
        return cls(
            torch.tensor(mesh.vertices, device=device, dtype=dtype),
            torch.tensor(mesh.faces, device=device, dtype=torch.int64),
        )


def path_length(
    parts: Sequence[TensorMesh],
    T_world_implant: Tensor,
    intrinsics: Tensor,
    world_to_camera: Tensor,
    size: int | tuple[int, int],
) -> Tensor:
    """Path length in mm of every pixel's ray through each part on its own, (B, P, rows, columns).

    Gradients flow to every floating-point argument. All of them have one type, float32 or float64, and one device.
    A pose of a femoral component of 25,000 triangles takes about 10 MB at 256 px in float32, gradient included.

    Parameters
    ----------
    parts : P closed meshes.
    T_world_implant : (B, P, 4, 4) poses of the parts in the world, mm.
    intrinsics : (B, 3, 3), or (3, 3) for all, without skew, in pixels of the image to render.
    world_to_camera : (B, 4, 4), or (4, 4) for all: OpenCV camera at the X-ray source, mm.
    size : edge of a square image, px, or (rows, columns).

    Raises
    ------
    ValueError
        If a shape, type or device does not fit, or a part is not wholly in front of the source.

    """
    poses = _check(parts, T_world_implant, intrinsics, world_to_camera)
    rows, columns = (size, size) if isinstance(size, int) else size
    K = intrinsics.expand(poses, 3, 3)
    T_camera_implant = _product(world_to_camera.expand(poses, 4, 4)[:, None], T_world_implant)
    images = []
    for index, part in enumerate(parts):
        R, t = T_camera_implant[:, index, :3, :3], T_camera_implant[:, index, :3, 3]
        rotated = _product(part.vertices_mm, R.mT)
        with torch.no_grad():
            in_camera = rotated + t[:, None]
            _check_in_front(in_camera, index)
            px = in_camera[..., :2] / in_camera[..., 2:] * K.diagonal(dim1=1, dim2=2)[:, None, :2] + K[:, None, :2, 2]
            hits = _find_hits(px, part.faces, rows, columns)
        lengths = _signed_lengths(hits, rotated, t, part.faces, K)
        pixels = (hits.pose * rows + hits.row) * columns + hits.column
        image = lengths.new_zeros(poses * rows * columns).index_add(0, pixels, lengths)
        images.append(image.view(poses, rows, columns))
    return torch.stack(images, dim=1)


class _Hits(NamedTuple):
    """Pairs of a triangle and a pixel that it covers: each (n,), int64 except for the sign."""

    pose: Tensor
    face: Tensor
    row: Tensor
    column: Tensor
    sign: Tensor  # 1 for a back face, -1 for a front face


class Covered(NamedTuple):
    """Pairs of a triangle, by its index, and a pixel that it covers: each (n,), int64 except for the sign."""

    triangle: Tensor
    row: Tensor
    column: Tensor
    sign: Tensor  # 1 for a back face, -1 for a front face


def _find_hits(px: Tensor, faces: Tensor, rows: int, columns: int) -> _Hits:
    """Every pixel covered by every triangle of meshes whose vertices are at px (B, V, 2), (column, row)."""
    triangle, row, column, sign = covered(px[:, faces].flatten(0, 1), rows, columns)
    return _Hits(triangle // len(faces), triangle % len(faces), row, column, sign)


def covered(corners: Tensor, rows: int, columns: int) -> Covered:
    """Every pixel covered by every triangle, half open in both directions; corners (T, 3, 2) are (column, row) px."""
    y = corners[..., 1]
    first_row = y.amin(1).ceil().clamp(0, rows).long()
    end_row = y.amax(1).ceil().clamp(0, rows).long()
    triangle, step = numbered(end_row - first_row)
    row = first_row[triangle] + step

    # Two triangles that share an edge take its corners in the same order, the upper one first, so that both get the
    # same crossing to the bit: no pixel between them is lost or counted twice.
    tail = corners[triangle]
    head = tail.roll(-1, 1)
    scanline = row.to(corners.dtype)[:, None]
    tail_passed, head_passed = tail[..., 1] <= scanline, head[..., 1] <= scanline
    upper = torch.where(tail_passed[..., None], tail, head)
    lower = torch.where(tail_passed[..., None], head, tail)
    across = (scanline - upper[..., 1]) / (lower[..., 1] - upper[..., 1])
    x = upper[..., 0] + across * (lower[..., 0] - upper[..., 0])
    # Of a triangle's edges one crosses the row upwards and one downwards.
    up = torch.where(head_passed & ~tail_passed, x, 0.0).sum(1)
    down = torch.where(tail_passed & ~head_passed, x, 0.0).sum(1)

    # Rows run downwards: seen from the source, a front face has its downward edge on the left.
    start, end = up.ceil().clamp(0, columns), down.ceil().clamp(0, columns)
    span, step = numbered((end - start).abs().long())
    column = torch.minimum(start, end).long()[span] + step
    return Covered(triangle[span], row[span], column, (end - start).sign()[span])


def _signed_lengths(hits: _Hits, rotated: Tensor, t: Tensor, faces: Tensor, K: Tensor) -> Tensor:
    """Length of the ray from the depth of the implant's origin to each hit, times its sign, (n,) mm.

    ``rotated`` (B, V, 3) are the vertices along the camera's axes from the implant's origin, ``t`` (B, 3) is that
    origin.
    """
    corner_indices = hits.pose[:, None] * rotated.shape[1] + faces[hits.face]
    corners = rotated.flatten(0, 1).index_select(0, corner_indices.flatten()).view(-1, 3, 3)
    v0, v1, v2 = corners.unbind(1)
    normal = torch.linalg.cross(v1 - v0, v2 - v0)
    camera = torch.stack((K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2], *t.unbind(1)), dim=1)
    fx, fy, cx, cy, t_x, t_y, t_z = camera.index_select(0, hits.pose).unbind(1)
    ray_x, ray_y = (hits.column - cx) / fx, (hits.row - cy) / fy
    ray = torch.stack((ray_x, ray_y, torch.ones_like(ray_x)), dim=1)
    # From the ray's point at the depth of the implant's origin to that origin: short, so float32 is enough from here.
    to_origin = torch.stack((t_x - t_z * ray_x, t_y - t_z * ray_y, torch.zeros_like(ray_x)), dim=1)
    ahead, across = (normal * (to_origin + v0)).sum(1), (normal * ray).sum(1)
    with torch.no_grad():
        # A triangle seen edge on has no reliable plane; its corners still bound its depth.
        z = corners[..., 2]
        depth = (ahead / torch.where(across == 0, 1.0, across)).clamp(z.amin(1), z.amax(1))
        least = _LEAST_SINE * normal.norm(dim=1) * ray.norm(dim=1)
        slope = across.abs().clamp(min=least).copysign(across)
    # Implicit differentiation of ahead = depth * across: this adds nothing to the depth but its gradient.
    residual = ahead - depth * across
    depth = depth + (residual - residual.detach()) / slope
    lengths: Tensor = hits.sign * depth * ray.norm(dim=1)
    return lengths


def numbered(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Index i, counts[i] times, for every i, and with each the numbers 0 .. counts[i] - 1."""
    owner = torch.repeat_interleave(counts)
    return owner, torch.arange(len(owner), device=counts.device) - (counts.cumsum(0) - counts)[owner]


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b`` in full precision: torch.matmul obeys autocast and TF32, which cost millimetres here."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def _check(parts: Sequence[TensorMesh], T_world_implant: Tensor, intrinsics: Tensor, world_to_camera: Tensor) -> int:
    """Raise ValueError where shapes, types or devices do not fit; return the number of poses."""
    if not parts:
        raise ValueError("nothing to render: parts is empty")
    poses = T_world_implant.shape[0] if T_world_implant.ndim else 0
    for name, tensor, expected in (
        ("T_world_implant", T_world_implant, [(poses, len(parts), 4, 4)]),
        ("intrinsics", intrinsics, [(poses, 3, 3), (3, 3)]),
        ("world_to_camera", world_to_camera, [(poses, 4, 4), (4, 4)]),
    ):
        if tuple(tensor.shape) not in expected:
            shapes = " or ".join(map(str, expected))
            raise ValueError(f"{name} must have shape {shapes}, got {tuple(tensor.shape)}")
    if T_world_implant.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"T_world_implant must be float32 or float64, got {T_world_implant.dtype}")
    others = {"intrinsics": intrinsics, "world_to_camera": world_to_camera}
    others |= {f"the vertices of part {index}": part.vertices_mm for index, part in enumerate(parts)}
    for name, tensor in others.items():
        if (tensor.dtype, tensor.device) != (T_world_implant.dtype, T_world_implant.device):
            raise ValueError(
                f"{name} must be {T_world_implant.dtype} on {T_world_implant.device} like T_world_implant, "
                f"got {tensor.dtype} on {tensor.device}"
            )
    return poses


def _check_in_front(in_camera: Tensor, part: int) -> None:
    """Raise ValueError, naming part and pose, where a point (B, V, 3) is not in front of the source."""
    usable = (in_camera[..., 2] > 0) & in_camera.isfinite().all(-1)
    if not usable.all():
        pose = int((~usable.all(1)).nonzero()[0])
        nearest_mm = float(in_camera[pose, :, 2].min())
        raise ValueError(
            f"part {part} at pose {pose} reaches the depth {nearest_mm:.0f} mm from the X-ray source, expected more "
            "than 0; check that its pose is finite, in mm and in the world frame"
        )
