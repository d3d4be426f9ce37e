"""From the maps of a crop in every plane and the shape of the implant to a first pose, for any rig.

A plane's answer is in the frame of its own ray: a camera at the same place whose axis goes through the centre of the
crop. What an image shows of a rotation depends on this frame alone, not on where the camera stands. All planes share
their weights; each also receives what the other one sees, and how its ray frame is turned against its own.
"""

from typing import NamedTuple

import roma
import torch
from torch import Tensor, nn
from torch.nn import functional

from .geometry_veriserum import slopes
from .precision_veriserum import SinglePrecision

LENGTH_MM = 50.0  # about the size of an implant
_GEOMETRY = 9 + 1


class FirstPose(NamedTuple):
    """What planes answer for B frames.

    Attributes
    ----------
    R : (B, 3, 3) of the implant in the world.
    offset, depth : (B, planes, 2) and (B, planes), numbers of the order of one.
    hidden : (B, planes, width) what the answer was made from.

    """

    R: Tensor
    offset: Tensor
    depth: Tensor
    hidden: Tensor


def ray_frames(px: Tensor, intrinsics: Tensor, world_to_camera: Tensor) -> Tensor:
    """Rotations (..., 3, 3) from the frames of the rays through pixels (..., 2) to the world."""
    slope = slopes(px, intrinsics)
    ray = functional.normalize(torch.cat([slope, torch.ones_like(slope[..., :1])], dim=-1), dim=-1)
    x, y, z = ray.unbind(-1)
    zero = torch.zeros_like(x)
    # The smallest rotation of the camera's axis (0, 0, 1) into the ray.
    K = torch.stack([zero, zero, x, zero, zero, y, -x, -y, zero], dim=-1).unflatten(-1, (3, 3))
    R = torch.eye(3, dtype=px.dtype, device=px.device) + K + K @ K / (1 + z)[..., None, None]
    R_world_ray: Tensor = world_to_camera[..., :3, :3].mT @ R
    return R_world_ray


class ShapeEncoder(SinglePrecision):
    """From points of a surface with normals, (..., points, 6) mm about the centre, to one vector (..., width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_point = nn.Sequential(
            nn.Linear(6, 64), nn.GELU(), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, width), nn.GELU()
        )
        self.of_shape = nn.Linear(2 * width, width)

    def forward(self, points: Tensor) -> Tensor:
        """Vectors of shapes."""
        with torch.autocast(points.device.type, enabled=False):
            found = self.of_point(torch.cat([points[..., :3] / LENGTH_MM, points[..., 3:]], dim=-1).float())
            vector: Tensor = self.of_shape(torch.cat([found.amax(-2), found.mean(-2)], dim=-1))
        return vector


class MeshHead(SinglePrecision):
    """From the maps of all planes to the first pose of one implant.

    Parameters
    ----------
    channels, map_size : of the maps.
    width : of the head.

    """

    def __init__(self, channels: int, map_size: int, width: int) -> None:
        super().__init__()
        self.of_plane = nn.Linear(channels * map_size**2, width)
        self.hidden_plane = nn.Parameter(torch.zeros(width))
        self.geometry = nn.Linear(_GEOMETRY, width)
        self.layers = nn.Sequential(
            nn.LayerNorm(4 * width), nn.Linear(4 * width, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.outputs = nn.Linear(width, 6 + 2 + 1)

    def forward(self, maps: Tensor, shown: Tensor, R_world_ray: Tensor, scale: Tensor, shape: Tensor) -> FirstPose:
        """Predict for B frames.

        Parameters
        ----------
        maps : (B, planes, channels, map_size, map_size).
        shown : (B, planes) whether there is that plane.
        R_world_ray : (B, planes, 3, 3) from the frames of the rays through the centres of the crops.
        scale : (B, planes) logarithm of px for a mm, against the nominal rig; 0 where it is unknown.
        shape : (B, width) of `ShapeEncoder`.

        """
        # Half precision would round a rotation to a fifth of a degree.
        with torch.autocast(maps.device.type, enabled=False):
            seen = functional.gelu(self.of_plane(maps.float().flatten(2)))
            seen = torch.where(shown[..., None], seen, self.hidden_plane)
            # With one plane, the other is a hidden one.
            others = seen.flip(1) if seen.shape[1] == 2 else self.hidden_plane.expand_as(seen)
            turned = R_world_ray.mT @ R_world_ray.flip(1)
            geometry = torch.cat([turned.flatten(2), 5 * scale[..., None]], dim=-1).float()
            geometry = torch.where(shown.all(1)[:, None, None], geometry, torch.zeros_like(geometry))
            shapes = shape[:, None].expand_as(seen)
            hidden = self.layers(torch.cat([seen, others, shapes, self.geometry(geometry)], dim=-1))
            columns, offset, depth = self.outputs(hidden).double().split([6, 2, 1], dim=-1)
        # Longer columns count more: that is how a plane says how well it sees the rotation.
        in_world = R_world_ray @ columns.unflatten(-1, (2, 3)).mT
        in_world = (in_world * shown[..., None, None]).sum(1)
        return FirstPose(roma.special_gramschmidt(in_world), offset, depth[..., 0], hidden)
