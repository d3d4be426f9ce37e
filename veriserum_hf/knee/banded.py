"""Symmetric positive definite systems of equations in which each block has two neighbours."""

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

from veriserum_hf.core import FloatArray


class Banded:
    """Block-tridiagonal matrix, factorised.

    Parameters
    ----------
    diagonal : (n, k, k) blocks on the diagonal.
    below : (n - 1, k, k) blocks below them: row i + 1, column i.

    """

    def __init__(self, diagonal: FloatArray, below: FloatArray) -> None:
        self._diagonal, self._below = diagonal, below
        count, k = diagonal.shape[:2]
        bands = np.zeros((2 * k, count, k))
        for column in range(k):
            bands[: k - column, :, column] = diagonal[:, column:, column].T
            bands[k - column : 2 * k - column, :-1, column] = below[:, :, column].T
        self._factor = cholesky_banded(bands.reshape(2 * k, count * k), lower=True)

    def solve(self, right: FloatArray) -> FloatArray:
        """Solution (n, k) for a right side (n, k)."""
        return np.asarray(cho_solve_banded((self._factor, True), right.ravel()).reshape(right.shape))

    def inverse_blocks(self) -> FloatArray:
        """Blocks (n, k, k) on the diagonal of the inverse."""
        reduced = self._diagonal.copy()
        gains = np.empty_like(self._below)
        for i, below in enumerate(self._below):
            gains[i] = np.linalg.solve(reduced[i], below.T)
            reduced[i + 1] -= below @ gains[i]
        inverse = np.asarray(np.linalg.inv(reduced), dtype=np.float64)
        for i in range(len(self._below) - 1, -1, -1):
            inverse[i] += gains[i] @ inverse[i + 1] @ gains[i].T
        return inverse
