"""Page about a calibration: images, residuals, and the uncertainty of the result."""

import os
from collections.abc import Sequence

import numpy as np

from veriserum_hf.calibration import (
    RAW_HEIGHT_PX,
    RAW_WIDTH_PX,
    DualObservation,
    GridFit,
    Observation,
    RigFit,
    SourceFit,
    grid_lines,
)
from veriserum_hf.core import FloatArray, Grey
from veriserum_hf.geometry import px_to_mm
from veriserum_hf.reports.pages import (
    BAD,
    GOOD,
    Axes,
    Figure,
    draw_histogram,
    draw_text,
    draw_vectors,
    frame_mm,
    new_page,
    save_page,
)
from veriserum_hf.reports.source_page import source_page

_CORRECTED_PX = 1000
_SHOWN_ROWS = 4  # of beads: lattice lines through every fourth row
_ARROW = 5 / 7  # of the distance between beads
_LENS = np.array([(12, 8), (18, 14)]) / 22  # lower left and upper right of the enlarged inset, of the half extent
_LENS_AXES = (0.64, 0.02, 0.34, 0.34)


def draw_distortion_report(frame: Grey, fit: GridFit, path: str | os.PathLike[str], *, title: str) -> None:
    """Write a page about a distortion's fit as a PNG of ``PAGE_PX``; parameters as `distortion_page`.

    Raises
    ------
    VeriserumError
        If the file cannot be written.

    """
    save_page(distortion_page(frame, fit, title=title), path)


def draw_source_report(
    fit: SourceFit | RigFit,
    observations: Sequence[Observation | DualObservation],
    path: str | os.PathLike[str],
    *,
    title: str,
) -> None:
    """Write a page about a fit of sources as a PNG of ``PAGE_PX``; parameters as `source_page`.

    Raises
    ------
    VeriserumError
        If the file cannot be written.

    """
    save_page(source_page(fit, observations, title=title), path)


def distortion_page(frame: Grey, fit: GridFit, *, title: str) -> Figure:
    """Draw raw and corrected frame, the beads, their residuals and the figures of a distortion's fit.

    Parameters
    ----------
    frame : (rows, columns) uint8 or uint16, the raw frame that was fitted.
    fit : `veriserum_hf.calibration.fit_bead_grid` of it.
    title : of the page.

    """
    figure = new_page(title)
    (raw, corrected, beads), (vectors, histogram, text) = figure.subplots(2, 3)
    _draw_raw(raw, frame, fit)
    _draw_corrected(corrected, frame, fit)
    _draw_beads(beads, frame, fit)
    factor = draw_vectors(vectors, fit.true_mm, fit.residuals_mm, _ARROW * fit.phantom.pitch_mm)
    vectors.set_title(f"residuals: fitted - true position, {factor:g} times magnified", size=12)
    off_mm = np.hypot(*fit.residuals_mm.T)
    draw_histogram(histogram, {"": off_mm}, fit.residual_mm_rms, "distance of a bead from its true position, mm")
    warnings = []
    if not fit.upright:
        warnings = [
            "NOT UPRIGHT: mm are along the phantom's axes, not the intensifier's. Repeat with the phantom upright.",
            "",
        ]
    explained = [
        "",
        "residual: fitted minus true bead positions; mostly image noise",
        "map: uncertainty of a pixel's mm from noise; the accuracy of the calibration",
        "arrows: a systematic pattern is distortion that the polynomial does not model",
        "mm: x right and y up from the phantom's centre; the intensifier's axes if it is upright",
    ]
    numbers = [line for line in grid_lines(fit) if not line.startswith("distortion")]  # too long for a page
    draw_text(text, [*numbers, *explained], columns=60, warnings=warnings)
    return figure


def _draw_raw(ax: Axes, frame: Grey, fit: GridFit) -> None:
    # Similarity that best maps the phantom to the frame: remaining differences are distortion.
    slope, offset = np.polyfit(fit.true_mm @ (1, 1j), fit.beads_px @ (1, -1j), 1)

    def to_px(xy_mm: FloatArray) -> FloatArray:
        px = slope * (xy_mm @ (1, 1j)) + offset
        return np.stack([px.real, -px.imag], axis=1)

    lens = ax.inset_axes(_LENS_AXES)
    for part, rows in ((ax, _SHOWN_ROWS), (lens, 1)):
        _show_raw(part, frame)
        for line in _lattice_mm(fit, rows):
            part.plot(*to_px(line).T, color="tab:orange", lw=0.7)
    lens_mm = _LENS * _half_mm(fit)
    center_px, half_px = to_px(lens_mm.mean(axis=0)[None])[0], abs(slope) * np.ptp(lens_mm[:, 0]) / 2
    _look_at(ax, lens, np.array([center_px + (-half_px, half_px), center_px + (half_px, -half_px)]))
    ax.set_title("raw, with the best-fitting square lattice", size=12)


