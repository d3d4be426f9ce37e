"""All figures of a computation, as SVG and PNG in a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from veriserum_hf.core import FloatArray
from veriserum_hf.geometry import Tray, invert_transform, transform_points
from veriserum_hf.jobs import atomic_path
from veriserum_hf.knee.axes import Meshes
from veriserum_hf.knee.cycles import Event, cycles_of
from veriserum_hf.knee.figures import (  # first: its error names what to install without matplotlib
    draw_axes,
    draw_contact,
    draw_cycles,
    draw_trial,
    draw_trials,
)
from veriserum_hf.knee.joint_kinematics import LOWEST, Kinematics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_all(
    folder: Path,
    sources: Mapping[str, Kinematics],
    meshes: Meshes,
    tasks: Mapping[int, str] | None = None,
    events: Event | Mapping[int, Sequence[float]] | None = None,
    *,
    all_verdicts: bool = False,
) -> list[Path]:
    """Draw each trial, the trials of each task, cycles, contact, and the axes of each implant.

    Parameters
    ----------
    folder : made if it is not there; figures of the same names are replaced.
    sources : kinematics of the same frames by names; contact and axes are those of the first.
    meshes : by anatomy id.
    tasks : by trial id; without them all trials are drawn as those of one.
    events : cycles are drawn between these, if given.
    all_verdicts : as of `cycles_of`.

    Returns
    -------
    The files.

    """
    folder.mkdir(exist_ok=True)
    first = next(iter(sources.values()))
    written: list[Path] = []
    trials = pc.unique(first.table["trial_id"]).to_pylist()
    for trial in trials:
        shown = {name: part for name, each in sources.items() if len(part := _of([trial], each.table))}
        written += save_figure(draw_trial(shown, _name("trial", trial)), folder, _file("trial", trial))
        part = _of([trial], first.table)
        if part[LOWEST[0]].null_count < len(part):
            tray, pivot_mm = _tray(first, part), first.pivots_mm.get(-1 if trial is None else trial)
            figure = draw_contact(part, tray, pivot_mm, f"lowest points, {_name('trial', trial)}")
            written += save_figure(figure, folder, _file("contact", trial))
    for task, members in _by_task(trials, tasks or {}).items():
        if len(members) > 1:
            parts = {_name("trial", trial): _of([trial], first.table) for trial in members}
            written += save_figure(draw_trials(parts, f"{len(parts)} trials, {task}"), folder, _file("trials", task))
        if events is not None:
            cycles = {
                name: cycles_of(_of(members, each.table), events, all_verdicts=all_verdicts)
                for name, each in sources.items()
            }
            written += save_figure(draw_cycles(cycles, f"cycles, {task}"), folder, _file("cycles", task))
    for id, axes in first.axes.implants.items():
        if id in meshes:
            title = f"axes of {axes.component} {id}, from {axes.found_in}"
            written += save_figure(draw_axes(meshes[id], axes, title), folder, _file("axes", id))
    return written


def save_figure(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """Write a figure as SVG and as PNG into a folder; each appears whole or not at all."""
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    for path in paths:
        with atomic_path(path, path.suffix) as temporary:
            figure.savefig(temporary, dpi=150)
    return paths


def _of(trials: Sequence[int | None], table: pa.Table) -> pa.Table:
    return table.filter(pc.is_in(table["trial_id"], pa.array(trials, pa.int64())))


def _by_task(trials: Sequence[int | None], tasks: Mapping[int, str]) -> dict[str, list[int | None]]:
    found: dict[str, list[int | None]] = {}
    for trial in trials:
        task = "all" if trial is None else tasks.get(trial, "all")
        found.setdefault(task, []).append(trial)
    return found


def _name(what: str, id: int | None) -> str:
    return what if id is None else f"{what} {id}"


def _file(what: str, name: object) -> str:
    """Name of a file without its suffix; of a task only letters, digits and the like are kept."""
    plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in str(name))
    return what if name is None else f"{what}_{plain}"


def _tray(found: Kinematics, part: pa.Table) -> FloatArray | None:
    """Outline of a trial's tray, (n, 2) medial and anterior, where its axes are from the mesh."""
    ids = pc.unique(part["tibia_anatomy_id"].drop_null()).to_pylist()
    axes = found.axes.implants[ids[0]]
    if len(ids) > 1 or not isinstance(axes.shape, Tray):
        return None
    points = transform_points(invert_transform(axes.T_implant_axes), axes.shape.outline_mm)
    sign = 1.0 if found.axes.side == "right" else -1.0
    return np.stack([sign * points[:, 0], points[:, 2]], axis=-1)
