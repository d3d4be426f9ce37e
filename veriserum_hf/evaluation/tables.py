"""Summaries of errors as tables."""

from collections.abc import Mapping
from typing import Any

from veriserum_hf.core import Table

_UNITS = {"rotation_deg": "rotation, deg", "translation_mm": "translation, mm", "mtre_mm": "mTRE, mm"}
_SUCCESS = {"success_1mm_1deg": "within 1 mm, 1 deg", "success_2mm_2deg": "within 2 mm, 2 deg"}
_QUANTILES = "median [95 % interval], p90, p95"
_ACCURACY_NOTE = (
    f"Errors: {_QUANTILES}. mTRE: mean distance between the same surface point of the implant at both poses. "
    "Intervals are from resampled trials, not frames."
)
_AXES_NOTE = (
    "World axes, and for each plane: depth along the ray from its source to the implant, h (right) and v (up) "
    "normal to it. Bias: mean of estimate minus label."
)


def summary_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Tables of a summary: all implants, each implant, each task; then the errors along each axis.

    Parameters
    ----------
    summary : result of `veriserum_hf.evaluation.summarise`.

    """
    groups = {"all": summary["overall"], **summary["by_implant"], **summary["by_task"]}
    axes = [
        [f"{frame} {axis}", _quantiles(figures), _signed(figures["bias"])]
        for frame, by_axis in summary["by_plane_axis"].items()
        for axis, figures in by_axis.items()
    ]
    return [
        accuracy_table(groups),
        Table(["axis", "absolute error, mm", "bias, mm"], axes, note=_AXES_NOTE),
    ]


def accuracy_table(groups: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row for each of several groups of a summary, by their names."""
    return Table(
        ["", "frames", "trials", *_UNITS.values(), *_SUCCESS.values()],
        [
            [name, group["frames"], group["trials"], *map(_quantiles, _figures(group)), *map(_share, _shares(group))]
            for name, group in groups.items()
        ],
        note=_ACCURACY_NOTE,
    )


def _figures(group: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [group[name] for name in _UNITS]


def _shares(group: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [group[name] for name in _SUCCESS]


def _quantiles(figures: Mapping[str, Any]) -> str:
    interval = figures["median_interval_95"]
    spread = f" [{_number(interval[0])}, {_number(interval[1])}]" if interval else ""
    return f"{_number(figures['median'])}{spread}, {_number(figures['p90'])}, {_number(figures['p95'])}"


def _share(success: Mapping[str, Any]) -> str:
    interval = success["share_interval_95"]
    spread = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
    return f"{100 * success['share']:.1f} %{spread}"


def _number(value: float | None) -> str:
    """Three significant digits; a summary has null where a figure is infinite."""
    if value is None:
        return "inf"
    decimals = next((n for n, least in enumerate((100, 10, 0.1)) if abs(value) >= least), 3)
    return f"{value:.{decimals}f}"


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + _number(value)
