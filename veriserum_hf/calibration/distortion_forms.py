"""Which form of a distortion fits the beads of a frame: the stored one, or a polynomial of a total degree.

Forms are compared by how well they predict beads of whole regions that they were not fitted to (cross-validation in
blocks): one that has too many powers for the beads predicts the rim badly.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.polynomial import chebyshev

from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.calibration.distortion_map import DistortionMap
from veriserum_hf.calibration.polynomial_distortion import PolynomialDistortion, powers_of
from veriserum_hf.core import FloatArray, IndexArray

STORED = "stored"
DEGREES = (4, 5, 6, 7, 8, 9)
_BLOCK_MM = 24.0  # edge of a region that is left out: three beads of a 7 mm grid, wider than what only one bead sees
_FOLDS = 10
_CERTAIN = 3.0  # standard errors by which a polynomial must predict better than the stored form


@dataclass(frozen=True)
class FormFit:
    """One form fitted to the beads of a frame.

    Distances are those in the plane: a root mean square is that of |(x, y)|, not of one axis.

    Attributes
    ----------
    form : "stored", or "degree 4" to "degree 9".
    distortion : the fitted map.
    residuals_mm : (n, 2) fitted minus true position.
    held_out_mm : (n, 2) the same by a fit without the beads of the block that a bead lies in.

    """

    form: str
    distortion: DistortionMap
    residuals_mm: FloatArray = field(repr=False)
    held_out_mm: FloatArray = field(repr=False)

    @property
    def residual_mm_rms(self) -> float:
        """Root mean square distance of a fitted bead from its true position."""
        return float(np.sqrt((self.residuals_mm**2).sum(axis=1).mean()))

    @property
    def residual_mm_max(self) -> float:
        """Largest distance of a fitted bead from its true position."""
        return float(np.hypot(*self.residuals_mm.T).max())

    @property
    def cv_mm_rms(self) -> float:
        """Root mean square distance of a bead from where a fit without its block predicts it."""
        return float(np.sqrt((self.held_out_mm**2).sum(axis=1).mean()))


def fit_forms(xy_px: FloatArray, true_mm: FloatArray, std_mm: FloatArray, stored: Distortion) -> tuple[FormFit, ...]:
    """Fit polynomials of every degree, next to the stored form, to beads.

    Parameters
    ----------
    xy_px : (n, 2) raw px of the beads.
    true_mm : (n, 2) where they are.
    std_mm : (n,) standard deviation of a bead along either axis.
    stored : the stored form, fitted to the same beads.

    Returns
    -------
    The stored form, then the degrees that do not fold over inside the raw frame.

    """
    _, fold = _blocks(true_mm)
    weight = 1 / std_mm
    terms = np.asarray(chebyshev.chebvander2d(*_uv(xy_px, stored), (3, 3)), dtype=np.float64)
    held_out_mm = _fit(terms, true_mm, weight, fold)[1]
    of_stored = FormFit(STORED, stored, stored.to_mm(xy_px) - true_mm, held_out_mm)
    return (of_stored, *_polynomials(xy_px, true_mm, weight, fold))


def best_form(forms: tuple[FormFit, ...], true_mm: FloatArray, std_mm: FloatArray) -> FormFit:
    """The form to be used: a polynomial where it predicts significantly better than the stored form, else that.

    Of the polynomials it is the one of the lowest degree that predicts as well as the best, within one standard
    error.
    """
    stored, *polynomials = forms
    block, _ = _blocks(true_mm)
    if not polynomials:
        return stored
    best = min(polynomials, key=lambda form: float(((form.held_out_mm / std_mm[:, None]) ** 2).sum()))
    chosen = next(form for form in polynomials if _gain(best, form, std_mm, block) <= 1)
    return chosen if _gain(chosen, stored, std_mm, block) > _CERTAIN else stored


def _gain(one: FormFit, other: FormFit, std_mm: FloatArray, block: IndexArray) -> float:
    """Standard errors by which a form predicts beads better than another; neighbours in a block err together."""
    gain = ((other.held_out_mm**2).sum(axis=1) - (one.held_out_mm**2).sum(axis=1)) / std_mm**2
    of_block = np.bincount(block, gain)
    spread = float(np.sqrt(((of_block - of_block.mean()) ** 2).sum()))
    return float(of_block.sum()) / spread if spread > 0 else 0.0


def _blocks(true_mm: FloatArray) -> tuple[IndexArray, IndexArray]:
    """Number of each bead's block (n,), and the fold that leaves it out; no two blocks of a fold touch."""
    place = np.floor(true_mm / _BLOCK_MM).astype(np.intp)
    _, block = np.unique(place, axis=0, return_inverse=True)
    return block.ravel(), (place[:, 0] + 3 * place[:, 1]) % _FOLDS


