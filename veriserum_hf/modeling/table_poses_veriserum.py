"""Poses of the implants of a model's table, each of which it has seen in training."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_veriserum import VeriserumPoseConfig
from .geometry_veriserum import depth_scale, place_centers, project, rotation_from_6d, slopes, transform
from .inputs_veriserum import Views, possible_anatomies
from .losses_veriserum import Prediction
from .mesh_poses_veriserum import Looked
from .trust_veriserum import ray_signs, rig_numbers

# Where the central rays of the nominal rig cross, and how far that is from the sources.
_CENTER_MM, _CENTER_DEPTH_MM = (0.0, 0.0, 381.0), 1480.0
_FOCAL_MM, _FIELD_MM = 1860.0, 360.0  # of that rig
_OFFSET_PX, _DEPTH_MM, _TRANSLATION_MM = 10.0, 30.0, 50.0  # scale of the network's outputs


def spatial_poses(
    heads: nn.ModuleList,
    looked: Looked,
    views: Views,
    anatomy: Tensor,
    given: Tensor,
    table_mm: Tensor,
    config: VeriserumPoseConfig,
) -> Prediction:
    """Poses from crops around both implants.

    Parameters
    ----------
    heads : `ImplantHead` of each component.
    looked : crops and features.
    views : the planes.
    anatomy : (B, 2) index of each implant, the number of anatomies where it is to be recognised.
    given : (B, 2) the same, as the heads are to know it.
    table_mm : (anatomies, 3) centres of the implants.
    config : of the model.

    """
    cameras, shown = views.cameras, views.shown
    maps = functional.adaptive_avg_pool2d(looked.features.flatten(0, 2), config.map_size)
    maps = maps.unflatten(0, looked.features.shape[:3])
    slope = slopes(looked.center_px, cameras[0][:, :, None])
    found = [
        head(maps[:, :, implant], shown, slope[:, :, implant], given[:, implant])
        for implant, head in enumerate(heads)
    ]
    answer = {name: torch.stack([one[name] for one in found], dim=1) for name in found[0]}
    R = rotation_from_6d(answer["rotation"].double())
    center_px = looked.center_px + _OFFSET_PX * answer["offset"].double().transpose(1, 2)
    depth_mm = _CENTER_DEPTH_MM + _DEPTH_MM * answer["depth"].double().transpose(1, 2)
    # A single plane shows only how large an implant appears: its depth grows with the focal length.
    nominal_px = _FOCAL_MM * config.image_size / _FIELD_MM
    depth_mm = depth_mm * depth_scale(cameras[0][..., 0, 0], nominal_px)[:, :, None]
    center_mm = place_centers(center_px, depth_mm, cameras, shown, both=views.both)
    possible = possible_anatomies(config.anatomies, anatomy.device)
    recognised = answer["anatomy"].masked_fill(~possible, -torch.inf).argmax(-1)
    index = torch.where(anatomy < len(config.anatomies), anatomy, recognised)
    return Prediction(
        T_world_implant=transform(R, center_mm - _offset_mm(R, index, table_mm)),
        center_mm=center_mm,
        center_px=center_px,
        cameras=cameras,
        shown=shown,
        confidence=answer["confidence"],
        anatomy=index,
        anatomy_logits=answer["anatomy"],
        signs=torch.cat([answer["confidence"][..., None], ray_signs(center_px, looked.center_px, views)], dim=-1),
        rig=rig_numbers(center_px, center_mm, views),
    )


def pooled_poses(numbers: Tensor, views: Views, anatomy: Tensor, table_mm: Tensor) -> Prediction:
    """Poses from nine numbers for each implant, (B, 2, 9), of whole frames."""
    translation_mm = torch.tensor(_CENTER_MM, device=numbers.device) + _TRANSLATION_MM * numbers[..., :3]
    R = rotation_from_6d(numbers[..., 3:])
    center_mm = translation_mm + _offset_mm(R, anatomy, table_mm)
    return Prediction(
        T_world_implant=transform(R, translation_mm),
        center_mm=center_mm,
        center_px=project(center_mm[:, None], *views.cameras),
        cameras=views.cameras,
        shown=views.shown,
        confidence=torch.full(anatomy.shape, torch.nan, device=numbers.device),
        anatomy=anatomy,
    )


def _offset_mm(R: Tensor, anatomy: Tensor, table_mm: Tensor) -> Tensor:
    """Vector (B, 2, 3) in the world from an implant's origin to its centre; of an unknown one, the last one's."""
    return (R @ table_mm[anatomy.clamp(max=len(table_mm) - 1)].to(R.dtype)[..., None])[..., 0]
