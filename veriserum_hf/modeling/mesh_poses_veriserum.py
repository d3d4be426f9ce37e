"""Poses of implants that the model is given the meshes of, which it need not have seen in training."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .configuration_veriserum import COMPONENTS, VeriserumPoseConfig
from .geometry_veriserum import place_centers, transform
from .inputs_veriserum import Views
from .mesh_head_veriserum import MeshHead, ShapeEncoder, ray_frames
from .refinement_veriserum import FineFeatures, Refiner, Seen
from .trust_veriserum import ray_signs, rig_numbers, step_signs

_DEPTH_MM, _FOCAL_MM, _FIELD_MM = 1480.0, 1860.0, 360.0  # of the nominal rig
_OFFSET_PX, _DEPTH_SHARE = 10.0, 0.02  # scale of the network's outputs


class Looked(NamedTuple):
    """Crops around the implants of B frames, and what the backbone sees in them.

    Attributes
    ----------
    crops : (B, planes, 2, size, size), standardised.
    features : (B, planes, 2, channels, rows, columns).
    center_px : (B, planes, 2, 2) of the crops, in the image.

    """

    crops: Tensor
    features: Tensor
    center_px: Tensor


class MeshAnswer(NamedTuple):
    """Poses of both implants of B frames.

    Attributes
    ----------
    stages : (B, 2, 4, 4) each, from the first pose to the last.
    center_px : (B, planes, 2, 2) of the first one.
    confidence : (B, 2) logits.
    signs, rig : (B, 2, 6) and (B, 2, 3) of `trust_veriserum.trusted`.

    """

    stages: list[Tensor]
    center_px: Tensor
    confidence: Tensor
    signs: Tensor
    rig: Tensor


class MeshPoses(nn.Module):
    """First poses from whole crops, then refined by the points of the meshes.

    Parameters
    ----------
    config : of the model.

    """

    def __init__(self, config: VeriserumPoseConfig) -> None:
        super().__init__()
        channels, width = config.map_channels, config.hidden_size
        self.steps, self.map_size = config.refinements, config.map_size
        self.nominal_px = _FOCAL_MM * config.image_size / _FIELD_MM
        self.shape = ShapeEncoder(width)
        self.first = nn.ModuleList(MeshHead(channels, config.map_size, width) for _ in COMPONENTS)
        self.fine = FineFeatures(channels, channels)
        self.refiner = Refiner(channels, width)

    def forward(self, looked: Looked, views: Views, points: Tensor, center_implant_mm: Tensor) -> MeshAnswer:
        """Predict B frames.

        Parameters
        ----------
        looked : crops and features.
        views : the planes.
        points : (B, 2, n, 6) of the implants' surfaces, mm, with normals.
        center_implant_mm : (B, 2, 3) of the implants.

        """
        cameras, shown = views.cameras, views.shown
        R_world_ray = ray_frames(looked.center_px, *(camera[:, :, None] for camera in cameras))
        # One plane shows only how large an implant appears: then its depth grows with the focal length.
        focal_px = cameras[0][..., :2, :2].diagonal(dim1=-2, dim2=-1).mean(-1)
        typical_mm = (_DEPTH_MM * focal_px / self.nominal_px)[..., None].expand(looked.center_px.shape[:3])
        meeting_mm = place_centers(looked.center_px, typical_mm, cameras, shown, both=views.both)
        scale = torch.log(typical_mm / _depth_mm(meeting_mm, cameras[1]))
        maps = nn.functional.adaptive_avg_pool2d(looked.features.flatten(0, 2), self.map_size)
        maps = maps.unflatten(0, looked.features.shape[:3])
        about_center = points - nn.functional.pad(center_implant_mm, (0, 3))[:, :, None]
        shape = self.shape(about_center)
        found = [
            head(maps[:, :, index], shown, R_world_ray[:, :, index], scale[:, :, index], shape[:, index])
            for index, head in enumerate(self.first)
        ]
        center_px = looked.center_px + _OFFSET_PX * torch.stack([one.offset for one in found], dim=2)
        depth_mm = typical_mm * (1 + _DEPTH_SHARE * torch.stack([one.depth for one in found], dim=2))
        center_mm = place_centers(center_px, depth_mm, cameras, shown, both=views.both)
        R, hidden = (torch.stack([getattr(one, name) for one in found], dim=1) for name in ("R", "hidden"))
        fine = self.fine(looked.crops.flatten(0, 2)[:, None], looked.features.flatten(0, 2))
        seen = Seen(
            maps=_by_implant(fine.unflatten(0, looked.crops.shape[:3])),
            crop_center_px=_by_implant(looked.center_px),
            crop_size=looked.crops.shape[-1],
            cameras=(_for_each_implant(cameras[0]), _for_each_implant(cameras[1])),
            R_world_ray=_by_implant(R_world_ray),
            shown=_for_each_implant(shown),
        )
        stages = [transform(R, center_mm)]
        confidence = off_px = torch.full(R.shape[:2], torch.nan, device=R.device)
        for _ in range(self.steps):
            # Each step learns to correct what the one before it has left.
            start = stages[-1].detach().flatten(0, 1)
            refined = self.refiner(start, about_center.flatten(0, 1), seen, hidden.flatten(0, 1))
            T, confidence, off_px = (value.unflatten(0, R.shape[:2]) for value in refined)
            stages.append(T)
        from_center = transform(
            torch.eye(3, dtype=R.dtype, device=R.device).expand_as(R), -center_implant_mm.double()
        )
        last = step_signs(stages[-2], stages[-1], off_px)
        signs = [confidence[..., None], ray_signs(center_px, looked.center_px, views), last]
        rig = rig_numbers(center_px, stages[-1][..., :3, 3], views)
        return MeshAnswer(
            [T @ from_center for T in stages], center_px, confidence, torch.cat(signs, dim=-1).detach(), rig.detach()
        )


def _depth_mm(points_mm: Tensor, world_to_camera: Tensor) -> Tensor:
    """Depths (B, planes, K) of points (B, K, 3) along the axes of cameras (B, planes, 4, 4)."""
    axis = world_to_camera[..., 2, :3]
    return (points_mm[:, None] * axis[:, :, None]).sum(-1) + world_to_camera[..., 2, 3, None]


def _by_implant(values: Tensor) -> Tensor:
    """Values (B, planes, 2, ...) as (B 2, planes, ...)."""
    return values.transpose(1, 2).flatten(0, 1)


def _for_each_implant(values: Tensor) -> Tensor:
    """Values (B, planes, ...) as (B 2, planes, ...)."""
    return values[:, None].expand(-1, len(COMPONENTS), *values.shape[1:]).flatten(0, 1)
