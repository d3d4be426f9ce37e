"""How far a pose can be trusted: signs of doubt, and probabilities that were fitted to them on other frames.

A network's own confidence knows the world that it was trained in. Other signs do not depend on it: whether the rays
of both planes meet, whether the planes' own rotations agree, how far the last step still moved, and how much the
displacements of surface points contradict each other. `Trust` weighs them. It is fitted to frames that the network
has not seen, and kept in the configuration of a checkpoint.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .checkpoint_veriserum import TRUST_FIELDS
from .geometry_veriserum import slopes
from .inputs_veriserum import Views

_LEAST_PX, _LEAST_MM, _LEAST_DEG = 0.1, 0.05, 0.1  # below, a sign says no more
_MOST = 5.0  # standard deviations of a sign that count


def ray_signs(center_px: Tensor, located_px: Tensor, views: Views) -> Tensor:
    """Logarithms of two signs (B, 2, 2): distance of both rays, mm; farthest that a crop missed the implant, px.

    Parameters
    ----------
    center_px, located_px : (B, planes, 2, 2) where the implants are seen, and where they were looked for.
    views : the planes.

    """
    shown = views.shown[:, :, None]
    missed_px = ((center_px - located_px).norm(dim=-1) * shown).amax(1)
    if center_px.shape[1] == 1 or not views.both:
        apart_mm = torch.zeros_like(missed_px)
    else:
        source_mm, ray = _rays(center_px, views)
        normal = torch.nn.functional.normalize(torch.linalg.cross(ray[:, 0], ray[:, 1]), dim=-1)
        apart_mm = ((source_mm[:, 1] - source_mm[:, 0]) * normal).sum(-1).abs()
        apart_mm = torch.where(views.shown.all(1)[:, None], apart_mm, torch.zeros_like(apart_mm))
    return torch.stack([torch.log(apart_mm + _LEAST_MM), torch.log(missed_px + _LEAST_PX)], dim=-1)


def step_signs(before: Tensor, after: Tensor, off_px: Tensor) -> Tensor:
    """Logarithms of three signs (B, 2, 3): rotation and length of the last step, and what it left contradicting.

    Parameters
    ----------
    before, after : (B, 2, 4, 4) poses of centres around the last step.
    off_px : (B, 2) root mean square displacement of points that it left.

    """
    # The chord of the angle: ONNX Runtime has no arc functions in float64.
    turned_deg = torch.rad2deg((after - before)[..., :3, :3].flatten(-2).norm(dim=-1) / math.sqrt(2))
    moved_mm = (after[..., :3, 3] - before[..., :3, 3]).norm(dim=-1)
    return torch.stack(
        [torch.log(turned_deg + _LEAST_DEG), torch.log(moved_mm + _LEAST_MM), torch.log(off_px + _LEAST_PX)], dim=-1
    )


def rig_numbers(center_px: Tensor, center_mm: Tensor, views: Views) -> Tensor:
    """What a model may not have been trained for, (B, 2, 3): cosine between the rays, least and largest scale.

    Parameters
    ----------
    center_px, center_mm : (B, planes, 2, 2) and (B, 2, 3) of the implants.
    views : the planes. A scale is the logarithm of px for a mm at the implant.

    """
    intrinsics, world_to_camera = views.cameras
    depth_mm = (center_mm[:, None] * world_to_camera[:, :, None, 2, :3]).sum(-1) + world_to_camera[:, :, None, 2, 3]
    scale = torch.log(intrinsics[:, :, None, 0, 0] / depth_mm)
    shown = views.shown[:, :, None]
    least = torch.where(shown, scale, torch.full_like(scale, math.inf)).amin(1)
    most = torch.where(shown, scale, torch.full_like(scale, -math.inf)).amax(1)
    _, ray = _rays(center_px, views)
    return torch.stack([(ray[:, 0] * ray[:, -1]).sum(-1), least, most], dim=-1)


def trusted(fitted: Mapping[str, Any], signs: Tensor, rig: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Confidence and doubt, (B, 2) each, and (B, 2) whether poses are to be trusted.

    Parameters
    ----------
    fitted : ``means`` and ``deviations`` of the signs, weights of ``confidence`` and ``doubt`` with a constant last,
        the ``limit`` of a doubt that can be trusted, ``low`` and ``high`` of the rig's numbers.
    signs, rig : (B, 2, n) and (B, 2, 3) of an implant.

    """
    values = {name: torch.tensor(fitted[name], dtype=torch.float64, device=signs.device) for name in TRUST_FIELDS}
    scaled = ((signs - values["means"]) / values["deviations"]).clamp(-_MOST, _MOST)
    confidence, doubt = (
        (scaled @ values[name][:-1] + values[name][-1]).sigmoid() for name in ("confidence", "doubt")
    )
    inside = ((rig >= values["low"]) & (rig <= values["high"])).all(-1)
    return confidence, doubt, (doubt <= values["limit"]) & inside


def _rays(px: Tensor, views: Views) -> tuple[Tensor, Tensor]:
    """Sources (B, planes, 1, 3), mm, and directions (B, planes, K, 3) of rays through pixels (B, planes, K, 2)."""
    intrinsics, world_to_camera = views.cameras
    axes = world_to_camera[..., :3, :3]
    slope = slopes(px, intrinsics[:, :, None])
    ray = torch.cat([slope, torch.ones_like(slope[..., :1])], dim=-1) @ axes
    source_mm = -(world_to_camera[..., None, :3, 3] @ axes)
    return source_mm, torch.nn.functional.normalize(ray, dim=-1)
