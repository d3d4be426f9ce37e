"""Residual fields: displacements of cells from residuals along normals alone."""

import numpy as np

from veriserum_hf.registration.cameras.left_out import CELLS, add_residuals, displacement_px
from veriserum_hf.registration.outline.residuals import Residuals
from veriserum_hf.rendering import ContourPieces


def residuals(px, normals, residual_px):
    n = len(px)
    pieces = ContourPieces(np.zeros((n, 3)), px, normals, np.ones(n))
    return Residuals(
        pieces=pieces,
        ends=np.ones(n, bool),
        residual_px=residual_px,
        by_step=np.zeros((n, 6)),
        by_log_attenuation=np.zeros(n),
        slope=np.ones(n),
        visible=np.ones(n, bool),
        clipped=np.zeros(n, bool),
    )


def test_a_displacement_comes_back_from_its_residuals_along_all_normals_and_along_one():
    rng = np.random.default_rng(0)
    angle, true_px = rng.uniform(0, 2 * np.pi, 400), np.array([0.3, -0.2])
    normals = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    normals[200:] = (1.0, 0.0)
    px = np.concatenate([rng.uniform(0, 9, (200, 2)), rng.uniform(90, 99, (200, 2))])
    sums = np.zeros((CELLS, CELLS, 6))
    own = residuals(px, normals, normals @ true_px)
    own.residual_px[:20] = np.nan  # no edge there
    add_residuals(sums, own, np.zeros(2, int), (100, 100))
    np.testing.assert_allclose(displacement_px(sums[0, 0]), true_px, atol=1e-3)
    np.testing.assert_allclose(displacement_px(sums[-1, -1]), (0.3, 0), atol=1e-3)
    assert displacement_px(sums[0, -1]) is None
