"""Losses of the pose model: rotation, position in each image, points of the implant, and confidence."""

from collections.abc import Sequence
from dataclasses import dataclass

import roma
import torch
from torch import Tensor
from torch.nn import functional

from .geometry_veriserum import project
from .implants_veriserum import Shapes

CONFIDENT_MM, CONFIDENT_DEG = 2.0, 2.0  # a confidence is the probability of errors below these
_TARGET_CELLS = 1.0  # standard deviation of the coarse stage's target
_DEPTH_WEIGHT = 0.2


@dataclass
class Prediction:
    """What a head predicts for B frames.

    Attributes
    ----------
    T_world_implant : (B, 2, 4, 4).
    center_mm : (B, 2, 3) of the implants, in the world.
    center_px : (B, planes, 2, 2) of the implants, in every plane.
    cameras : intrinsics (B, planes, 3, 3) and world_to_camera (B, planes, 4, 4).
    shown : (B, planes) whether the head saw the plane.
    confidence : (B, 2) logits, or NaN.
    anatomy : (B, 2) index of the implant that the pose is of, the number of anatomies where it is unknown.
    anatomy_logits : (B, 2, anatomies).
    locator_logits : (B, planes, 2, rows, columns) of the coarse stage.
    earlier : poses like T_world_implant that were then refined.
    signs, rig : (B, 2, n) and (B, 2, 3) of `trust_veriserum.trusted`, of the spatial head.

    """

    T_world_implant: Tensor
    center_mm: Tensor
    center_px: Tensor
    cameras: tuple[Tensor, Tensor]
    shown: Tensor
    confidence: Tensor
    anatomy: Tensor
    anatomy_logits: Tensor | None = None
    locator_logits: Tensor | None = None
    earlier: Sequence[Tensor] = ()
    signs: Tensor | None = None
    rig: Tensor | None = None


def pose_losses(prediction: Prediction, labels: Tensor, shapes: Shapes, image_size: int) -> dict[str, Tensor]:
    """Losses of a batch, each the mean over implants with a label; ``loss`` is what is minimised.

    Parameters
    ----------
    prediction : of the head.
    labels : (B, 2, 4, 4) true poses, NaN where there is none.
    shapes : of the true implants.
    image_size : edge of the images, px.

    Returns
    -------
    rotation_deg : geodesic distance. point_mm : mean distance of the implant's points (ADD).
    reprojection_px : distance of the centre in the planes that are shown. The rest belongs to the spatial head.

    """
    present = labels.isfinite().all(-1).all(-1)
    # NaN has a gradient of NaN even where it is masked.
    labels = torch.where(present[..., None, None], labels, torch.eye(4, dtype=labels.dtype, device=labels.device))
    true_center_mm = shapes.centers_mm(labels)
    true_px = project(true_center_mm[:, None], *prediction.cameras)
    rotation_deg, point_mm = _pose_errors(prediction.T_world_implant, labels, shapes)
    off_px = (prediction.center_px - true_px).norm(dim=-1)
    visible = prediction.shown[:, :, None] & present[:, None]
    # A hidden plane leaves the depth undetermined; it has its own loss.
    whole = prediction.shown.all(1)[:, None] & present
    losses = {
        "rotation_deg": _mean(rotation_deg, present),
        "point_mm": _mean(point_mm, whole),
        "reprojection_px": _mean(off_px, visible),
    }
    off_mm = prediction.T_world_implant[..., :3, 3] - labels[..., :3, 3]
    if prediction.locator_logits is None:
        # The authors' own loss.
        smooth = functional.smooth_l1_loss(off_mm, torch.zeros_like(off_mm), reduction="none").mean(-1)
        losses["loss"] = _mean(smooth, present) + losses["rotation_deg"]
        return losses
    # A degree moves an implant's points by about half a millimetre, a pixel by a bit more.
    losses["loss"] = losses["rotation_deg"] / 2 + losses["point_mm"] / 2 + losses["reprojection_px"]
    for T in prediction.earlier:
        before_deg, before_mm = _pose_errors(T, labels, shapes)
        losses["loss"] = losses["loss"] + (_mean(before_deg, present) + _mean(before_mm, present)) / 4
    center_camera = _apply(prediction.cameras[1], true_center_mm[:, None].expand(-1, off_px.shape[1], -1, -1))
    depth_mm = _apply(prediction.cameras[1], prediction.center_mm[:, None].expand_as(center_camera))[..., 2]
    alone = visible & ~prediction.shown.all(1)[:, None, None] if off_px.shape[1] == 2 else visible
    losses["depth_mm"] = _mean((depth_mm - center_camera[..., 2]).abs(), alone)
    losses["locator"] = _mean(_locator_loss(prediction.locator_logits, true_px, image_size), visible)
    if prediction.anatomy_logits is not None:
        losses["identity"] = _mean(_identity_loss(prediction.anatomy_logits, prediction.anatomy), present)
    good = (off_mm.norm(dim=-1) < CONFIDENT_MM) & (rotation_deg < CONFIDENT_DEG)
    entropy = functional.binary_cross_entropy_with_logits(prediction.confidence, good.float(), reduction="none")
    losses["confidence"] = _mean(entropy.double(), present)
    losses["loss"] = (
        losses["loss"]
        + _DEPTH_WEIGHT * losses["depth_mm"]
        + losses["locator"]
        + 0.1 * losses.get("identity", 0)
        + 0.1 * losses["confidence"]
    )
    return losses


def _pose_errors(T: Tensor, labels: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor]:
    """Rotation, degrees, and mean distance of the implants' points, mm, (B, 2) each."""
    points = shapes.points_implant_mm.to(T.dtype)
    distance_mm = (_apply(T, points) - _apply(labels, points)).norm(dim=-1).mean(-1)
    return torch.rad2deg(roma.rotmat_geodesic_distance(T[..., :3, :3], labels[..., :3, :3])), distance_mm


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of the values where the weight is True; 0 where it is nowhere."""
    return torch.where(weight, values, 0.0).sum() / weight.sum().clamp(min=1)


def _identity_loss(logits: Tensor, anatomy: Tensor) -> Tensor:
    """Cross entropy (B, 2) of the implants' identities; 0 where an implant is unknown."""
    known = torch.where(anatomy < logits.shape[-1], anatomy, -100)
    losses = functional.cross_entropy(logits.flatten(0, 1), known.flatten(), reduction="none", ignore_index=-100)
    return losses.view_as(anatomy).double()


def _apply(T: Tensor, points: Tensor) -> Tensor:
    """Points (..., n, 3) moved by (..., 4, 4)."""
    return points @ T[..., :3, :3].mT + T[..., None, :3, 3]


def _locator_loss(logits: Tensor, true_px: Tensor, image_size: int) -> Tensor:
    """Cross entropy (B, planes, 2) of the coarse maps against a Gaussian about the true place."""
    rows, columns = (torch.arange(n, device=logits.device) for n in logits.shape[-2:])
    cells = (true_px + 0.5) / image_size * len(columns) - 0.5
    distance = (columns - cells[..., :1])[..., None, :] ** 2 + (rows - cells[..., 1:])[..., :, None] ** 2
    target = (-distance / (2 * _TARGET_CELLS**2)).flatten(-2).softmax(-1)
    return -(target * logits.double().flatten(-2).log_softmax(-1)).sum(-1)
