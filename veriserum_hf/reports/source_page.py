"""Page about a fit of X-ray sources: residuals, coverage, source positions, and the ``fs`` intensifier's pose."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import chi2

from veriserum_hf.calibration import (
    DualObservation,
    Observation,
    RigFit,
    SourceFit,
    source_lines,
    source_numbers,
)
from veriserum_hf.core import PLANES, FloatArray
from veriserum_hf.geometry import Plane, transform_points
from veriserum_hf.poses import DEVIATIONS_95
from veriserum_hf.reports import pages

_KNOWN = re.compile(r"\w+ -?[\d.]+ \+- [\d.]+")
_ARROW_MM = 12.0
_MOST_ARROWS = 800
_ELLIPSE = float(np.sqrt(chi2.ppf(0.95, df=2)))  # standard deviations: 95 % of a bivariate normal distribution
_LABEL_MM = 110.0  # distance of a plane's name behind its intensifier
_CLOUD_MM = 200.0  # semi-axis of the largest ellipse as drawn, 1900 mm from the intensifier


class _Seen(NamedTuple):
    """Markers of one plane over all frames, (n, 2) mm on the intensifier: positions, and fitted minus found."""

    at_mm: FloatArray
    residuals_mm: FloatArray


def source_page(
    fit: SourceFit | RigFit, observations: Sequence[Observation | DualObservation], *, title: str
) -> pages.Figure:
    """Draw residuals, coverage, the sources and the figures of a fit of one plane or two.

    Parameters
    ----------
    fit : `veriserum_hf.calibration.fit_source` or `veriserum_hf.calibration.fit_rig` of them.
    observations : the fitted observations, in the same order.
    title : of the page.

    """
    figure = pages.new_page(title)
    planes: dict[str, Plane] = {"": fit.plane} if isinstance(fit, SourceFit) else {p: fit.rig[p] for p in PLANES}
    seen = {name: _seen(fit, plane, [_of(name, both) for both in observations]) for name, plane in planes.items()}
    if isinstance(fit, SourceFit):
        layout: list[list[Any]] = [["residuals ", "cover ", "histogram"], ["above", "text", "text"]]
        axes = figure.subplot_mosaic(layout)
    else:
        upper = ["residuals bs", "residuals fs", "cover bs", "cover fs"]
        layout = [upper, ["above", "histogram", [["shift"], ["rotation"]], "text"]]
        axes = figure.subplot_mosaic(layout, height_ratios=(1, 1.15))
        numbers = source_numbers(fit)
        _draw_from_nominal(axes["shift"], "shift", numbers["fs_shift_mm"], numbers["fs_shift_std_mm"], "mm")
        _draw_from_nominal(
            axes["rotation"], "rotation", numbers["fs_turn_deg"], numbers["fs_turn_std_deg"], "degrees"
        )
    for name, markers in seen.items():
        _draw_residuals(axes[f"residuals {name}"], markers, fit.residual_mm_rms, name)
        _draw_cover(axes[f"cover {name}"], markers, planes[name], name)
    off_mm = {name: markers.residuals_mm.ravel() for name, markers in seen.items()}
    pages.draw_histogram(axes["histogram"], off_mm, fit.residual_mm_rms, "fitted - found, h and v, mm")
    _draw_from_above(axes["above"], fit, planes)
    explained = [
        "",
        "residuals: along each axis of an intensifier; a systematic pattern of the arrows indicates a wrong "
        "distortion or phantom",
        "deviations: hold for random errors of the images, not for errors of the phantom's stated geometry",
        "markers: information about a source grows with the square of their distance from the principal point",
    ]
    # No line break between name, value and deviation.
    known = [
        _KNOWN.sub(lambda value: value[0].replace(" ", "\N{NO-BREAK SPACE}"), line) for line in source_lines(fit)
    ]
    pages.draw_text(axes["text"], [*known, *explained], columns=48 if isinstance(fit, RigFit) else 100)
    return figure


def _of(name: str, observed: Observation | DualObservation) -> Observation:
    if isinstance(observed, Observation):
        return observed
    return observed.bs if name == "bs" else observed.fs


def _seen(fit: SourceFit | RigFit, plane: Plane, observations: Sequence[Observation]) -> _Seen:
    fitted_mm = [
        plane.project_mm(transform_points(T_world_phantom, observed.marker_mm))
        for T_world_phantom, observed in zip(fit.T_world_phantom, observations, strict=True)
    ]
    at_mm = np.concatenate([observed.detector_mm for observed in observations])
    return _Seen(at_mm, np.concatenate(fitted_mm) - at_mm)


def _draw_residuals(ax: pages.Axes, seen: _Seen, rms_mm: float, name: str) -> None:
    wrong = (np.abs(seen.residuals_mm) > pages.FAR * rms_mm).any(axis=1)
    right = np.flatnonzero(~wrong)
    step = -(-len(right) // _MOST_ARROWS)
    shown = right[::step]
    factor = pages.draw_vectors(ax, seen.at_mm[shown], seen.residuals_mm[shown], _ARROW_MM)
    if wrong.any():
        label = f"{np.count_nonzero(wrong)} off by over {pages.FAR:g} RMS"
        ax.plot(*seen.at_mm[wrong].T, "x", ms=8, mew=2, color=pages.BAD, label=label)
        ax.legend(loc="upper right", fontsize=9)
    share = "" if step == 1 else f", 1 of {step} shown"
    ax.set_title(f"{name} residuals\n{factor:g} times magnified{share}".strip(), size=12)


def _draw_cover(ax: pages.Axes, seen: _Seen, plane: Plane, name: str) -> None:
    extent = (-pages.REACH_MM, pages.REACH_MM, -pages.REACH_MM, pages.REACH_MM)
    cells = ax.hexbin(*seen.at_mm.T, gridsize=18, extent=extent, mincnt=1, cmap="viridis")
    ax.plot(*plane.principal_point_mm, "+", ms=14, mew=2.5, color=pages.BAD)
    pages.frame_mm(ax)
    most = int(np.asarray(cells.get_array()).max())
    ax.set_title(f"{name} {len(seen.at_mm)} markers, 1 to {most} in a cell\n+ principal point".strip(), size=12)


def _draw_from_above(ax: pages.Axes, fit: SourceFit | RigFit, planes: dict[str, Plane]) -> None:
    """Draw sources with their ellipses, intensifiers and phantom along the world's x and z."""
    roots = [_root(covariance[np.ix_((0, 2), (0, 2))]) for covariance in _source_covariances(fit, planes)]
    factor = pages.magnification(_ELLIPSE * max(float(np.linalg.norm(root, 2)) for root in roots), _CLOUD_MM)
    angle = np.linspace(0, 2 * np.pi, 100)
    ax.plot(*fit.T_world_phantom[:, (0, 2), 3].T, ".", ms=3, color="0.5", label="phantom's centre")
    ends_mm = np.array([(-pages.REACH_MM, 0.0, 0.0, 1.0), (pages.REACH_MM, 0.0, 0.0, 1.0)])
    for (name, plane), root in zip(planes.items(), roots, strict=True):
        edges_mm, source_mm = (ends_mm @ plane.T_world_intensifier.T)[:, (0, 2)], plane.source_mm[[0, 2]]
        ax.plot(*np.stack([edges_mm[0], source_mm, edges_mm[1]]).T, color="0.8", lw=0.8)
        ax.plot(*edges_mm.T, color="black", lw=3)
        x_mm, z_mm = (edges_mm.mean(axis=0) - _LABEL_MM * plane.T_world_intensifier[(0, 2), 2]).tolist()
        ax.text(x_mm, z_mm, name, size=12, ha="center", va="center")
        cloud_mm = source_mm[:, None] + factor * _ELLIPSE * root @ np.stack([np.cos(angle), np.sin(angle)])
        ax.fill(*cloud_mm, color=pages.GOOD, alpha=0.35)
        ax.plot(*source_mm, ".", color=pages.GOOD)
    ax.margins(0.1)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="x, mm", ylabel="z, mm")
    ax.set_title(f"from above; 95 % ellipses of the sources,\n{factor:g} times magnified", size=12)
    ax.legend(loc="upper left", fontsize=9)


