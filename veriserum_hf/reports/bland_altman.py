"""Bland-Altman figure of the joint's coordinates: differences against means, with limits of agreement."""

from collections.abc import Sequence

import numpy as np

from veriserum_hf.evaluation import Agreement
from veriserum_hf.knee import COORDINATE_NAMES, COORDINATES, JointPairs
from veriserum_hf.reports.pages import Axes, Figure

_POINT, _LINE = "#0072B2", "#D55E00"  # of Okabe and Ito, safe for colour-blind readers
_MANY = 2_000  # points, from which they are drawn smaller


def bland_altman(pairs: JointPairs, agreement: Sequence[Agreement]) -> Figure:
    """Six panels, one point a frame; bias and limits as lines, with their 95 % intervals where there are any.

    Parameters
    ----------
    pairs : coordinates by both sources.
    agreement : of each coordinate, in the same order.

    """
    figure = Figure(figsize=(11.0, 6.0), layout="constrained", dpi=100)
    panels = figure.subplots(2, 3).ravel()
    middle = pairs.second + pairs.differences / 2
    for ax, name, x, y, one in zip(panels, COORDINATES, middle.T, pairs.differences.T, agreement, strict=True):
        # Points of ten thousand frames as an image: as shapes they would be megabytes.
        size = 2 if len(x) > _MANY else 8
        ax.scatter(x, y, s=size, color=_POINT, alpha=0.5, lw=0, rasterized=True)
        _line(ax, one["bias"], one["bias_interval_95"], "-")
        intervals = one["limits_intervals_95"] or (None, None)
        for limit, interval in zip(one["limits_95"] or (), intervals, strict=False):
            _line(ax, limit, interval, "--")
        ax.set(xlabel=f"mean: {COORDINATE_NAMES[name]}", ylabel="difference")
        ax.grid(alpha=0.3)
        reach = 1.3 * max(np.abs(y).max(), *map(abs, one["limits_95"] or (0.0,)), 1e-6)
        ax.set_ylim(-reach, reach)
    return figure


def _line(ax: Axes, at: float, interval: Sequence[float] | None, style: str) -> None:
    ax.axhline(at, color=_LINE, ls=style, lw=1.2)
    if interval is not None:
        ax.axhspan(*interval, color=_LINE, alpha=0.15, lw=0)
