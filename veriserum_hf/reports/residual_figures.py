"""Figures of frames that were left out of an adjustment of cameras: residual fields, and misfits, as SVG."""

from typing import Literal

import numpy as np

from veriserum_hf.calibration import Cells, RefinedRig
from veriserum_hf.core import FloatArray, PlaneName
from veriserum_hf.reports.pages import Axes, Figure, magnification, svg_url
from veriserum_hf.reports.rig_figures import REFINED

# isort: split
from matplotlib.colors import LogNorm
from matplotlib.image import AxesImage

_ARROW = 0.8  # of a cell, an arrow of root mean square length at most
_RANGE = (0.01, 2.0)  # px, of the colours
_STATES: tuple[tuple[Literal["before", "after"], str], ...] = (("before", "stored"), ("after", "refined"))


def residual_fields(rig: RefinedRig) -> str:
    """Mean displacements from outlines to edges over the images of all planes, by stored and refined cameras."""
    planes = list(rig.before)
    figure = Figure(figsize=(9.5, 0.7 + 4.2 * len(planes)), layout="constrained")
    axes = figure.subplots(len(planes), 2, squeeze=False)
    shown: AxesImage | None = None
    for row, plane in zip(axes, planes, strict=True):
        for ax, (state, name) in zip(row, _STATES, strict=True):
            shown = _draw_field(ax, rig, plane, state)
            ax.set_ylabel(f"{plane}: row, px")
            ax.set_title(f"{plane}, {name}: {ax.get_title()}", fontsize=10)
    if shown is not None:
        figure.colorbar(shown, ax=axes, label="length of the mean displacement, px", shrink=0.7, format="{x:g}")
    return svg_url(figure)


def misfits(rig: RefinedRig) -> str:
    """Misfit of each frame by refined cameras against that by stored ones."""
    of_frames = rig.details["left_out_misfits_px"]
    before, after = (np.array(of_frames[state], dtype=float) for state, _ in _STATES)
    figure = Figure(figsize=(5.2, 4.8), layout="constrained")
    ax = figure.subplots()
    ax.plot(before, after, "o", ms=5, color=REFINED, alpha=0.7)
    known = np.concatenate([before, after])[np.isfinite(np.concatenate([before, after]))]
    if len(known):
        ends = np.array([0.8 * max(known.min(), 1e-3), 1.25 * max(known.max(), 2e-3)])
        ax.plot(ends, ends, color="0.4", lw=1)
        ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
    ax.set(xlabel="misfit by the stored cameras, px", ylabel="misfit by cameras refined without the frame, px")
    ax.set_aspect("equal")
    ax.grid(alpha=0.3)
    ax.set_title("frames below the line fit the refined cameras better", fontsize=10)
    return svg_url(figure)


def _draw_field(ax: Axes, rig: RefinedRig, plane: PlaneName, state: Literal["before", "after"]) -> AxesImage:
    vectors_px = _vectors(rig.details["residual_fields"][plane][state])
    rows, columns = rig.before[plane].image_shape
    lengths = np.linalg.norm(vectors_px, axis=2)
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    shown = ax.imshow(lengths, cmap="YlGnBu", norm=LogNorm(*_RANGE), extent=extent, alpha=0.75)
    known = np.isfinite(lengths)
    ax.set(xlim=extent[:2], ylim=extent[2:], xlabel="column, px")
    if not known.any():
        ax.set_title("no outlines", fontsize=10)
        return shown
    cell = np.array([columns / lengths.shape[1], rows / lengths.shape[0]])
    factor = magnification(float(np.sqrt((lengths[known] ** 2).mean())), _ARROW * float(cell.min()))
    at = (np.argwhere(known)[:, ::-1] + 0.5) * cell - 0.5
    ax.quiver(*at.T, *vectors_px[known].T, angles="xy", scale_units="xy", scale=1 / factor, pivot="mid", width=0.005)
    ax.set_title(f"median {np.median(lengths[known]):.2g} px; arrows {factor:g} x", fontsize=10)
    return shown


def _vectors(cells: Cells) -> FloatArray:
    """Displacements (rows, columns, 2), NaN where there is no outline."""
    return np.array([[(np.nan, np.nan) if cell is None else cell for cell in row] for row in cells], dtype=float)