def _uv(xy_px: FloatArray, stored: Distortion) -> tuple[FloatArray, FloatArray]:
    """The stored form's axes u and v of beads, scaled to between -1 and 1."""
    uv_mm = xy_px * (1, -1) @ np.reshape(stored.rotation, (2, 2)).T * stored.scale + stored.translation
    low, high = uv_mm.min(axis=0), uv_mm.max(axis=0)
    u, v = ((2 * uv_mm - low - high) / (high - low)).T
    return u, v


def _polynomials(xy_px: FloatArray, true_mm: FloatArray, weight: FloatArray, fold: IndexArray) -> Iterator[FormFit]:
    center_px = (xy_px.min(axis=0) + xy_px.max(axis=0)) / 2
    radius_px = float(np.hypot(*(xy_px - center_px).T).max())
    s, t = ((xy_px - center_px) / (radius_px, -radius_px)).T
    i, j = np.transpose(powers_of(DEGREES[-1]))
    # Products of Chebyshev polynomials span the same as those of powers, and normal equations lose nothing.
    terms = chebyshev.chebvander(s, DEGREES[-1])[:, i] * chebyshev.chebvander(t, DEGREES[-1])[:, j]
    for degree in DEGREES:
        of_degree = terms[:, i + j <= degree]
        coefficients, held_out_mm = _fit(of_degree, true_mm, weight, fold)
        x_mm, y_mm = (_powers(of_axis, degree) for of_axis in coefficients.T)
        center = (float(center_px[0]), float(center_px[1]))
        distortion = PolynomialDistortion(degree, center, radius_px, x_mm, y_mm)
        if not distortion.folds():
            yield FormFit(f"degree {degree}", distortion, distortion.to_mm(xy_px) - true_mm, held_out_mm)


def _powers(coefficients: FloatArray, degree: int) -> tuple[float, ...]:
    """Coefficients of powers, of those of products of Chebyshev polynomials."""
    i, j = np.transpose(powers_of(degree))
    square = np.zeros((degree + 1, degree + 1))
    square[i, j] = coefficients
    to_powers = np.zeros_like(square)
    for k in range(degree + 1):
        to_powers[: k + 1, k] = chebyshev.cheb2poly(np.eye(degree + 1)[k][: k + 1])
    return tuple((to_powers @ square @ to_powers.T)[i, j].tolist())


def _fit(
    terms: FloatArray, true_mm: FloatArray, weight: FloatArray, fold: IndexArray
) -> tuple[FloatArray, FloatArray]:
    """Coefficients (terms, 2) of a weighted fit to all beads; residuals (n, 2) by fits without a bead's fold."""
    # einsum, as BLAS would wait for threads longer than it works.
    weighted, values = terms * weight[:, None], true_mm * weight[:, None]
    in_fold = [fold == number for number in np.unique(fold)]
    grams = np.stack([np.einsum("ni,nj->ij", weighted[one], weighted[one]) for one in in_fold])
    moments = np.stack([weighted[one].T @ values[one] for one in in_fold])
    gram, moment = grams.sum(axis=0), moments.sum(axis=0)
    held_out_mm = np.empty_like(true_mm)
    for one, own, own_moment in zip(in_fold, grams, moments, strict=True):
        held_out_mm[one] = terms[one] @ np.linalg.solve(gram - own, moment - own_moment) - true_mm[one]
    return np.linalg.solve(gram, moment), held_out_mm
