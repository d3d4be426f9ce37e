"""Cycles of a movement: from event to event, normalised to 0 to 100 %, and their mean over trials."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import yaml
from scipy.signal import find_peaks

from veriserum_hf.core import FloatArray, load_plain_yaml, text_lines
from veriserum_hf.errors import KinematicsError
from veriserum_hf.knee.coordinates import COORDINATES
from veriserum_hf.knee.frames import counted
from veriserum_hf.knee.rates import runs

Event = Literal["min_flexion", "max_flexion"]
EVENTS: tuple[Event, Event] = ("min_flexion", "max_flexion")
PERCENT = np.arange(101.0)
_PROMINENCE = 0.5  # of the range of flexion in a trial: smaller peaks within a cycle are no events


def read_events(path: Path) -> dict[int, list[float]]:
    """Times of events in s by trial id, of a YAML file such as ``12: [0.10, 1.25, 2.43]``.

    Raises
    ------
    KinematicsError
        If the file cannot be read, or holds something else.

    """
    try:
        found = load_plain_yaml("\n".join(text_lines(path, KinematicsError)))
    except (ValueError, yaml.YAMLError) as error:
        raise KinematicsError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not found:
        raise KinematicsError(
            f"{path} holds {str(found)[:60]}; expected times in s by trial id, such as 12: [0.1, 1.2]"
        )
    for trial, times in found.items():
        numbers = isinstance(times, list) and all(type(time) in (int, float) for time in times)
        if not isinstance(trial, int) or not numbers or len(times) < 2 or not np.all(np.diff(times) > 0):
            raise KinematicsError(
                f"{path}: trial {trial} has {str(times)[:60]}; expected at least two rising times in s"
            )
    return {trial: [float(time) for time in times] for trial, times in found.items()}


def cycles_of(
    table: pa.Table, events: Event | Mapping[int, Sequence[float]], *, all_verdicts: bool = False
) -> pa.Table:
    """Cut trials into cycles from each event to the next, at 0, 1, ..., 100 % of each.

    Parameters
    ----------
    table : of `kinematics`. Where it is smoothed, so are the cycles, and the column ``smoothed`` is true.
    events : minima or maxima of flexion, or times in s by trial id.
    all_verdicts : use frames of every verdict, not only those that have converged; smoothed ones all count.

    Returns
    -------
    ``trial_id``, ``cycle`` (from 1 in each trial), ``start_s``, ``end_s``, ``percent``, the six coordinates, each
    again with ``_sd``, and ``smoothed``. Values in gaps are null.

    Raises
    ------
    KinematicsError
        If times are unknown, or no trial has two events.

    """
    columns = {name: table[name].to_numpy() for name in table.column_names if name not in ("side", "verdict")}
    if np.isnan(columns["time_s"]).any():
        raise KinematicsError("cycles need the time of every frame; give the frame rate")
    smoothed = f"smoothed_{COORDINATES[0]}" in table.column_names
    names = [f"smoothed_{name}" if smoothed else name for name in COORDINATES]
    values = np.stack([columns[name] for name in [*names, *(f"{name}_sd" for name in names)]], axis=-1)
    usable = np.isfinite(values[:, 0])
    if not (smoothed or all_verdicts):
        usable &= counted(table["verdict"].to_pylist())
    trial_id = np.nan_to_num(columns["trial_id"].astype(np.float64), nan=-1).astype(np.int64)
    edges = [0, *(np.flatnonzero(np.diff(trial_id)) + 1).tolist(), len(trial_id)]
    trials = [slice(start, end) for start, end in pairwise(edges)]
    parts = []
    for trial in trials:
        time_s = columns["time_s"][trial]
        id = int(trial_id[trial.start])
        at = _events(values[trial, 0], time_s, usable[trial], events, id)
        joined = runs(time_s, usable[trial], [slice(0, len(time_s))])
        for cycle, (start_s, end_s) in enumerate(pairwise(at), 1):
            sampled = _sampled(values[trial], time_s, joined, np.linspace(start_s, end_s, len(PERCENT)))
            parts.append(_part(id, cycle, start_s, end_s, sampled, smoothed))
    if not parts:
        wanted = events if isinstance(events, str) else "given times"
        raise KinematicsError(
            f"no trial has two events ({wanted}) in frames that count; expected at least one whole cycle"
        )
    return pa.concat_tables(parts)


def mean_cycle(cycles: pa.Table) -> pa.Table:
    """Mean over trials, and standard deviation between them, at each percent; cycles of a trial are averaged first.

    Returns
    -------
    ``percent``; of each coordinate the mean, ``_between_sd`` (null with one trial) and ``_trials``, how many have it.

    """
    trial_id = np.array(cycles["trial_id"].to_pylist())
    columns: dict[str, object] = {"percent": PERCENT}
    for name in COORDINATES:
        values = cycles[name].to_numpy().reshape(-1, len(PERCENT))
        of_trial = trial_id[:: len(PERCENT)]
        means = np.array([_mean(values[of_trial == id]) for id in np.unique(of_trial)])
        count = np.isfinite(means).sum(axis=0)
        mean = _mean(means)
        squares = np.nansum((means - mean) ** 2, axis=0)
        columns[name] = mean
        columns[f"{name}_between_sd"] = np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)
        columns[f"{name}_trials"] = count
    return pa.table({name: pa.array(column, from_pandas=True) for name, column in columns.items()})


def _mean(values: FloatArray) -> FloatArray:
    """Mean of the known values of each column; NaN without any."""
    count = np.isfinite(values).sum(axis=0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)


def _events(
    flexion_deg: FloatArray,
    time_s: FloatArray,
    usable: np.ndarray,
    events: Event | Mapping[int, Sequence[float]],
    trial_id: int,
) -> list[float]:
    if not isinstance(events, str):
        return list(events.get(trial_id, []))
    known = np.flatnonzero(usable)
    if len(known) < 3:
        return []
    height = flexion_deg[known] if events == "max_flexion" else -flexion_deg[known]
    peaks, _ = find_peaks(height, prominence=_PROMINENCE * np.ptp(height))
    return [float(time_s[known[k]]) for k in peaks]


def _sampled(values: FloatArray, time_s: FloatArray, joined: list[slice], at_s: FloatArray) -> FloatArray:
    """Values (k, 12) at times, between frames without a gap; NaN elsewhere."""
    found = np.full((len(at_s), values.shape[1]), np.nan)
    for run in joined:
        known_s = time_s[run]
        inside = (at_s >= known_s[0] - 1e-9) & (at_s <= known_s[-1] + 1e-9)
        for k in range(values.shape[1]):
            found[inside, k] = np.interp(at_s[inside], known_s, values[run, k])
    return found


def _part(trial_id: int, cycle: int, start_s: float, end_s: float, sampled: FloatArray, smoothed: bool) -> pa.Table:
    count = len(PERCENT)
    constant = {"trial_id": trial_id, "cycle": cycle, "start_s": start_s, "end_s": end_s}
    columns: dict[str, object] = {name: np.full(count, value) for name, value in constant.items()}
    columns["percent"] = PERCENT
    names = [*COORDINATES, *(f"{name}_sd" for name in COORDINATES)]
    columns |= dict(zip(names, sampled.T, strict=True))
    columns["smoothed"] = np.full(count, smoothed)
    return pa.table({name: pa.array(column, from_pandas=True) for name, column in columns.items()})
