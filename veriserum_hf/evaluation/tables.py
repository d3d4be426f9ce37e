"""Summaries of errors as tables."""

from collections.abc import Mapping

from veriserum_hf.core import Table
from veriserum_hf.evaluation.summary import Group, Limits, Metric, Quantiles, Success, Summary

_UNITS: Mapping[Metric, str] = {
    "rotation_deg": "rotation, deg",
    "translation_mm": "translation, mm",
    "mtre_mm": "mTRE, mm",
}
_SUCCESS: Mapping[Limits, str] = {
    "success_1mm_1deg": "within 1 mm, 1 deg",
    "success_2mm_2deg": "within 2 mm, 2 deg",
}
_QUANTILES = "median [95 % interval], p90, p95"
_ACCURACY_NOTE = (
    f"Errors: {_QUANTILES}. mTRE: mean distance between the same surface point of the implant at both poses. "
    "Intervals are from resampled trials, not frames."
)
_AXES_NOTE = (
    "World axes, and for each plane: depth along the ray from its source to the implant, h (right) and v (up) "
    "normal to it. Bias: mean of estimate minus label."
)


def summary_tables(summary: Summary) -> list[Table]:
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


def accuracy_table(groups: Mapping[str, Group]) -> Table:
    """One row for each of several groups of a summary, by their names."""
    return Table(
        ["", "frames", "trials", *_UNITS.values(), *_SUCCESS.values()],
        [
            [
                name,
                group["frames"],
                group["trials"],
                *(_quantiles(group[error]) for error in _UNITS),
                *(_share(group[limits]) for limits in _SUCCESS),
            ]
            for name, group in groups.items()
        ],
        note=_ACCURACY_NOTE,
    )


def _quantiles(figures: Quantiles) -> str:
    interval = figures["median_interval_95"]
    spread = f" [{_number(interval[0])}, {_number(interval[1])}]" if interval else ""
    return f"{_number(figures['median'])}{spread}, {_number(figures['p90'])}, {_number(figures['p95'])}"


def _share(success: Success) -> str:
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
