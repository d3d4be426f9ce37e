"""Fit an intensifier's distortion to one frame of the bead-grid phantom.

Millimetres are counted in the phantom's own frame: X right and Y up from its centre, with the orientation bead of the
lab's phantom at the upper left. If the phantom was rotated by phi on the intensifier, the fitted map contains that
rotation: its mm are the intensifier's, rotated by -phi.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from veriserum_hf.calibration.beads import find_beads
from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.calibration.distortion_forms import FormFit, best_form, fit_forms
from veriserum_hf.calibration.distortion_map import RAW_HEIGHT_PX, RAW_WIDTH_PX
from veriserum_hf.calibration.orientation import rotation_deg
from veriserum_hf.calibration.phantom_files import SIPLA_GRID, load_grid_phantom
from veriserum_hf.calibration.phantoms import GridPhantom
from veriserum_hf.calibration.placement import index_beads, lattice_in_field
from veriserum_hf.core import BoolArray, FloatArray, Grey, IndexArray
from veriserum_hf.errors import CalibrationError

Powers = Sequence[tuple[int, int]]

_STORED = [(i, j) for i in range(4) for j in range(4)]  # powers of u and v, in the stored text's order
_DEGREE_5 = [(i, j) for i in range(6) for j in range(6 - i)]
_BOTH = [(i, j) for i in range(7) for j in range(7 - i)]  # holds both, whatever the orientation of the axes
_DEGREE_9 = [(i, j) for i in range(10) for j in range(10 - i)]  # holds what a real intensifier's field has more
_UNIT_MM = 150.0  # powers of so many mm are of the order of one
_REJECTED = 5.0  # standard deviations; one good bead in 270,000 is farther off
_ROUNDS = 6
_MOST_OUTLIERS = 0.05  # of the beads
_CERTAIN = 3.0  # standard errors by which the other model must predict better
_MUCH_CLOSER = 0.8  # of the deviations from `_BOTH`: beads that are nearer to degree 9 are not of these powers


@dataclass(frozen=True)
class GridFit:
    """A distortion fitted to a frame of the bead grid, with its uncertainty.

    Distances are those in the plane: a root mean square is that of |(x, y)|, not of one axis.

    Attributes
    ----------
    distortion : raw px of a 1664 x 1600 frame to mm in the phantom's own frame.
    beads_px : (n, 2) centres of the beads that were fitted, in px of a 1664 x 1600 frame.
    beads_index : (n, 2) their indices on the phantom, in steps of its lattice, first along X; see `true_mm`.
    residuals_mm : (n, 2) fitted minus true position.
    beads_expected : beads of the phantom that lie wholly within this frame's field, by the fit.
    outliers : beads found on the lattice that lie too far off to be fitted.
    rotation_deg : of the phantom in the frame, counter-clockwise, -180 to 180; see `upright`.
    covariance : (2, 16, 16) of the coefficients of X and of Y, scaled by the residuals.
    degree5_residual_mm_rms : residual of the alternative u^i v^j, i + j <= 5, which the stored text cannot hold.
    cv_mm_rms, degree5_cv_mm_rms : how far off each model predicts a bead that it was not fitted to (leave one out).
    recommendation : of these two: "degree 5" if it predicts significantly better, else "stored".
    forms : the stored form and polynomials of every total degree, compared with each other; see `fit_forms`.
    chosen : the one of them to be used: a polynomial where it predicts beads significantly better, else "stored".
    phantom : that the frame shows.

    """

    distortion: Distortion
    beads_px: FloatArray = field(repr=False)
    beads_index: IndexArray = field(repr=False)
    residuals_mm: FloatArray = field(repr=False)
    beads_expected: int
    outliers: int
    rotation_deg: float
    covariance: FloatArray = field(repr=False)
    degree5_residual_mm_rms: float
    cv_mm_rms: float
    degree5_cv_mm_rms: float
    recommendation: Literal["stored", "degree 5"]
    forms: tuple[FormFit, ...] = field(repr=False)
    chosen: FormFit = field(repr=False)
    phantom: GridPhantom

    @property
    def beads_found(self) -> int:
        """Beads that were fitted."""
        return len(self.beads_px)

    @property
    def true_mm(self) -> FloatArray:
        """Positions (n, 2) of the fitted beads on the phantom."""
        return self.phantom.positions_mm(self.beads_index)

    @property
    def residual_mm_rms(self) -> float:
        """Root mean square distance of a fitted bead from its true position."""
        return _rms(self.residuals_mm)

    @property
    def upright(self) -> bool:
        """Whether the phantom was mounted, and the frame stored, so that its mm are the intensifier's.

        The phantom is its own mirror image about a diagonal: one that is mounted back to front, or a frame that is
        stored mirrored, looks like a phantom rotated by 90 degrees to the left or right, and is not upright.
        """
        return abs(self.rotation_deg) < 45

    def mapped_std_mm(self, xy_px: ArrayLike) -> FloatArray:
        """Standard deviation (n,) of the mm that raw px (n, 2) are mapped to: sqrt(var X + var Y).

        It covers noise only. It excludes the polynomial's own error far from every bead, and the displacement of the
        beads by uneven light, one or two thousandths of a millimetre.
        """
        terms = _terms(_uv_mm(np.asarray(xy_px, dtype=np.float64), self.distortion), _STORED)
        return np.asarray(np.sqrt(((terms @ self.covariance.sum(axis=0)) * terms).sum(axis=1)))


def fit_bead_grid(frame: Grey, phantom: GridPhantom | None = None) -> GridFit:
    """Fit the distortion of the intensifier that took a frame of a grid phantom.

    Parameters
    ----------
    frame : (rows, columns) uint8 or uint16, raw; any size and shape. Frames of the lab's phantom have the proportions
        of 1664 x 1600, whose field they show.
    phantom : in the frame, see `load_grid_phantom`; if None, the lab's ``sipla_grid``.

    Raises
    ------
    CalibrationError
        If the frame does not show the phantom so that every bead is identified with certainty, or if the beads do
        not fit a smooth distortion. The message states what was found and the way out.

    """
    phantom = phantom or load_grid_phantom(SIPLA_GRID)
    beads = find_beads(frame, phantom)
    indexed = index_beads(beads, phantom)
    # The stored form counts the pixels of every frame as if it were resized to one of this size.
    to_raw = np.array([RAW_WIDTH_PX, RAW_HEIGHT_PX]) / beads.size_px
    xy_px = (beads.center_px[indexed.bead] + 0.5) * to_raw - 0.5
    true_mm = phantom.positions_mm(indexed.phantom_index)
    found_deg = rotation_deg(beads.center_px[indexed.bead], true_mm)
    along_grid = _similarity(xy_px, true_mm)
    kept, std_mm = _inliers(_uv_mm(xy_px, along_grid), true_mm, beads.std_px[indexed.bead], _BOTH)
    closer = _inliers(_uv_mm(xy_px, along_grid), true_mm, beads.std_px[indexed.bead], _DEGREE_9)
    if np.median(closer[1]) < _MUCH_CLOSER * np.median(std_mm):  # else the rim of such a field were outliers
        kept, std_mm = closer
    outliers = int(np.count_nonzero(~kept))
    decisive = phantom.indices(phantom.extra if phantom.rotation_deg is None else ())
    if outliers > _MOST_OUTLIERS * len(kept) or _any_of(indexed.phantom_index[~kept], decisive):
        raise CalibrationError(
            f"{outliers} of {len(kept)} {phantom.spots}, or the orientation bead, do not fit a smooth distortion; "
            "give a frame of an undamaged grid phantom"
        )
    xy_px, true_mm, weight = xy_px[kept], true_mm[kept], 1 / std_mm[kept]
    degree_5 = _fit(_uv_mm(xy_px, along_grid), true_mm, weight, _DEGREE_5)
    # What powers up to 3 of u and v can represent depends on the orientation of their axes.
    along_frame = _along_frame(along_grid)
    axes, stored = along_grid, _fit(_uv_mm(xy_px, along_grid), true_mm, weight, _STORED)
    other = _fit(_uv_mm(xy_px, along_frame), true_mm, weight, _STORED)
    if _gain(other, stored, weight) > 0:
        axes, stored = along_frame, other
    x_coefficients, y_coefficients = (tuple(map(float, column)) for column in stored.coefficients.T)
    distortion = replace(axes, x_coefficients=x_coefficients, y_coefficients=y_coefficients)
    forms = fit_forms(xy_px, true_mm, std_mm[kept], distortion)
    inverse = _fit(true_mm, xy_px, weight, _DEGREE_5).coefficients
    all_px = (_terms(phantom.spots_mm, _DEGREE_5) @ inverse + 0.5) / to_raw - 0.5
    expected = (
        int(np.count_nonzero(beads.visible(all_px)))
        if phantom.bounded
        else lattice_in_field(beads, indexed.bead, indexed.phantom_index)
    )
    return GridFit(
        distortion=distortion,
        beads_px=xy_px,
        beads_index=indexed.phantom_index[kept],
        residuals_mm=stored.residuals,
        beads_expected=expected,
        outliers=outliers,
        rotation_deg=found_deg,
        covariance=stored.covariance,
        degree5_residual_mm_rms=_rms(degree_5.residuals),
        cv_mm_rms=_rms(stored.held_out),
        degree5_cv_mm_rms=_rms(degree_5.held_out),
        recommendation="degree 5" if _gain(degree_5, stored, weight) > _CERTAIN else "stored",
        forms=forms,
        chosen=best_form(forms, true_mm, std_mm[kept]),
        phantom=phantom,
    )


def _any_of(index: IndexArray, others: IndexArray) -> bool:
    """Whether one of indices (n, 2) is one of others (m, 2)."""
    return bool((index[:, None] == others).all(axis=2).any())


class _Model(NamedTuple):
    """Two polynomials fitted to beads."""

    coefficients: FloatArray  # (terms, 2)
    covariance: FloatArray  # (2, terms, terms)
    residuals: FloatArray  # (n, 2)
    held_out: FloatArray  # (n, 2) residual of each bead by a fit to all others


def _fit(at_mm: FloatArray, values: FloatArray, weight: FloatArray, powers: Powers) -> _Model:
    """Least squares with beads (n, 2), and what they are to be mapped to, weighted by 1 / standard deviation."""
    unit = np.array([_UNIT_MM ** -(i + j) for i, j in powers])
    terms = _terms(at_mm, powers) * unit
    # Normal equations lose nothing in these units. einsum, as BLAS would wait for threads longer than it works.
    weighted = terms * weight[:, None]
    inverse = np.linalg.inv(np.einsum("ni,nj->ij", weighted, weighted))
    coefficients = inverse @ (weighted.T @ (values * weight[:, None]))
    residuals = terms @ coefficients - values
    leverage = np.einsum("ni,ij,nj->n", weighted, inverse, weighted)
    variance = ((residuals * weight[:, None]) ** 2).sum(axis=0) / (len(terms) - len(powers))
    covariance = variance[:, None, None] * (inverse * np.outer(unit, unit))
    return _Model(coefficients * unit[:, None], covariance, residuals, residuals / (1 - leverage)[:, None])


def _terms(uv_mm: FloatArray, powers: Powers) -> FloatArray:
    """(n, terms) u^i v^j."""
    of_u, of_v = np.transpose(powers)
    highest = max(map(max, powers))
    u, v = (np.vander(axis, highest + 1, increasing=True) for axis in uv_mm.T)
    return np.asarray(u[:, of_u] * v[:, of_v])


def _similarity(xy_px: FloatArray, true_mm: FloatArray) -> Distortion:
    """Scale, rotation and translation that map raw px best to mm: the S, R and T of the stored text."""
    slope, offset = np.polyfit(xy_px @ (1, -1j), true_mm @ (1, 1j), 1)
    cosine, sine = float(slope.real / abs(slope)), float(slope.imag / abs(slope))
    zeros = (0.0,) * 16
    return Distortion(
        zeros, zeros, float(abs(slope)), (float(offset.real), float(offset.imag)), (cosine, -sine, sine, cosine)
    )


def _along_frame(similarity: Distortion) -> Distortion:
    """The same with u and v along the frame's axes."""
    rotation = np.reshape(similarity.rotation, (2, 2))
    return replace(similarity, rotation=(1.0, 0.0, 0.0, 1.0), translation=tuple(similarity.translation @ rotation))


