"""Derivatives of the modelled gradients of one plane, with respect to poses and attenuations.

A path length is discontinuous where a face is parallel to the ray. A derivative by a pose is therefore a central
difference of renderings, which captures such a step. But three motions of six need none: if an implant rotates about
the source, its image moves as a whole, and the derivative is the slope of the image along its motion.
"""

import numpy as np

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import Camera
from veriserum_hf.registration.intensity.boxes import Box, box_of_lengths
from veriserum_hf.registration.intensity.equations import Fit
from veriserum_hf.registration.intensity.gradients import PlaneGradients
from veriserum_hf.registration.scene import DOF, Scene

try:
    import torch
    from torch import Tensor
    from torch.nn import functional
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

_RENDERED = 3  # motions
_WITHIN_MM = 0.05  # accuracy of their meshes: errors are the same in both renderings of a difference
_DIFFERENCE_PX = 0.8  # between the two renderings of a difference, at the implant's radius, in pixels of the scale


class _Motions:
    """Six motions of an implant before a camera: two tilts, a shift along the ray, and rotations about the source.

    Attributes
    ----------
    steps_mm : (6, 6) each as a step of `scene`, one a row.

    """

    def __init__(self, camera: Camera, center_mm: FloatArray, radius_mm: float) -> None:
        self._camera = camera
        ray = center_mm - camera.source_mm
        self._distance_mm, self._radius_mm = float(np.linalg.norm(ray)), radius_mm
        self._ray = ray / self._distance_mm
        self._across = np.linalg.svd(self._ray[None])[2][1:]
        turn, nothing = radius_mm / self._distance_mm, np.zeros(3)
        self.steps_mm = np.array(
            [
                *(np.concatenate([nothing, axis]) for axis in self._across),
                np.concatenate([self._ray, nothing]),
                *(np.concatenate([np.cross(axis, self._ray), turn * axis]) for axis in self._across),
                np.concatenate([nothing, self._ray]),
            ]
        )

    def flows(self, box: Box) -> FloatArray:
        """Motion of the image by rotations about the source, (3, 2, rows, columns): columns and rows, px per mm."""
        (fx, fy), (cx, cy) = self._camera.intrinsics.diagonal()[:2], self._camera.intrinsics[:2, 2]
        x, y = np.meshgrid((np.arange(box.left, box.right) - cx) / fx, (np.arange(box.top, box.bottom) - cy) / fy)
        turns = np.vstack([self._across / self._distance_mm, self._ray / self._radius_mm])
        a, b, c = (turns @ self._camera.world_to_camera[:3, :3].T).T[:, :, None, None]
        along = a * y - b * x
        return np.stack([fx * (b - c * y - x * along), fy * (c * x - a - y * along)], axis=1)


def by_poses(scene: Scene, view: PlaneGradients, fit: Fit, T_world_implant: Tensor, per_mm: Tensor) -> list[Tensor]:
    """Derivatives of the gradients by the steps of each implant, (F, 6, 2S) per mm, with attenuations (F, K)."""
    light, centers_mm = view.light(fit.coefficients), scene.centers_world_mm(T_world_implant).cpu().numpy()
    half_mm = _DIFFERENCE_PX * min(float(np.sqrt(each.pixel_mm.prod())) for each in view.views) / 2
    found = []
    for k, component in enumerate(scene.implants):
        seen = zip(view.cameras, centers_mm[:, k], scene.radii_mm[:, k].tolist(), strict=True)
        motions = [_Motions(*each) for each in seen]
        steps_mm = torch.tensor(np.stack([each.steps_mm for each in motions])).to(T_world_implant)
        both_ways = torch.zeros(len(motions), 2 * _RENDERED, len(scene.implants), DOF).to(steps_mm)
        both_ways[:, :, k] = half_mm * torch.cat([steps_mm[:, :_RENDERED], -steps_mm[:, :_RENDERED]], dim=1)
        moved = scene.moved(T_world_implant, both_ways)[:, :, k]
        box, lengths = view.lengths_around(component, moved, _WITHIN_MM)
        here, exponent = (box.of(each, view.rays) for each in (fit.lengths[k], fit.exponent))
        per_mm_k = per_mm[:, k].float()[:, None, None, None]
        others = torch.exp(per_mm_k * here - exponent)
        through = view.pixels(others * torch.exp(-per_mm_k * lengths))
        by_rendering = (through[:, :_RENDERED] - through[:, _RENDERED:]) / (2 * half_mm)
        flows = torch.tensor(np.stack([each.flows(box) for each in motions])).to(light)
        slopes = view.pixels(others * _slopes(torch.exp(-per_mm_k * here))) * view.rays
        by_flow = -(slopes[:, None] * flows).sum(2)
        gradients = view.gradients(box.of(light) * torch.cat([by_rendering, by_flow], dim=1), box)
        found.append(torch.linalg.solve(steps_mm, gradients.flatten(2).double()))
    return found


def by_attenuations(view: PlaneGradients, fit: Fit, per_mm: Tensor) -> Tensor:
    """Derivatives of the gradients by the logarithm of each attenuation (F, K), (F, K, 2S)."""
    found, light = [], view.light(fit.coefficients)
    for k, lengths in enumerate(fit.lengths):
        box = box_of_lengths(lengths, view.rays)
        here, exponent = (box.of(each, view.rays) for each in (lengths, fit.exponent))
        by_log = view.pixels(-per_mm[:, k].float()[:, None, None, None] * here * torch.exp(-exponent))
        found.append(view.gradients(box.of(light) * by_log, box).flatten(2))
    return torch.cat(found, dim=1).double()


def _slopes(images: Tensor) -> Tensor:
    """Slopes along columns and along rows of images (F, 1, rows, columns), (F, 2, rows, columns)."""
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    by_column, by_row = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2], padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.cat([by_column, by_row], dim=1) / 2
