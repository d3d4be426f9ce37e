"""Open field of an image within a window: a polynomial of the pixels' columns and rows."""

import numpy as np
from numpy.typing import NDArray

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise ImportError('registration needs torch: pip install "veriserum-hf[train]"') from error

_ORDER = 3


class Polynomials:
    """Products of powers of row and column up to an order, in windows of F frames.

    Columns and rows range from -1 to 1 over each frame's own window: other frames of the batch have no effect.

    Parameters
    ----------
    shape : rows and columns of the arrays that the windows are in.
    extent : (F, 2) columns and rows of each window.
    device : of the tensors.

    """

    def __init__(self, shape: tuple[int, int], extent: NDArray[np.int64], device: torch.device) -> None:
        exponents = torch.arange(_ORDER + 1, device=device)
        self._powers, self._slopes = [], []  # of rows and columns, (F, order + 1, pixels)
        for count, pixels in zip(shape, torch.from_numpy(extent.T[::-1].copy()).to(device), strict=True):
            per_pixel = 2 / (pixels[:, None, None] - 1).float()
            at = per_pixel * torch.arange(count, device=device) - 1
            self._powers.append(at ** exponents[:, None])
            self._slopes.append(per_pixel * exponents[:, None] * at ** (exponents - 1).clamp(min=0)[:, None])
        self._row_powers, self._column_powers = np.array(
            [(i, j) for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i)]
        ).T

    def expansion(self, rows: slice, columns: slice) -> list[Tensor]:
        """Values of each polynomial in some rows and columns, and its slopes along columns and rows, (F, C, ...)."""
        (by_rows, row_slopes), (by_columns, column_slopes) = (
            (powers[..., where], slopes[..., where])
            for powers, slopes, where in zip(self._powers, self._slopes, (rows, columns), strict=True)
        )
        pairs = ((by_rows, by_columns), (by_rows, column_slopes), (row_slopes, by_columns))
        return [
            down[:, self._row_powers, :, None] * across[:, self._column_powers, None, :] for down, across in pairs
        ]

    def sums(self, coefficients: Tensor) -> Tensor:
        """Sum of the polynomials by the first of coefficients (F, C), (F, rows, columns)."""
        weights = coefficients.new_zeros(len(coefficients), _ORDER + 1, _ORDER + 1, dtype=self._powers[0].dtype)
        weights[:, self._row_powers, self._column_powers] = coefficients[:, : len(self._row_powers)].to(weights.dtype)
        found: Tensor = self._powers[0].mT @ weights @ self._powers[1]
        return found
