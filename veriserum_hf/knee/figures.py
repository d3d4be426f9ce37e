"""Figures of kinematics: over time and over cycles, contact on the tray, and the axes on the implants."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import trimesh

from veriserum_hf.core import FloatArray, one_line
from veriserum_hf.errors import KinematicsError
from veriserum_hf.geometry import Condyles, invert_transform, transform_points
from veriserum_hf.knee.axes import ImplantAxes
from veriserum_hf.knee.coordinates import COORDINATE_NAMES, COORDINATES
from veriserum_hf.knee.cycles import PERCENT, mean_cycle
from veriserum_hf.knee.frames import counted
from veriserum_hf.poses import DEVIATIONS_95

try:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError('figures need matplotlib: pip install "veriserum-hf[viz]"') from error

# Of Okabe and Ito, safe for colour-blind readers.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MOST_TRIALS_NAMED = 6


def draw_trial(sources: Mapping[str, pa.Table], title: str) -> Figure:
    """Six coordinates over time, with 95 % bands, of one trial by one or several sources.

    The inner band is of what differs from frame to frame, the outer one also of what all frames share. Frames that
    have not converged are open circles, outside the lines.

    Raises
    ------
    KinematicsError
        If there are more sources than colours.

    """
    _check_count(len(sources))
    figure, panels = _six_panels(title)
    for color, (label, table) in zip(COLORS, sources.items(), strict=False):
        at, unit = _times(table)
        good = counted(table["verdict"].to_pylist())
        smoothed = f"smoothed_{COORDINATES[0]}" in table.column_names
        for name, ax in panels.items():
            value = table[name].to_numpy()
            ax.plot(at, np.where(good, value, np.nan), ".-" if not smoothed else ".", ms=3, lw=1, color=color)
            ax.plot(at[~good], value[~good], "o", mfc="none", ms=4, mew=0.8, color=color)
            shown = f"smoothed_{name}" if smoothed else name
            if smoothed:
                ax.plot(at, table[shown].to_numpy(), lw=1.2, color=color)
            for deviation in (f"{shown}_sd", f"{shown}_frame_sd"):
                spread = np.where(good | smoothed, table[deviation].to_numpy(), np.nan)
                _band(ax, at, table[shown].to_numpy(), spread, color)
        _name_below(panels, unit)
        next(iter(panels.values())).plot([], [], color=color, label=_plain(label))
    if len(sources) > 1:
        figure.legend(loc="outside lower center", ncols=len(sources), frameon=False)
    return figure


def draw_trials(tables: Mapping[str, pa.Table], title: str) -> Figure:
    """Six coordinates over time of several trials, one line each."""
    figure, panels = _six_panels(title)
    for k, (label, table) in enumerate(tables.items()):
        at, unit = _times(table)
        at = at - at[0]
        smoothed = f"smoothed_{COORDINATES[0]}" in table.column_names
        good = counted(table["verdict"].to_pylist()) | smoothed
        for name, ax in panels.items():
            value = table[f"smoothed_{name}" if smoothed else name].to_numpy()
            ax.plot(at, np.where(good, value, np.nan), lw=0.9, color=COLORS[k % len(COLORS)], label=_plain(label))
        _name_below(panels, f"{unit}, from the first frame")
    if len(tables) <= _MOST_TRIALS_NAMED:
        handles, labels = next(iter(panels.values())).get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(tables), frameon=False)
    return figure


def draw_cycles(sources: Mapping[str, pa.Table], title: str) -> Figure:
    """Mean of cycles over trials, with 95 % of the trials as a band, and each cycle as a thin line.

    Parameters
    ----------
    sources : tables of `cycles_of` by the names of their sources.
    title : of the figure.

    Raises
    ------
    KinematicsError
        If there are more sources than colours.

    """
    _check_count(len(sources))
    figure, panels = _six_panels(title)
    for color, (label, cycles) in zip(COLORS, sources.items(), strict=False):
        mean = mean_cycle(cycles)
        for name, ax in panels.items():
            ax.plot(PERCENT, cycles[name].to_numpy().reshape(-1, len(PERCENT)).T, lw=0.4, alpha=0.5, color=color)
            middle, between = (mean[column].to_numpy() for column in (name, f"{name}_between_sd"))
            ax.plot(PERCENT, middle, lw=1.8, color=color)
            _band(ax, PERCENT, middle, between, color)
            ax.set_xlim(0, 100)
        _name_below(panels, "cycle, %")
        count = len(set(cycles["trial_id"].to_pylist()))
        next(iter(panels.values())).plot([], [], color=color, label=_plain(f"{label}: {count} trials"))
    figure.legend(loc="outside lower center", ncols=len(sources), frameon=False)
    return figure


def draw_axes(mesh: trimesh.Trimesh, axes: ImplantAxes, title: str) -> Figure:
    """A component with its axes, from its front, its right side and below."""
    figure = Figure(figsize=(10.5, 3.8), layout="constrained")
    figure.suptitle(_plain(title), fontsize=11)
    T_axes_implant = invert_transform(axes.T_implant_axes)
    triangles = transform_points(T_axes_implant, np.asarray(mesh.triangles).reshape(-1, 3)).reshape(-1, 3, 3)
    names = "x, to the patient's left", "y, proximal", "z, anterior"
    for ax, (right, up) in zip(figure.subplots(1, 3), ((0, 1), (2, 1), (0, 2)), strict=True):
        toward = ({0, 1, 2} - {right, up}).pop()
        order = np.argsort(triangles[:, :, toward].mean(axis=1))[
            :: 1 if (right, up) == (0, 1) else -1
        ]  # the nearest last
        normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        shade = 0.6 + 0.35 * np.abs(normal[:, toward]) / np.linalg.norm(normal, axis=1).clip(1e-12)
        faces = PolyCollection(
            list(triangles[order][:, :, (right, up)]),
            facecolors=_greys(shade[order]),
            edgecolors="none",
            rasterized=True,
        )
        ax.add_collection(faces)
        length = 0.35 * float(np.ptp(triangles[:, :, right]))
        for k, color in zip((right, up), ("#D55E00", "#0072B2"), strict=True):
            tip = length * np.array([k == right, k == up])
            ax.update_datalim([1.1 * tip])
            ax.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.8})
        _draw_landmarks(ax, axes, T_axes_implant, (right, up))
        ax.set(aspect="equal", xlabel=f"{names[right]}, mm", ylabel=f"{names[up]}, mm")
        ax.autoscale_view()
    return figure


def _greys(shade: FloatArray) -> FloatArray:
    """Grey colours (n, 3) of shades from 0 to 1."""
    return np.repeat(shade[:, None], 3, axis=1)


def draw_contact(
    table: pa.Table, tray_mm: FloatArray | None, pivot_mm: tuple[float, float] | None, title: str
) -> Figure:
    """Paths of the condyles' lowest points on the tray, from above, and the pivot of the trial.

    Parameters
    ----------
    table : of one trial.
    tray_mm : (n, 2) outline of the tray, medial and anterior; None where it is unknown.
    pivot_mm : medial and anterior; None where there is none.
    title : of the figure.

    """
    figure = Figure(figsize=(6.0, 4.6), layout="constrained")
    ax = figure.subplots()
    if tray_mm is not None:
        ax.plot(*tray_mm.T, ".", ms=1.0, color="0.6")
    good = counted(table["verdict"].to_pylist())
    ends = []
    for color, condyle in zip(COLORS, ("medial", "lateral"), strict=False):
        path = [
            np.where(good, table[f"{condyle}_lowest_{axis}_mm"].to_numpy(), np.nan) for axis in ("medial", "anterior")
        ]
        ax.plot(*path, ".-", ms=3, lw=0.8, color=color, label=f"{condyle} condyle")
        ends.append(np.array(path))
    for line in np.stack(ends, axis=-1).transpose(1, 2, 0)[:: max(len(table) // 10, 1)]:
        ax.plot(*line.T, lw=0.4, color="0.5")
    if pivot_mm is not None:
        ax.plot(*pivot_mm, "x", ms=8, color="black", label="pivot")
    ax.set(aspect="equal", xlabel="medial, mm", ylabel="anterior, mm")
    ax.set_title(_plain(title), fontsize=11)
    if table["side"][0].as_py() == "right":  # seen from above, its medial side is on the left
        ax.invert_xaxis()
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _six_panels(title: str) -> tuple[Figure, dict[str, Axes]]:
    figure = Figure(figsize=(10.5, 5.8), layout="constrained")
    figure.suptitle(_plain(title), fontsize=11)
    panels = dict(zip(COORDINATES, figure.subplots(2, 3, sharex=True).ravel(), strict=True))
    for name, ax in panels.items():
        ax.set_ylabel(COORDINATE_NAMES[name])
        ax.grid(alpha=0.3)
    return figure, panels


def _name_below(panels: Mapping[str, Axes], what: str) -> None:
    """Name what is along x, where its numbers are."""
    for ax in list(panels.values())[len(panels) // 2 :]:
        ax.set_xlabel(what)


def _times(table: pa.Table) -> tuple[FloatArray, str]:
    time_s = table["time_s"].to_numpy()
    return (table["frame_index"].to_numpy(), "frame") if np.isnan(time_s).any() else (time_s, "time, s")


def _band(ax: Axes, at: FloatArray, value: FloatArray, deviation: FloatArray, color: str) -> None:
    half = DEVIATIONS_95 * deviation
    ax.fill_between(at, value - half, value + half, color=color, alpha=0.2, lw=0)


def _draw_landmarks(ax: Axes, axes: ImplantAxes, T_axes_implant: FloatArray, shown: tuple[int, int]) -> None:
    """Circles of the condyles as they are seen along the flexion axis, their centres, and landmarks."""
    if isinstance(axes.shape, Condyles):
        centers = transform_points(T_axes_implant, axes.shape.center_mm)[:, shown]
        ax.plot(*centers.T, "+", color="black", ms=7)
        if shown == (2, 1):
            around = np.linspace(0, 2 * np.pi, 100)
            for center, radius in zip(centers, axes.shape.radius_mm, strict=True):
                ax.plot(*(center[:, None] + radius * np.array([np.cos(around), np.sin(around)])), "k--", lw=0.8)
    for points in axes.landmarks.values():
        ax.plot(*transform_points(T_axes_implant, points)[:, shown].T, ".", color="black", ms=5)


def _plain(text: str) -> str:
    """Text that matplotlib shows as it is: between dollar signs it would read a formula."""
    return one_line(text).replace("$", r"\$")


def _check_count(sources: int) -> None:
    if sources > len(COLORS):
        raise KinematicsError(f"{sources} sources cannot be distinguished in one figure; give at most {len(COLORS)}")
