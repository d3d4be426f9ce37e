"""Figures of a refined rig: the rig and its change with 95 % ellipses, and what the images determine, as SVG."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import chi2

from veriserum_hf.calibration import RefinedRig
from veriserum_hf.core import FloatArray, PlaneName
from veriserum_hf.poses import DEVIATIONS_95
from veriserum_hf.reports.pages import ON_WHITE, Axes, Figure, magnification, svg_url
from veriserum_hf.reports.rig_views import ACROSS, ALONG, UP, CameraPoints, Place, directions, indices, points

# Of Okabe and Ito, safe for colour-blind readers.
STORED, REFINED = "#D55E00", "#0072B2"
_ELLIPSE = float(np.sqrt(chi2.ppf(0.95, df=2)))  # standard deviations: 95 % of a bivariate normal distribution
_NAMES = {ACROSS: "across", ALONG: "along the ray of {first}", UP: "up"}
_OTHERS = "principal points and distances"
_DRAWN = 0.12  # of the rig's extent: the longest magnified change or ellipse


def rig_figure(rig: RefinedRig) -> str:
    """Sources and detectors from two sides with their change magnified, and the shift at the implants' centre."""
    shift = indices(rig.unknowns, " shift ")
    figure = Figure(figsize=(11.0, 5.4), layout="constrained")
    if shift:
        axes = figure.subplot_mosaic("RSS\nRAB", width_ratios=(2.1, 1, 1), height_ratios=(1.2, 1.9))
        _draw_shift(axes["A"], rig, shift, (ACROSS, ALONG))
        _draw_shift(axes["B"], rig, shift, (ACROSS, UP))
    else:
        axes = figure.subplot_mosaic("RS")
    seen = {plane: points(rig, plane) for plane in rig.before}
    _draw_rig(axes["R"], rig, seen, (ACROSS, ALONG))
    _draw_rig(axes["S"], rig, seen, (ALONG, UP))
    return svg_url(figure)


def change_figure(rig: RefinedRig) -> str:
    """Change of rotations, and of principal points and distances, with 95 % intervals and tolerances."""
    parts = {"rotation": indices(rig.unknowns, " rotation ")}
    parts |= {_OTHERS: indices(rig.unknowns, " principal point ") + indices(rig.unknowns, " sid ")}
    parts |= {"time between the planes": indices(rig.unknowns, " late ")}
    parts = {title: chosen for title, chosen in parts.items() if chosen}
    most = max(map(len, parts.values()))
    figure = Figure(figsize=(5.5 * len(parts), 1.2 + 0.6 * most), layout="constrained")
    for ax, (title, chosen) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts.items(), strict=True):
        _draw_intervals(ax, rig, chosen, title)
    return svg_url(figure)


def information_figure(rig: RefinedRig) -> str:
    """Standard deviations of all unknowns over their tolerances: of the images alone, and stated."""
    details, rows = rig.details, np.arange(len(rig.unknowns))
    tolerance = np.array(details["tolerances"])
    figure = Figure(figsize=(11.0, 1.5 + 0.33 * len(rows)), layout="constrained")
    ax = figure.subplots()
    images, stated = (
        np.array(details[name]) / tolerance for name in ("image_standard_deviations", "standard_deviations")
    )
    ax.hlines(rows, np.minimum(images, stated), np.maximum(images, stated), color="0.75", lw=2, zorder=1)
    ax.plot(images, rows, "o", ms=8, color=REFINED, label="of the images alone")
    ax.plot(stated, rows, "s", ms=7, color="black", label="stated, with tolerances and errors of what is held")
    ax.axvline(1, color=STORED, label="tolerance")
    ax.axvline(0.5, color=STORED, ls="--", label="limit: determined if stated is left of it")
    ax.set(xscale="log", yticks=rows, yticklabels=rig.unknowns, ylim=(len(rows) - 0.4, -0.6))
    ax.set_xlabel("standard deviation / tolerance")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return svg_url(figure)


def _draw_rig(ax: Axes, rig: RefinedRig, seen: Mapping[PlaneName, CameraPoints], sides: tuple[int, int]) -> None:
    places = [place for each in seen.values() for place in each.places if place.by_unknown.any()]
    lengths = [
        max(float(np.linalg.norm(each.by_unknown @ rig.estimate)), float(np.abs(_outline(each, rig)).max()))
        for each in places
    ]
    extent_mm = max(float(np.linalg.norm(each.source.at_mm - each.center.at_mm)) for each in seen.values())
    factor = magnification(max(lengths, default=1.0), _DRAWN * extent_mm)
    for plane, each in seen.items():
        _draw_camera(ax, plane, each, sides)
    for place in places:
        start, change = place.at_mm[list(sides)], (place.by_unknown @ rig.estimate)[list(sides)]
        ax.fill(*(start + factor * (change + _outline(place, rig, sides))).T, color=REFINED, alpha=0.2, lw=0)
        arrow = {"arrowstyle": "->", "color": REFINED, "lw": 1.6}
        ax.annotate("", _pair(start + factor * change), _pair(start), arrowprops=arrow)
    ax.plot(0, 0, "P", ms=9, color="0.2", zorder=3)
    ax.annotate("implants", (0, 0), (-9, 8), textcoords="offset points", fontsize=9, ha="right", bbox=ON_WHITE)
    from_side = sides[1] == UP  # flat
    ax.margins(0.22, 0.6 if from_side else 0.14)
    ax.set_aspect("equal", adjustable="box" if from_side else "datalim")
    ax.locator_params(axis="x", nbins=6)
    ax.locator_params(axis="y", nbins=3 if from_side else 6)
    ax.set(xlabel=_label(rig, sides[0]), ylabel=_label(rig, sides[1]))
    ax.grid(alpha=0.25)
    side = "from the side" if from_side else "in the plane of the rays"
    ax.set_title(f"{side}; arrows and ellipses {factor:g} x", fontsize=10)


