"""Plots of errors: distributions, axes and planes, and the reliability of a stated confidence."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.stats import binomtest

from veriserum_hf.core import PLANES, FloatArray
from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation import PLANE_AXES, SUCCESS, WORLD_AXES
from veriserum_hf.jobs import write_file

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as error:
    raise TrainingError('plots need matplotlib: pip install "veriserum-hf[viz]"') from error

# Of Okabe and Ito, safe for colour-blind readers.
_COLORS = {"femur": "#0072B2", "tibia": "#D55E00"}
LineStyle = str | tuple[int, tuple[int, ...]]
# Of the implants of a component, in sequence.
_STYLES: tuple[LineStyle, ...] = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 3)))
_CURVES = {"rotation_deg": "rotation error, deg", "translation_mm": "translation error, mm"}
_SHOWN_PERCENTILE = 99  # of the errors: the largest would compress all others
_BINS = 10


def save_plots(errors: pa.Table, folder: Path) -> list[Path]:
    """Write all plots that the errors allow into a folder as PNG.

    Parameters
    ----------
    errors : result of `veriserum_hf.evaluation.pose_errors`.
    folder : an existing one.

    """
    figures = {"cumulative.png": cumulative_errors(errors), "axes.png": errors_by_axis(errors)}
    if np.isfinite(errors["confidence"].to_numpy()).any():
        figures["confidence.png"] = reliability(errors)
    for name, figure in figures.items():
        save_png(figure, folder / name)
    return [folder / name for name in figures]


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, in one step."""
    image = BytesIO()
    figure.savefig(image, format="png", dpi=150)
    write_file(path, image.getvalue())


def cumulative_errors(errors: pa.Table) -> Figure:
    """Cumulative errors of rotation and translation, for each implant."""
    figure, axes = _figure(len(_CURVES))
    component, anatomy = (errors[name].to_numpy(zero_copy_only=False) for name in ("component", "anatomy_id"))
    for ax, (metric, label) in zip(axes, _CURVES.items(), strict=True):
        values = errors[metric].to_numpy()
        for name, color in _COLORS.items():
            ids = np.unique(anatomy[component == name])
            for n, id in enumerate(ids.tolist()):
                _curve(ax, values[anatomy == id], color, f"{name} {id}", _STYLES[n % len(_STYLES)])
        for limit in (1, 2):
            ax.axvline(limit, color="0.75", lw=0.8, zorder=0)
        ax.set(xlabel=label, ylim=(0, 1.02), xlim=(0, _upper(values)))
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("share of implants below")
    axes[-1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


def errors_by_axis(errors: pa.Table) -> Figure:
    """Signed errors along the axes of the world and of each plane, femur and tibia side by side."""
    names = [
        (frame, axis) for frame in ("world", *PLANES) for axis in (WORLD_AXES if frame == "world" else PLANE_AXES)
    ]
    columns = {
        name: errors[column].to_numpy()
        for name in names
        if (column := "{}_{}_mm".format(*name)) in errors.column_names
    }
    # In frames that have the plane; without any, there is nothing to draw.
    columns = {name: values for name, values in columns.items() if not np.isnan(values).all()}
    names = list(columns)
    figure, (ax,) = _figure(1, width=8.0)
    component = errors["component"].to_numpy(zero_copy_only=False)
    shown = [name for name in _COLORS if (component == name).any()]
    largest = 0.0
    for n, values in enumerate(columns.values()):
        largest = max(largest, float(np.nanpercentile(np.abs(values), _SHOWN_PERCENTILE)))
        for side, name in enumerate(shown):
            of_component = values[(component == name) & ~np.isnan(values)]
            if len(of_component):
                _box(ax, of_component, n + 0.36 * (side - (len(shown) - 1) / 2), _COLORS[name])
    ax.axhline(0, color="0.4", lw=0.8, zorder=0)
    for n in range(1, len(names)):
        if names[n][0] != names[n - 1][0]:
            ax.axvline(n - 0.5, color="0.85", lw=0.8, zorder=0)
    ax.set_xticks(range(len(names)), [f"{frame}\n{axis}" for frame, axis in names])
    ax.set(
        ylabel="estimate - label, mm", xlim=(-0.6, len(names) - 0.4), ylim=np.array((-1.15, 1.15)) * (largest or 1)
    )
    for name in shown:
        ax.plot([], [], "s", color=_COLORS[name], alpha=0.6, label=name)
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    ax.set_title("box: quartiles and median; whiskers: 5 % and 95 %", fontsize=9, loc="right", color="0.35")
    ax.grid(axis="y", alpha=0.3)
    return figure


def reliability(errors: pa.Table) -> Figure:
    """Share of poses within 2 mm and 2 deg against their stated confidence.

    Points are bins of width 0.1, with 95 % Wilson intervals that assume independent frames.
    """
    figure, (ax,) = _figure(1, width=4.6, height=4.6)
    confidence = errors["confidence"].to_numpy()
    limit_mm, limit_deg = SUCCESS["success_2mm_2deg"]
    stated = np.isfinite(confidence)
    within = (errors["translation_mm"].to_numpy() <= limit_mm) & (errors["rotation_deg"].to_numpy() <= limit_deg)
    bins = np.minimum((confidence[stated] * _BINS).astype(int), _BINS - 1)
    for bin in np.unique(bins):
        stated_here, found = confidence[stated][bins == bin].mean(), within[stated][bins == bin]
        low, high = binomtest(int(found.sum()), len(found)).proportion_ci(confidence_level=0.95, method="wilson")
        ax.plot([stated_here, stated_here], [low, high], color=_COLORS["femur"], lw=1.2)
        ax.plot(stated_here, found.mean(), "o", color=_COLORS["femur"], ms=5)
        ax.annotate(f"{len(found)}", (stated_here, found.mean()), (5, -11), textcoords="offset points", fontsize=7)
    ax.plot([0, 1], [0, 1], color="0.6", lw=0.8, zorder=0)
    ax.set(
        xlabel="stated confidence",
        ylabel=f"share within {limit_mm:g} mm and {limit_deg:g} deg",
        xlim=(-0.02, 1.04),
        ylim=(-0.04, 1.04),
    )
    ax.set_title("numbers: poses in a bin", fontsize=9, loc="right", color="0.35")
    ax.grid(alpha=0.3)
    return figure


def _figure(count: int, width: float = 9.0, height: float = 3.8) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, np.atleast_1d(figure.subplots(1, count)).tolist()


def _curve(ax: Axes, values: FloatArray, color: str, label: str, style: LineStyle) -> None:
    ascending = np.sort(values)
    share = np.arange(1, len(values) + 1) / len(values)
    ax.step([0, *ascending], [0, *share], ls=style, where="post", color=color, lw=1.3, label=label)


def _box(ax: Axes, values: FloatArray, at: float, color: str) -> None:
    box = ax.boxplot([values], positions=[at], widths=0.3, whis=(5, 95), showfliers=False, patch_artist=True)
    box["boxes"][0].set(facecolor=color, alpha=0.6, edgecolor=color)
    box["medians"][0].set(color="black", lw=1.2)


def _upper(values: FloatArray) -> float:
    """Upper limit of the axis: 1.05 times the shown percentile, 1 if that is zero."""
    return 1.05 * float(np.percentile(values, _SHOWN_PERCENTILE)) or 1.0
