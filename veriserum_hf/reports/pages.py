"""Shared parts of calibration pages: layout, text, histograms, and magnified vectors."""

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from textwrap import wrap

import numpy as np

from veriserum_hf.core import FloatArray
from veriserum_hf.errors import VeriserumError
from veriserum_hf.jobs import write_file, writing

try:
    from matplotlib import rc_context
    from matplotlib.axes import Axes as Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
except ImportError as error:
    raise VeriserumError('a report needs matplotlib: pip install "veriserum-hf[viz]"') from error


PAGE_PX = (1800, 1200)
REACH_MM = 180.0  # from the centre of an intensifier to the edge of its corrected image
FAR = 5.0  # times the RMS; a larger residual is a wrong marker's
GOOD, BAD = "tab:blue", "tab:red"
ON_WHITE = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1}  # text over lines
_DPI = 100
_STEPS = (1.0, 2.0, 5.0)
_LINE_POINTS = 14.5


def new_page(title: str) -> Figure:
    """Return an empty page of ``PAGE_PX`` with its title."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(PAGE_PX[0] / _DPI, PAGE_PX[1] / _DPI), dpi=_DPI, layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(title, size=16, weight="bold")
    return figure


def save_page(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a page as a PNG, in one step.

    Raises
    ------
    VeriserumError
        If the file cannot be written.

    """
    page = BytesIO()
    figure.savefig(page, format="png")
    with writing(path):
        write_file(Path(path), page.getvalue())


def svg_url(figure: Figure) -> str:
    """Data URL of a figure as SVG: without a date or random ids, so that the same figure has the same bytes."""
    with rc_context({"svg.hashsalt": "veriserum", "svg.fonttype": "path"}), BytesIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
        return f"data:image/svg+xml;base64,{b64encode(file.getvalue()).decode()}"


def magnification(length_mm: float, shown_mm: float) -> float:
    """Largest of 1, 2 and 5 times a power of ten that magnifies a length to at most ``shown_mm``."""
    most = shown_mm / max(length_mm, 1e-9)
    decade = 10.0 ** np.floor(np.log10(most))
    return float(decade * max(step for step in _STEPS if step * decade <= most * (1 + 1e-9)))


def draw_vectors(ax: Axes, at_mm: FloatArray, vectors_mm: FloatArray, shown_mm: float) -> float:
    """Draw vectors (n, 2) at points (n, 2) of an intensifier, with a scale; return the magnification.

    A vector of RMS length is drawn at most ``shown_mm`` long.
    """
    factor = magnification(float(np.sqrt((vectors_mm**2).sum(axis=1).mean())), shown_mm)
    arrows = partial(ax.quiver, angles="xy", scale_units="xy", scale=1 / factor, minlength=0.1)
    arrows(*at_mm.T, *vectors_mm.T, color=GOOD, width=0.002)
    scale_mm = magnification(factor, 0.15 * REACH_MM)
    corner = (-0.96 * REACH_MM, -0.94 * REACH_MM)
    arrows(*corner, scale_mm, 0.0, color="black", width=0.004)
    ax.annotate(f"{scale_mm:g} mm", corner, (0, 5), textcoords="offset points", size=10, bbox=ON_WHITE)
    frame_mm(ax)
    return factor


def frame_mm(ax: Axes) -> None:
    """Show the whole of a corrected image, in mm."""
    ax.set(xlim=(-REACH_MM, REACH_MM), ylim=(-REACH_MM, REACH_MM), xlabel="mm", ylabel="mm", aspect="equal")


def draw_histogram(ax: Axes, off_mm: Mapping[str, FloatArray], rms_mm: float, label: str) -> None:
    """Histogram of residuals by name, up to `FAR` times their root mean square."""
    every = np.concatenate(list(off_mm.values()))
    signed = bool((every < 0).any())
    most_mm = min(float(np.abs(every).max()), FAR * rms_mm)
    bins = np.linspace(-most_mm if signed else 0.0, most_mm, 51).tolist()
    for (name, values), color in zip(off_mm.items(), (GOOD, "tab:orange"), strict=False):
        ax.hist(values, bins=bins, histtype="step", lw=1.8, color=color, label=name or None)
    ax.axvline(rms_mm, color="black", ls="--", label=f"{rms_mm:.4f} mm RMS")
    if signed:
        ax.axvline(-rms_mm, color="black", ls="--")
    ax.set(xlabel=label, ylabel="count", ylim=(0, 1.35 * ax.get_ylim()[1]))
    ax.set_title("residuals", size=12)
    ax.locator_params(axis="x", nbins=6)
    ax.legend(frameon=False, fontsize=10, loc="upper right")
    ax.spines[["top", "right"]].set_visible(False)


def draw_text(ax: Axes, lines: Sequence[str], *, columns: int, warnings: Sequence[str] = ()) -> None:
    """Fill a plot with lines of text below warnings in red, wrapped at a number of columns."""
    colored = [(line, BAD) for line in warnings] + [(line, "black") for line in lines]
    rows = [(row, color) for line, color in colored for row in wrap(line, columns, subsequent_indent="    ") or [""]]
    ax.axis("off")
    for number, (row, color) in enumerate(rows):
        below = (0, -_LINE_POINTS * number)
        text = ax.annotate(row, (0, 1), below, xycoords="axes fraction", textcoords="offset points")
        text.set(family="monospace", size=10.5, color=color, va="top")
