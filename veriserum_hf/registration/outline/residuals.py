"""Residuals of the outline of one implant in one plane, and what they weigh."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.registration.outline.kernels import robust_weights, supported
from veriserum_hf.rendering import ContourPieces

_LEAST_MAD_PX = 0.15
_MAX_SLOPE = 1.5  # times the median: a cable is no better evidence than an implant
_INDEPENDENT_PX = 8.0  # along an outline: nearer residuals are correlated
EDGE_PX = 0.2  # standard deviation, a priori, of the error that all edges of an outline share
_LOG_STIFFNESS = 1.0  # prior on the logarithm of an attenuation, at the first one


@dataclass(frozen=True, eq=False)
class Residuals:
    """Residuals of the outline of one implant in one plane.

    Attributes
    ----------
    pieces : n pieces of outline that can be seen, and of edges inside it.
    ends : (n,) whether the shadow of the implant ends there; opaque metal shows no edges inside it.
    residual_px : (n,) distance to the edge less that of the rendering; NaN where there is no edge.
    by_step : (n, 6) derivative of the outline's place, px per mm of a step.
    by_log_attenuation : (n,) derivative of the rendering's edge.
    slope : (n,) of the edges.
    visible : (n,) False where the image is missing.
    clipped : (n,) whether pixels next to the edge are clipped, so that it may be elsewhere.

    """

    pieces: ContourPieces
    ends: BoolArray
    residual_px: FloatArray
    by_step: FloatArray
    by_log_attenuation: FloatArray
    slope: FloatArray
    visible: BoolArray
    clipped: BoolArray

    def weights(self) -> FloatArray:
        """Weight of every piece, (n,), that sum to one; 0 without an edge.

        Edges inside the shadow count by how many of them the image has: where opaque metal has none, those near by
        are others.
        """
        return self._weights

    @cached_property
    def _weights(self) -> FloatArray:
        weight = robust_weights(self.residual_px, self.slope, self.pieces.length_px, _LEAST_MAD_PX, _MAX_SLOPE)
        weight[~self.ends] *= self.support(~self.ends)
        weight /= max(weight.sum(), 1e-12)
        return weight

    def support(self, of: BoolArray | None = None) -> float:
        """Share of the visible pieces, or of some of them, that have an edge where it must be, 0 to 1.

        An edge counts in full at its place, half at 0.64 px from it.
        """
        return supported(self.residual_px, self.pieces.length_px, self.visible if of is None else self.visible & of)

    def shared(self, *, with_edge: bool) -> tuple[FloatArray, FloatArray]:
        """Derivatives of residuals with respect to what a whole outline shares, and their stiffness a priori.

        That is the logarithm of the attenuation, and the error of edges if wanted: (n, 1 or 2) and (1 or 2,), for
        weights that sum to one.
        """
        columns = np.column_stack([self.by_log_attenuation, np.ones(len(self.residual_px))])
        stiffness = np.array([_LOG_STIFFNESS, 1 / EDGE_PX**2]) / self.information()
        wanted = 2 if with_edge else 1
        return columns[:, :wanted], stiffness[:wanted]

    def information(self) -> float:
        """Of all residuals of an outline about their mean: independent ones, by their variance, per px^2."""
        used = self.weights() > 0
        spread_px = max(1.5 * float(np.median(np.abs(self.residual_px[used]))), _LEAST_MAD_PX)
        independent = max(float(self.pieces.length_px[used].sum()) / _INDEPENDENT_PX, 1.0)
        return independent / spread_px**2