def _uv_mm(xy_px: FloatArray, distortion: Distortion) -> FloatArray:
    rotation = np.reshape(distortion.rotation, (2, 2))
    return np.asarray(distortion.scale * (xy_px * (1, -1)) @ rotation.T + distortion.translation)


def _inliers(
    uv_mm: FloatArray, true_mm: FloatArray, std_px: FloatArray, powers: Powers
) -> tuple[BoolArray, FloatArray]:
    """Beads that agree with the fit, and the standard deviation, mm, of each bead along either axis.

    The variance is the sum of a multiple of that from the noise around each bead, which is larger at the dark rim,
    and of one that is equal for all beads, such as the phantom's tolerance; the residuals determine both shares.
    """
    kept, std_mm = np.ones(len(uv_mm), dtype=bool), np.ones(len(uv_mm))
    parts = np.stack([std_px**2, np.full(len(std_px), np.mean(std_px**2))], axis=1)
    for _ in range(_ROUNDS):
        model = _fit(uv_mm[kept], true_mm[kept], 1 / std_mm[kept], powers)
        off_mm = np.hypot(*(_terms(uv_mm, powers) @ model.coefficients - true_mm).T)
        # The median of a Rayleigh distribution is 1.18 standard deviations, and outliers hardly move it.
        std_mm *= np.median(off_mm / std_mm) / np.sqrt(2 * np.log(2))
        kept = off_mm < _REJECTED * std_mm
        variance = std_mm[kept] ** 2
        shares = nnls(parts[kept] / variance[:, None], off_mm[kept] ** 2 / 2 / variance)[0]
        std_mm = np.sqrt(parts @ shares)
    return kept, std_mm


def _gain(one: _Model, other: _Model, weight: FloatArray) -> float:
    """Standard errors by which a model predicts held-out beads better than another."""
    gain = weight**2 * ((other.held_out**2).sum(axis=1) - (one.held_out**2).sum(axis=1))
    return float(gain.mean() / gain.std() * np.sqrt(len(gain)))


def _rms(off_mm: FloatArray) -> float:
    return float(np.sqrt((off_mm**2).sum(axis=1).mean()))
