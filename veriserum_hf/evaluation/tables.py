"""Summaries of errors as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from veriserum_hf.core import Table
from veriserum_hf.evaluation.limits_of_agreement import Agreement, Agreements
from veriserum_hf.evaluation.stated_confidence import FAR_DEG, FAR_MM, StatedConfidence
from veriserum_hf.evaluation.summary import Evaluation, Group, Limits, Metric, Quantiles, Success, Summary

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
AGREEMENT_NOTE = (
    "Bias: mean of the differences. SD: of one frame of a new trial, from the variances within and between trials. "
    "95 % limits of agreement: bias -/+ 1.96 SD (Bland & Altman 1986, 2007). In brackets: 95 % intervals, with "
    "trials as clusters of frames (Zou 2013). Position of the implant's origin along the world's axes, and "
    "for each plane along the ray from the X-ray source (depth), to the right (h) and up (v) in the image; rotation "
    "vector about the world's axes. MTPM: displacement of the point of the implant that moves farthest; it has no "
    "sign, so that its mean and 95 % quantile are shown. Where two sources are equally precise, the SD of one of "
    "them is this SD divided by 1.41."
)

_CONFIDENCE_NOTE = "Bins hold equal numbers of poses; the error is the mean distance of both shares over them."


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
        *([_confidence_table(summary["confidence"])] if "confidence" in summary else []),
    ]


def _confidence_table(stated: StatedConfidence) -> Table:
    """One row for each bin of the confidence."""
    note = f"Expected calibration error {stated['calibration_error']:.3f}. {_CONFIDENCE_NOTE}"
    if (found := stated["marks"]) is not None:
        caught = (
            "none was far off" if found["caught"] is None else f"{100 * found['caught']:.0f} % of them are marked"
        )
        note += (
            f" Marked as not to be trusted: {100 * found['marked']:.0f} %. Off by more than {FAR_MM:g} mm or "
            f"{FAR_DEG:g} degrees: {100 * found['far']:.1f} %; {caught}."
        )
    rows = [[f"{one['confidence']:.2f}", f"{one['share']:.2f}", one["count"]] for one in stated["reliability"]]
    return Table(["stated confidence", "share within 2 mm, 2 deg", "poses"], rows, note=note)


def evaluation_tables(document: Evaluation) -> list[Table]:
    """Tables of an evaluation: those of its summary, and agreement with the labels where it states it."""
    agreement = document.get("agreement")
    return summary_tables(document) + ([_agreement_summary(agreement)] if agreement else [])


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


def _agreement_summary(agreement: Agreements) -> Table:
    """Table of all implants together, and of the joint, with its note."""
    content = agreement_table({"joint": agreement["joint"], "implants": agreement["by_implant"]["all"]})
    return replace(content, note=f"{agreement['about_joint']} {AGREEMENT_NOTE}")


def agreement_table(groups: Mapping[str, Sequence[Agreement]]) -> Table:
    """One row for each degree of freedom of each of several groups, by their names."""
    header = ["", "degree of freedom", "pairs", "trials", "bias", "SD", "95 % limits of agreement", "RMS"]
    rows: list[list[object]] = [
        [
            *(group, _title(one["name"]), one["pairs"], one["trials"]),
            *(_bias(one), "-" if one["sd"] is None else _number(one["sd"]), _limits(one), _number(one["rms"])),
        ]
        for group, rows in groups.items()
        for one in rows
    ]
    return Table(header, rows, alignment="llr")


def _title(name: str) -> str:
    """Degree of freedom for people: ``bs depth, mm``."""
    *words, unit = name.replace("mtpm", "MTPM").split("_")
    return f"{' '.join(words)}, {unit}"


def _bias(one: Agreement) -> str:
    shown = _number if one["name"] == "mtpm_mm" else _signed
    interval = one["bias_interval_95"]
    return shown(one["bias"]) + (f" [{', '.join(map(shown, interval))}]" if interval else "")


def _limits(one: Agreement) -> str:
    if one["name"] == "mtpm_mm":
        return f"95 % below {_number(one['p95'])}"
    if one["limits_95"] is None:
        return "-"
    intervals = one["limits_intervals_95"] or [[], []]
    return " to ".join(
        _signed(limit) + (f" [{', '.join(map(_signed, interval))}]" if interval else "")
        for limit, interval in zip(one["limits_95"], intervals, strict=True)
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
