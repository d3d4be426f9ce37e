"""Refinement of a pose by points of the implant's surface, seen where the pose puts them in every plane.

A network says for each point in each plane by how many pixels it should move, and how certain that is. The pose then
follows from all of them by least squares with the exact cameras, so that it does not matter how the planes stand.
"""

from typing import NamedTuple

import roma
import torch
from torch import Tensor, nn
from torch.nn import functional

from .geometry_veriserum import transform
from .heads_veriserum import convolution
from .mesh_head_veriserum import LENGTH_MM
from .precision_veriserum import SinglePrecision

_FLOW_PX = 4.0  # scale of the network's outputs
_DAMPING = 0.01  # px^2 for a mm^2 and for a rotation of 1 mm at LENGTH_MM; an image shows about 3
_ALONG_LONE_RAY = 0.03  # of it along the ray of a plane that is alone, where an image shows about 0.001
_CONTEXT = 2 + 1  # numbers about the last step


class Seen(NamedTuple):
    """Where B implants are looked at in all planes.

    Attributes
    ----------
    maps : (B, planes, channels, rows, columns) features of the crops.
    crop_center_px : (B, planes, 2) of the crops, in the image.
    crop_size : their edge, px.
    cameras : intrinsics (B, planes, 3, 3) and world_to_camera (B, planes, 4, 4).
    R_world_ray : (B, planes, 3, 3) of the rays through the crops' centres.
    shown : (B, planes) whether there is that plane.

    """

    maps: Tensor
    crop_center_px: Tensor
    crop_size: int
    cameras: tuple[Tensor, Tensor]
    R_world_ray: Tensor
    shown: Tensor


class FineFeatures(SinglePrecision):
    """Features of crops at a quarter of their resolution, which also know the backbone's coarse ones.

    Parameters
    ----------
    channels : of the backbone's maps.
    width : of the features.

    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(1, width // 2, stride=2), convolution(width // 2, width, stride=2))
        self.coarse = nn.Conv2d(channels, width, 1)
        self.layers = nn.Sequential(*(convolution(width, width, dilation=dilation) for dilation in (1, 2, 4, 1)))

    def forward(self, crops: Tensor, maps: Tensor) -> Tensor:
        """Features (N, width, size / 4, size / 4) of crops (N, 1, size, size) with maps (N, channels, ...)."""
        fine = self.stem(crops.float())
        coarse = functional.interpolate(self.coarse(maps.float()), fine.shape[-2:], mode="bilinear")
        features: Tensor = self.layers(fine + coarse)
        return features


class Refiner(SinglePrecision):
    """Moves poses to where the points of their implants are seen.

    Parameters
    ----------
    features : channels of `FineFeatures`.
    hidden : width of the vectors of first poses.
    width : of the network.

    """

    def __init__(self, features: int, hidden: int, width: int = 128) -> None:
        super().__init__()
        self.of_point = nn.Linear(features + 6, width)
        self.of_first = nn.Linear(hidden, width)
        self.context = nn.Linear(2 * width, width)
        self.mixed = nn.Linear(width, width)
        self.outputs = nn.Linear(width, 4)
        self.trusted = nn.Sequential(nn.Linear(width + _CONTEXT, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, T: Tensor, points: Tensor, seen: Seen, hidden: Tensor) -> "Refined":
        """One step.

        Parameters
        ----------
        T : (B, 4, 4) poses of the implants, from their centres to the world.
        points : (B, n, 6) of the surface, mm from the centre, with normals.
        seen : maps and cameras.
        hidden : (B, planes, hidden) of the first pose.

        """
        R, center_mm, R_ray = T[..., :3, :3], T[..., :3, 3], seen.R_world_ray
        arm_mm, normal = points[..., :3].double() @ R.mT, points[..., 3:].double() @ R.mT
        in_ray = torch.cat([(arm_mm / LENGTH_MM)[:, None] @ R_ray, normal[:, None] @ R_ray], dim=-1)
        px, J = projected(arm_mm, center_mm, seen.cameras)
        cells = 2 * (px - seen.crop_center_px[:, :, None]) / seen.crop_size
        with torch.autocast(T.device.type, enabled=False):
            sampled = functional.grid_sample(
                seen.maps.float().flatten(0, 1), cells.float().flatten(0, 1)[:, None], align_corners=False
            )[:, :, 0].mT.unflatten(0, cells.shape[:2])
            each = self.of_point(torch.cat([sampled, in_ray.float()], dim=-1))
            each = functional.gelu(each + self.of_first(hidden)[:, :, None])
            context = self.context(torch.cat([each.amax(2), each.mean(2)], dim=-1))
            each = functional.gelu(self.mixed(each) + context[:, :, None])
            outputs = self.outputs(each)
            flow_px, weight = _FLOW_PX * outputs[..., :2].double(), outputs[..., 2:].double().sigmoid()
            inside = (cells.abs() < 1).all(-1) & seen.shown[..., None]
            weight = weight * inside[..., None]
            step, off_px = least_squares(J, flow_px, weight, damping_of(R_ray, seen.shown))
            numbers = torch.cat([step.unflatten(-1, (2, 3)).norm(dim=-1), off_px[..., None]], dim=-1)
            share = seen.shown[..., None].float()
            known = (functional.gelu(context) * share).sum(1) / share.sum(1)
            trust = self.trusted(torch.cat([known, numbers.float().detach()], dim=-1))[..., 0]
        turned = roma.rotvec_to_rotmat(step[..., :3] / LENGTH_MM) @ R
        return Refined(transform(turned, center_mm + step[..., 3:]), trust, off_px)


class Refined(NamedTuple):
    """After a step: poses (B, 4, 4), logits (B,) of confidence, and (B,) px by which planes and points disagree."""

    T_world_implant: Tensor
    confidence: Tensor
    off_px: Tensor


def projected(arm_mm: Tensor, center_mm: Tensor, cameras: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Pixels (B, planes, n, 2) of points, and how they move with the pose, (B, planes, n, 2, 6) px for a mm.

    Of the six, the first three are a rotation about the centre in mm at `LENGTH_MM`, the others a translation.
    """
    intrinsics, R_world_to_camera = cameras[0][:, :, None], cameras[1][..., :3, :3]
    world_mm = (arm_mm + center_mm[:, None])[:, None]
    in_camera = world_mm @ R_world_to_camera.mT + cameras[1][..., None, :3, 3]
    depth = in_camera[..., 2:]
    homogeneous = (intrinsics @ in_camera[..., None])[..., 0]
    px = homogeneous[..., :2] / homogeneous[..., 2:]
    # d px / d camera = (K's first rows - px times its last one) / depth
    by_camera = (intrinsics[..., :2, :] - px[..., None] * intrinsics[..., 2:, :]) / depth[..., None]
    by_world = by_camera @ R_world_to_camera[:, :, None]
    by_rotation = torch.linalg.cross((arm_mm[:, None, :, None] / LENGTH_MM).expand_as(by_world), by_world)
    return px, torch.cat([by_rotation, by_world], dim=-1)


