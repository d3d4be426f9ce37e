"""Figure of a report: errors of every source, as SVG embedded in the page; and the colours of the sources."""

from collections.abc import Sequence

import numpy as np

from veriserum_hf.core import FloatArray, one_line
from veriserum_hf.errors import VeriserumError
from veriserum_hf.reports.pages import (  # first: its error names what to install without matplotlib
    Axes,
    Figure,
    svg_url,
)
from veriserum_hf.reports.sources import PoseSource

# Of Okabe and Ito, safe for colour-blind readers. The last source has the first, as in overlays.
_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
_CURVES = {"rotation_deg": "rotation error, deg", "translation_mm": "translation error, mm", "mtre_mm": "mTRE, mm"}
_STYLES = {"femur": "-", "tibia": "--"}
_CURVE_POINTS = 400
_SMALLEST = 1e-3  # mm or deg: curves begin here; smaller errors do not matter


def check_count(sources: int) -> None:
    """Raise VeriserumError if there are more sources than colours."""
    if sources > len(_COLORS):
        raise VeriserumError(
            f"{sources} files and models cannot be distinguished in one figure; give at most {len(_COLORS)}"
        )


def colors_of(names: Sequence[str]) -> dict[str, str]:
    """Colours of sources by their names; no more than `check_count` allows."""
    return dict(zip(reversed(names), _COLORS, strict=False))


def cumulative_errors(sources: Sequence[PoseSource]) -> str:
    """Cumulative errors, one curve for each source and component, as the data URL of an SVG."""
    figure = _figure(11.0, 4.2)
    colors = colors_of([source.name for source in sources])
    axes = figure.subplots(1, len(_CURVES), sharey=True)
    for ax, (metric, label) in zip(axes, _CURVES.items(), strict=True):
        for source in sources:
            values = np.maximum(source.errors[metric].to_numpy(), _SMALLEST)
            component = source.errors["component"].to_numpy(zero_copy_only=False)
            for name, style in _STYLES.items():
                if (component == name).any():
                    _curve(ax, values[component == name], colors[source.name], style)
        for limit in (1, 2):
            ax.axvline(limit, color="0.8", lw=0.8, zorder=0)
        ax.set(xscale="log", xlabel=label, ylim=(0, 1.02))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("share of poses below")
    for source in sources:
        axes[0].plot([], [], color=colors[source.name], label=_plain(source.name))
    for name, style in _STYLES.items():
        axes[0].plot([], [], color="0.3", ls=style, label=name)
    _legend_above(figure, axes[0])
    return svg_url(figure)


def _plain(text: str) -> str:
    """Text that matplotlib shows as it is: between dollar signs it would read a formula."""
    return one_line(text).replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _curve(ax: Axes, values: FloatArray, color: str, style: str) -> None:
    """Cumulative share of values, with at most `_CURVE_POINTS` quantiles."""
    share = np.linspace(0, 1, min(len(values), _CURVE_POINTS) + 1)
    ax.step(np.quantile(values, share, method="inverted_cdf"), share, where="post", lw=1.4, color=color, ls=style)


def _legend_above(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 6), frameon=False)