def _draw_corrected(ax: Axes, frame: Grey, fit: GridFit) -> None:
    corrected = fit.distortion.correct(frame, _CORRECTED_PX)
    (left, top), (right, bottom) = px_to_mm([(-0.5, -0.5), (_CORRECTED_PX - 0.5,) * 2], _CORRECTED_PX).tolist()
    lens = ax.inset_axes(_LENS_AXES)
    for part, rows in ((ax, _SHOWN_ROWS), (lens, 1)):
        part.imshow(corrected, cmap="gray", vmin=0, vmax=_white(frame), extent=(left, right, bottom, top))
        for line in _lattice_mm(fit, rows):
            part.plot(*line.T, color="tab:cyan", lw=0.7)
    frame_mm(ax)
    _look_at(ax, lens, _LENS * _half_mm(fit))
    ax.set_title("corrected, with the phantom's lattice", size=12)


def _look_at(ax: Axes, lens: Axes, corners: FloatArray) -> None:
    """Set the inset to the region between the lower left and the upper right corner."""
    (left, bottom), (right, top) = corners.tolist()
    lens.set(xlim=(left, right), ylim=(bottom, top), xticks=(), yticks=(), xlabel="", ylabel="")
    ax.indicate_inset_zoom(lens, edgecolor="white", alpha=1)
    lens.spines[:].set_color("white")


def _draw_beads(ax: Axes, frame: Grey, fit: GridFit) -> None:
    _show_raw(ax, frame)
    fitted = set(map(tuple, fit.beads_index.tolist()))
    not_fitted = np.array([tuple(place) not in fitted for place in fit.phantom.index.tolist()], dtype=bool)
    others_px = fit.distortion.to_px(fit.phantom.spots_mm[not_fitted])
    missing = max(0, fit.beads_expected - fit.beads_found - fit.outliers)
    ax.plot(*fit.beads_px.T, ".", ms=3, color=GOOD, label=f"{fit.beads_found} fitted")
    others = f"{fit.outliers} outliers, {missing} not found or outside the field"
    ax.plot(*others_px.T, "o", ms=7, mfc="none", color=BAD, label=others)
    ax.legend(loc="lower center", fontsize=10, framealpha=0.9)
    ax.set_title(f"beads: {fit.beads_expected} in the field", size=12)


def _half_mm(fit: GridFit) -> float:
    """Half the extent of the phantom, or, where it has no known border, of its fitted spots."""
    return fit.phantom.half_mm or float(np.abs(fit.true_mm).max())


def _lattice_mm(fit: GridFit, rows: int) -> list[FloatArray]:
    """Lines (2, 2) through every ``rows``-th row and column of beads, of a hexagonal lattice its rows alone."""
    half_mm, pitch_mm = _half_mm(fit), fit.phantom.pitch_mm
    first = fit.true_mm.min(axis=0) if not fit.phantom.bounded else np.array([-half_mm, -half_mm])
    if fit.phantom.lattice == "hexagonal":
        heights = np.arange(first[1], half_mm + 0.1 * pitch_mm, rows * pitch_mm * np.sqrt(0.75))
        return [np.array([(-half_mm, y), (half_mm, y)]) for y in heights]
    upright, level = (np.arange(start, half_mm + 0.1 * pitch_mm, rows * pitch_mm) for start in first)
    return [
        *(np.array([(x, -half_mm), (x, half_mm)]) for x in upright),
        *(np.array([(-half_mm, y), (half_mm, y)]) for y in level),
    ]


def _show_raw(ax: Axes, frame: Grey) -> None:
    extent = (-0.5, RAW_WIDTH_PX - 0.5, RAW_HEIGHT_PX - 0.5, -0.5)
    ax.imshow(frame, cmap="gray", vmin=0, vmax=_white(frame), extent=extent)
    ax.set(xlim=extent[:2], ylim=extent[2:])
    ax.set(xlabel=f"column, px of {RAW_WIDTH_PX}", ylabel=f"row, px of {RAW_HEIGHT_PX}")


def _white(frame: Grey) -> float:
    return max(1.0, float(np.percentile(frame[::4, ::4], 99.8)))