def damping_of(R_world_ray: Tensor, shown: Tensor) -> Tensor:
    """What holds a step back, (B, 6, 6); hardly anything does along the ray of a plane that is ``shown`` alone."""
    alone = shown & (shown.sum(1, keepdim=True) == 1)
    ray = (R_world_ray[..., 2] * alone[..., None]).sum(1)
    eye = torch.eye(6, dtype=ray.dtype, device=ray.device)
    along = functional.pad(ray, (3, 0))
    return _DAMPING * (eye - (1 - _ALONG_LONE_RAY) * along[:, :, None] * along[:, None])


def least_squares(J: Tensor, flow_px: Tensor, weight: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Damped steps (B, 6) that move points by ``flow_px``, and the root mean square px that they leave, (B,)."""
    J, flow_px, weight = J.flatten(1, -2), flow_px.flatten(1), weight.flatten(1)
    weighted = J * weight[..., None] / J.shape[1]
    normal = weighted.mT @ J + damping
    right = (weighted.mT @ flow_px[..., None])[..., 0]
    step = _solved(normal, right)
    left = flow_px - (J @ step[..., None])[..., 0]
    off_px = ((weight * left.square()).sum(1) / weight.sum(1).clamp(min=1e-6)).clamp(min=1e-12).sqrt()
    return step, off_px


def _solved(A: Tensor, b: Tensor) -> Tensor:
    """Solutions (..., n) of symmetric positive definite systems; an exported graph has no other way."""
    rows = torch.cat([A, b[..., None]], dim=-1)
    unit = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    for k in range(A.shape[-1]):
        pivot = rows[..., k : k + 1, :] / rows[..., k : k + 1, k : k + 1]
        rows = rows - (rows[..., :, k : k + 1] - unit[:, k : k + 1]) * pivot
    return rows[..., -1]
