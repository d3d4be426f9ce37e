"""Cameras, triangulation and rotations in torch: exact, and differentiable in everything.

Frames and units are those of a data set row. The world is in mm. A camera is OpenCV's: ``intrinsics`` (3 x 3, px of
the stored image) and ``world_to_camera`` (4 x 4, mm), with integer pixels (column, row) at pixel centres. Float64
throughout: at 1.9 m from the source float32 would lose 1e-4 mm.
"""

import roma
import torch
from torch import Tensor

_SAME_FOCAL = 0.15


def project(points_world_mm: Tensor, intrinsics: Tensor, world_to_camera: Tensor) -> Tensor:
    """Pixels (..., n, 2) of world points (..., n, 3), by cameras (..., 3, 3) and (..., 4, 4)."""
    in_camera = points_world_mm @ world_to_camera[..., :3, :3].mT + world_to_camera[..., None, :3, 3]
    homogeneous = in_camera @ intrinsics.mT
    return homogeneous[..., :2] / homogeneous[..., 2:]


def slopes(px: Tensor, intrinsics: Tensor) -> Tensor:
    """Slopes (..., 2) of the rays through pixels (..., 2): x and y of the camera for every mm of depth."""
    focal = intrinsics.diagonal(dim1=-2, dim2=-1)[..., :2]
    return (px - intrinsics[..., :2, 2]) / focal


def at_depth(px: Tensor, depth_mm: Tensor, intrinsics: Tensor, world_to_camera: Tensor) -> Tensor:
    """World points (..., 3) at pixels (..., 2) and depths (...) from the source along the camera's axis, mm."""
    in_camera = (
        torch.cat([slopes(px, intrinsics), torch.ones_like(depth_mm)[..., None]], dim=-1) * depth_mm[..., None]
    )
    R, t = world_to_camera[..., :3, :3], world_to_camera[..., :3, 3]
    return ((in_camera - t)[..., None, :] @ R)[..., 0, :]


def depth_scale(focal_px: Tensor, nominal_px: float) -> Tensor:
    """Depth at which an object appears as large as at depth 1 in the nominal rig, whose focal length is given.

    It is 1 within 15 %: rigs and augmented images vary by so much without a sign of it in their cameras' depths.
    """
    ratio = focal_px / nominal_px
    return torch.where((ratio - 1).abs() < _SAME_FOCAL, torch.ones_like(ratio), ratio)


def triangulate(px: Tensor, intrinsics: Tensor, world_to_camera: Tensor) -> Tensor:
    """World points (..., 3) nearest to both rays: the midpoint of their shortest connection, mm.

    Parameters
    ----------
    px : (..., 2, 2) the same point in two planes, (column, row).
    intrinsics, world_to_camera : (..., 2, 3, 3) and (..., 2, 4, 4), the cameras of the planes.

    """
    axes = world_to_camera[..., :3, :3]
    source_mm = -(world_to_camera[..., None, :3, 3] @ axes)[..., 0, :]
    slope = slopes(px, intrinsics)
    ray = (torch.cat([slope, torch.ones_like(slope[..., :1])], dim=-1)[..., None, :] @ axes)[..., 0, :]
    ray = ray / ray.norm(dim=-1, keepdim=True)
    (source_one, source_other), (one, other) = source_mm.unbind(-2), ray.unbind(-2)
    baseline, cosine = source_other - source_one, (one * other).sum(-1)
    along_one, along_other = (one * baseline).sum(-1), (other * baseline).sum(-1)
    sine_squared = 1 - cosine**2
    depth_one = (along_one - cosine * along_other) / sine_squared
    depth_other = (cosine * along_one - along_other) / sine_squared
    midpoint: Tensor = (source_one + depth_one[..., None] * one + source_other + depth_other[..., None] * other) / 2
    return midpoint


def place_centers(
    center_px: Tensor, depth_mm: Tensor, cameras: tuple[Tensor, Tensor], shown: Tensor, *, both: bool = True
) -> Tensor:
    """Points (B, K, 3) in the world: of both planes' rays where both are shown, else along one ray at its depth, mm.

    Parameters
    ----------
    center_px : (B, planes, K, 2) where the points are seen, (column, row).
    depth_mm : (B, planes, K) from the source along the camera's axis.
    cameras : intrinsics (B, planes, 3, 3) and world_to_camera (B, planes, 4, 4).
    shown : (B, planes) whether the plane is used, at least one of each frame.
    both : whether there are images of both planes; else the other camera may be the same one, and rays that
        coincide have no gradient.

    """
    intrinsics, world_to_camera = (camera[:, :, None] for camera in cameras)
    alone = at_depth(center_px, depth_mm, intrinsics, world_to_camera)
    one = (alone * shown[:, :, None, None]).sum(1) / shown.sum(1)[:, None, None]
    if center_px.shape[1] == 1 or not both:
        return one
    intrinsics, world_to_camera = (camera[:, None].expand(-1, center_px.shape[2], -1, -1, -1) for camera in cameras)
    meeting = triangulate(center_px.transpose(1, 2), intrinsics, world_to_camera)
    return torch.where(shown.all(1)[:, None, None], meeting, one)


def rotation_from_6d(columns: Tensor) -> Tensor:
    """Rotations (..., 3, 3) from six numbers (..., 6), their first two columns orthonormalised (Zhou et al. 2019)."""
    rotation: Tensor = roma.special_gramschmidt(columns.unflatten(-1, (2, 3)).mT)
    return rotation


def transform(R: Tensor, translation_mm: Tensor) -> Tensor:
    """Rigid transforms (..., 4, 4) of rotations (..., 3, 3) and translations (..., 3)."""
    T: Tensor = roma.Rigid(R, translation_mm).to_homogeneous()
    return T


def inverse(T: Tensor) -> Tensor:
    """Inverses (..., 4, 4) of rigid transforms."""
    R = T[..., :3, :3].mT
    return transform(R, -(R @ T[..., :3, 3, None])[..., 0])


def farthest_first(points: Tensor, count: int) -> list[int]:
    """Indices of points (n, 3) spread over all of them, each the farthest from those before it."""
    chosen = [int(points.sum(1).argmax())]
    distance = (points - points[chosen[0]]).norm(dim=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=1))
    return chosen


def crop(images: Tensor, center_px: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cut squares out of images without resampling them.

    Parameters
    ----------
    images : (B, N, N) of any type.
    center_px : (B, K, 2) where (column, row); the squares are as near to it as whole pixels can be.
    size : edge of the squares, px.

    Returns
    -------
    crops : (B, K, size, size) of the images' type, zero outside of them.
    crop_center_px : (B, K, 2) the centre of every square, (column, row) px of the image.

    """
    first = (center_px.detach() - (size - 1) / 2).round().long()
    steps = torch.arange(size, device=images.device)
    columns, rows = (first[..., axis, None] + steps for axis in (0, 1))
    edge = images.shape[-1]
    inside = ((rows >= 0) & (rows < edge))[..., :, None] & ((columns >= 0) & (columns < edge))[..., None, :]
    batch = torch.arange(images.shape[0], device=images.device)[:, None, None, None]
    crops = images[batch, rows.clamp(0, edge - 1)[..., :, None], columns.clamp(0, edge - 1)[..., None, :]]
    return torch.where(inside, crops, torch.zeros((), dtype=images.dtype, device=images.device)), (
        first + (size - 1) / 2
    ).to(center_px.dtype)
