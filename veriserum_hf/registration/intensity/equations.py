"""A plane's image model at a state, and its normal equations."""

from collections.abc import Iterable
from dataclasses import dataclass

from veriserum_hf.registration.intensity.state import where

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error


@dataclass(frozen=True)
class Fit:
    """Model of one plane's image at a state, and its residuals.

    Attributes
    ----------
    lengths : path lengths by implant, (F, rows, columns) of rays, mm.
    exponent : (F, rows, columns), sum of attenuation times path length.
    regressors : (F, C, 2S) gradients of the light and of the scatter, float64.
    coefficients : (F, C) of the regressors.
    residual : (F, 2, S) observed gradient less modelled.
    weight : (F, S) robust weights, 0 to 1.
    scale : (F,) robust standard deviation of a residual.
    cost : (F,), to be minimised.

    """

    lengths: tuple[Tensor, ...]
    exponent: Tensor
    regressors: Tensor
    coefficients: Tensor
    residual: Tensor
    weight: Tensor
    scale: Tensor
    cost: Tensor

    def where(self, first: Tensor, other: "Fit") -> "Fit":
        """Fit of the frames where ``first``, (F,) bool, is set, and of the others that of ``other``."""
        if first.all():
            return self
        return Fit(
            tuple(where(first, *each) for each in zip(self.lengths, other.lengths, strict=True)),
            where(first, self.exponent, other.exponent),
            where(first, self.regressors, other.regressors),
            where(first, self.coefficients, other.coefficients),
            where(first, self.residual, other.residual),
            where(first, self.weight, other.weight),
            where(first, self.scale, other.scale),
            where(first, self.cost, other.cost),
        )


@dataclass(frozen=True)
class Equations:
    """Normal equations of one plane: the unknowns are 6K steps of the poses, and those of this plane alone.

    Attributes
    ----------
    poses : (F, 6K, 6K).
    mixed : (F, C, 6K).
    others : (F, C, C): logarithms of K attenuations, then coefficients of the fields.
    right_poses, right_others : (F, 6K, 1) and (F, C, 1).
    derivatives : (F, 6K + C, 2S) of the modelled gradients with respect to each unknown (Jacobian).

    """

    poses: Tensor
    mixed: Tensor
    others: Tensor
    right_poses: Tensor
    right_others: Tensor
    derivatives: Tensor


def normal_equations(equations: Iterable[Equations]) -> tuple[Tensor, Tensor]:
    """Matrix (F, 6K, 6K) and right side (F, 6K, 1) of the poses alone, summed over the planes."""
    matrix, right = 0.0, 0.0
    for each in equations:
        others = torch.linalg.solve(each.others, torch.cat([each.mixed, each.right_others], dim=2))
        matrix = matrix + each.poses - each.mixed.mT @ others[..., :-1]
        right = right + each.right_poses - each.mixed.mT @ others[..., -1:]
    return torch.as_tensor(matrix), torch.as_tensor(right)
