"""Covariance of registered poses by the sandwich estimator, and the score of agreement with the images.

Residuals of the image model are mostly not noise but structure (holders, the field, JPEG), and are correlated between
neighbouring pixels. The covariance is therefore that of a misspecified model: the sandwich estimator of Huber and
White, clustered by tiles of the image: scores are summed over each tile before they are squared (Liang and Zeger,
Biometrika 1986).
"""

import numpy as np

from veriserum_hf.core import PlaneName
from veriserum_hf.registration.intensity.equations import normal_equations
from veriserum_hf.registration.intensity.solver import Solver
from veriserum_hf.registration.scene import DOF

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

# Scores of tiles do not include errors that a whole outline shares, such as the sampling of a blurred outline by the
# pixels. In each plane an outline is assumed to be shifted, rotated and scaled by this, at the implant's radius.
_COMMON_ERROR_PX = 0.01
# An implant is opaque where it lets less light through; where it is seen at the right pose, that cannot be saturated.
_OPAQUE_THROUGH = 0.25
_CONTRADICTED = 0.5  # share of the opaque part on saturated pixels that leaves no score; right poses have 3 %


def covariances(solver: Solver) -> Tensor:
    """Sandwich covariance of a step of each pose, (F, K, 6, 6) mm^2; see `scene`."""
    scene, equations = solver.scene, solver.equations()
    apart = {plane: normal_equations([each])[0] for plane, each in equations.items()}
    inverse = torch.linalg.pinv(torch.stack(list(apart.values())).sum(0), hermitian=True)
    scores = torch.zeros_like(inverse)
    for plane, each in equations.items():
        view, fit = solver.planes[plane], solver.fits[plane]
        poses = each.poses.shape[1]
        # Derivatives with respect to the poses, with all other unknowns re-optimised.
        others = torch.linalg.solve(each.others, each.mixed).mT @ each.derivatives[:, poses:]
        derivatives = (each.derivatives[:, :poses] - others).unflatten(2, (2, -1))
        pull = (fit.weight / fit.scale[:, None] ** 2)[:, None] * fit.residual
        terms = (derivatives * pull[:, None]).sum(2)
        numbers, tile = view.tiles.unique(return_inverse=True)
        by_tile = torch.zeros(*terms.shape[:2], len(numbers)).to(terms)
        by_tile.index_add_(2, tile, terms)
        scores += by_tile @ by_tile.mT
        scores += apart[plane] @ _common_covariance(solver, plane) @ apart[plane]
    steps = inverse @ scores @ inverse
    implants = (slice(DOF * k, DOF * (k + 1)) for k in range(len(scene.implants)))
    return torch.stack([steps[:, own, own] for own in implants], dim=1)


def _common_covariance(solver: Solver, plane: PlaneName) -> Tensor:
    """Covariance of the steps, (F, 6K, 6K), for an error `_COMMON_ERROR_PX` common to an outline in one plane."""
    scene, T = solver.scene, solver.state.T_world_implant
    blocks = []
    for k in range(len(scene.implants)):
        centers_world_mm = scene.centers_world_mm(T)[:, k]
        per_frame = []
        for frame, view in enumerate(scene.views[plane]):
            ray = centers_world_mm[frame] - torch.tensor(view.camera.source_mm).to(T)
            depth_mm = ray.norm()
            ray = ray / depth_mm
            sigma_mm = _COMMON_ERROR_PX * depth_mm / np.sqrt(view.camera.intrinsics.diagonal()[:2].prod())
            along_mm = sigma_mm * depth_mm / scene.radii_mm[frame, k]
            shift = sigma_mm**2 * torch.eye(3).to(T) + (along_mm**2 - sigma_mm**2) * torch.outer(ray, ray)
            per_frame.append(torch.block_diag(shift, sigma_mm**2 * torch.eye(3).to(T)))
        blocks.append(torch.stack(per_frame))
    covariance = torch.zeros(len(T), DOF * len(blocks), DOF * len(blocks)).to(T)
    for k, block in enumerate(blocks):
        own = slice(DOF * k, DOF * (k + 1))
        covariance[:, own, own] = block
    return covariance


def agreement(solver: Solver) -> Tensor:
    """Weighted share of the image gradients that agree with each rendered implant, (F, K), 0 to 1.

    The weight of a place is the sensitivity of the rendered gradient to the pose; an outlier counts as zero. Clipped
    pixels are not compared, but an implant whose opaque part is where the image is saturated loses its score.
    """
    agreeing, total = 0.0, 0.0
    for plane, each in solver.equations().items():
        fit = solver.fits[plane]
        implants = solver.scene.radii_mm.shape[1]
        weights = (
            each.derivatives[:, : DOF * implants]
            .unflatten(2, (2, -1))
            .square()
            .sum(2)
            .unflatten(1, (implants, DOF))
            .sum(2)
        )
        used = solver.planes[plane].used[:, None] * weights / fit.scale[:, None, None] ** 2
        agreeing = agreeing + (used * fit.weight[:, None].sqrt()).sum(2)
        total = total + used.sum(2)
    contradicted = torch.stack([_contradicted(solver, plane) for plane in solver.planes]).amax(0)
    score: Tensor = (1 - contradicted / _CONTRADICTED).clamp(min=0) * torch.as_tensor(agreeing)
    return score / torch.as_tensor(total).clamp(min=1e-30)


def _contradicted(solver: Solver, plane: PlaneName) -> Tensor:
    """Share of each implant's opaque part that is saturated in a plane, (F, K)."""
    view, fit = solver.planes[plane], solver.fits[plane]
    per_mm = solver.state.log_per_mm[plane].exp()
    if view.unclipped is None:
        return torch.zeros_like(per_mm)
    found = []
    for k, lengths in enumerate(fit.lengths):
        opaque = view.pixels(torch.exp(-per_mm[:, k, None, None, None] * lengths)) < _OPAQUE_THROUGH
        found.append(view.contradicted(view.unclipped, opaque, fit.coefficients))
    return torch.stack(found, dim=1)