def _draw_camera(ax: Axes, plane: str, camera: CameraPoints, sides: tuple[int, int]) -> None:
    source_mm, center_mm = camera.source.at_mm[list(sides)], camera.center.at_mm[list(sides)]
    corners_mm = camera.corners_mm[:, sides]
    for corner in corners_mm:
        ax.plot(*np.stack([source_mm, corner]).T, color="0.85", lw=0.8, zorder=0)
    ax.plot(*np.concatenate([corners_mm, corners_mm[:1]]).T, color="0.2", lw=2, zorder=1)
    ax.plot(*source_mm, "o", color="0.2", ms=5)
    ray_mm = center_mm - source_mm
    if np.linalg.norm(ray_mm) < 0.5 * np.linalg.norm(camera.center.at_mm - camera.source.at_mm):
        out, center_mm = np.array([0.0, 1.0]), np.array([center_mm[0], corners_mm[:, 1].max()])
        ends = ((source_mm, out, "source"), (center_mm, out, "detector"))
    else:
        out = ray_mm / np.linalg.norm(ray_mm)
        ends = ((source_mm, -out, "source"), (center_mm, out, "detector"))
    for at_mm, (x, y), name in ends:
        text = ax.annotate(f"{name}\n{plane}", _pair(at_mm), (9 * x, 9 * y), textcoords="offset points", fontsize=8)
        text.set_horizontalalignment("center" if abs(x) < 0.5 else "left" if x > 0 else "right")
        text.set_verticalalignment("center" if abs(y) < 0.5 else "bottom" if y > 0 else "top")


def _draw_shift(ax: Axes, rig: RefinedRig, shift: Sequence[int], sides: tuple[int, int]) -> None:
    basis = directions(rig)[list(sides)]
    change = basis @ rig.estimate[list(shift)]
    outline = _ellipse(basis @ _square_root(rig.covariance[np.ix_(shift, shift)]))
    prior = _ellipse(basis @ np.diag(np.array(rig.details["tolerances"])[list(shift)]))
    ax.plot(*prior.T, color=STORED, ls="--", lw=1, label="tolerance")
    ax.plot(0, 0, "o", color=STORED, ms=8, label="stored")
    ax.fill(*(change + outline).T, color=REFINED, alpha=0.25, lw=0)
    ax.plot(*(change + outline).T, color=REFINED, lw=1.2)
    ax.plot(*change, "D", color=REFINED, ms=7, label="refined")
    ax.set(xlabel=_label(rig, sides[0]), ylabel=_label(rig, sides[1]))
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.1)
    ax.grid(alpha=0.25)
    ax.locator_params(nbins=6)
    if UP in sides:  # its corners are free
        ax.legend(fontsize=8, loc="upper right")
    ax.set_title("shift in the plane of the rays" if ALONG in sides else "shift up and across", fontsize=10)


def _draw_intervals(ax: Axes, rig: RefinedRig, chosen: Sequence[int], title: str) -> None:
    rows, deviations = np.arange(len(chosen)), DEVIATIONS_95 * np.sqrt(np.diag(rig.covariance)[list(chosen)])
    values = rig.estimate[list(chosen)]
    tolerance = DEVIATIONS_95 * np.array(rig.details["tolerances"])[list(chosen)]
    ax.use_sticky_edges = False
    ax.barh(rows, 2 * tolerance, left=-tolerance, height=0.6, color=STORED, alpha=0.12)
    ax.errorbar(values, rows, xerr=deviations, fmt="D", color=REFINED, capsize=4)
    for row, value, deviation in zip(rows, values, deviations, strict=True):
        text = f"{value:+.3f} ± {deviation:.3f}"
        ax.annotate(text, (value, row), (0, 9), textcoords="offset points", ha="center", fontsize=8, bbox=ON_WHITE)
    ax.axvline(0, color=STORED, lw=1)
    names = [rig.unknowns[n] for n in chosen]
    ax.set(yticks=rows, yticklabels=[name.replace(f" {title}", "") for name in names], ylim=(len(rows) - 0.5, -0.8))
    ax.locator_params(axis="x", nbins=6)
    ax.set_title(f"{title}; shaded: tolerance", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)


def _pair(at: FloatArray) -> tuple[float, float]:
    x, y = at.tolist()
    return x, y


def _label(rig: RefinedRig, side: int) -> str:
    return f"{_NAMES[side].format(first=next(iter(rig.before)))}, mm"


def _outline(place: Place, rig: RefinedRig, sides: Sequence[int] = (ACROSS, ALONG)) -> FloatArray:
    """95 % region of a place's change, (n, 2) mm."""
    return _ellipse(place.by_unknown[list(sides)] @ _square_root(rig.covariance))


def _square_root(covariance: FloatArray) -> FloatArray:
    """Matrix R with R R^T the covariance."""
    variance, axes = np.linalg.eigh(covariance)
    return np.asarray(axes * np.sqrt(np.maximum(variance, 0)))


def _ellipse(root: FloatArray) -> FloatArray:
    """Outline (n, 2) of the 95 % region from a root (2, m) of the covariance."""
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found: FloatArray = _ELLIPSE * circle @ _square_root(root @ root.T).T
    return found
