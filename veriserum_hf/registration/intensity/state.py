"""Estimated quantities of a registration: poses and attenuations of a batch of frames."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from veriserum_hf.core import PlaneName
from veriserum_hf.registration.scene import Scene

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

_INITIAL_PER_MM = 0.2  # attenuation, between those of titanium and cobalt-chrome


@dataclass(frozen=True)
class State:
    """Current estimate of the optimisation.

    Attributes
    ----------
    T_world_implant : (F, K, 4, 4) float64 poses, mm.
    log_per_mm : by plane, (F, K) logarithms of attenuations.

    """

    T_world_implant: Tensor
    log_per_mm: Mapping[PlaneName, Tensor]

    def only(self, frame: int) -> "State":
        """State of a single frame."""
        log_per_mm = {plane: each[frame, None] for plane, each in self.log_per_mm.items()}
        return State(self.T_world_implant[frame, None], log_per_mm)

    def replaced(self, frame: int, other: "State") -> "State":
        """State with that of one frame replaced."""
        log_per_mm = {
            plane: with_frame(each, frame, other.log_per_mm[plane]) for plane, each in self.log_per_mm.items()
        }
        return State(with_frame(self.T_world_implant, frame, other.T_world_implant), log_per_mm)

    def where(self, first: Tensor, other: "State") -> "State":
        """State of the frames where ``first``, (F,) bool, is set, and of the others that of ``other``."""
        log_per_mm = {plane: where(first, each, other.log_per_mm[plane]) for plane, each in self.log_per_mm.items()}
        return State(where(first, self.T_world_implant, other.T_world_implant), log_per_mm)


def initial_state(scene: Scene, T_world_implant: Tensor) -> State:
    """State at initial poses, (F, K, 4, 4)."""
    log_per_mm = torch.full(T_world_implant.shape[:2], math.log(_INITIAL_PER_MM)).to(T_world_implant)
    return State(T_world_implant, dict.fromkeys(scene.views, log_per_mm))


def with_frame(batch: Tensor, frame: int, single: Tensor) -> Tensor:
    """Batch (F, ...) with one frame replaced by the only one of another, (1, ...)."""
    changed = batch.clone()
    changed[frame] = single[0]
    return changed


def where(first: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Values (F, ...) of ``a`` for the frames where ``first``, (F,) bool, is set, of ``b`` for the others."""
    return torch.where(first.view(-1, *[1] * (a.ndim - 1)), a, b)