def _source_covariances(fit: SourceFit | RigFit, planes: dict[str, Plane]) -> list[FloatArray]:
    """Covariances of the source positions in the world, (3, 3) mm^2, including the ``fs`` intensifier's pose."""
    covariances = []
    for number, plane in enumerate(planes.values()):
        by_setting = np.zeros((3, len(fit.covariance)))
        by_setting[:, 3 * number : 3 * number + 3] = plane.T_world_intensifier[:3, :3]
        if number == 1:
            from_center_mm = plane.source_mm - plane.T_world_intensifier[:3, 3]
            by_setting[:, 6:9] = np.eye(3)
            by_setting[:, 9:] = np.radians(np.cross(np.eye(3), from_center_mm)).T
        covariances.append(by_setting @ fit.covariance @ by_setting.T)
    return covariances


def _root(covariance: FloatArray) -> FloatArray:
    """Matrix that maps the unit circle to the ellipse of one standard deviation."""
    variance, axes = np.linalg.eigh(covariance)
    return np.asarray(axes * np.sqrt(np.maximum(variance, 0)))


def _draw_from_nominal(ax: pages.Axes, what: str, values: Sequence[float], std: Sequence[float], unit: str) -> None:
    rows = np.arange(3)
    ax.errorbar(values, rows, xerr=DEVIATIONS_95 * np.array(std), fmt="o", color=pages.GOOD, capsize=5)
    for row, value, sigma in zip(rows, values, std, strict=True):
        known = f"{value:.3f} ± {DEVIATIONS_95 * sigma:.3f}"
        ax.annotate(known, (value, row), (0, 9), textcoords="offset points", ha="center", size=9, bbox=pages.ON_WHITE)
    ax.axvline(0, color=pages.BAD, ls="--")
    ax.margins(x=0.3)
    ax.set(yticks=rows, yticklabels=("x", "y", "z"), ylim=(2.5, -0.7), xlabel=unit)
    ax.set_title(f"fs intensifier's {what} from nominal, 95 %", size=12)
    ax.spines[["top", "right"]].set_visible(False)
