"""Velocities of what is known in consecutive frames."""

import numpy as np

from veriserum_hf.core import BoolArray, FloatArray

_GAP = 1.5  # times the usual time between frames


def runs(time_s: FloatArray, usable: BoolArray, trials: list[slice]) -> list[slice]:
    """Consecutive usable frames: between two of them, no frame is missing in time."""
    steps = np.concatenate([np.diff(time_s[trial]) for trial in trials])
    usual = np.nanmedian(steps) if np.isfinite(steps).any() else np.nan
    found = []
    for trial in trials:
        inside = usable[trial] & np.isfinite(time_s[trial])
        joined = inside[1:] & inside[:-1] & (np.diff(time_s[trial]) < _GAP * usual)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], joined, [False]]).astype(int)))
        found += [
            slice(trial.start + int(first), trial.start + int(last) + 1)
            for first, last in zip(edges[::2], edges[1::2], strict=True)
        ]
    return found


def rates(values: FloatArray, time_s: FloatArray, usable: BoolArray, trials: list[slice]) -> FloatArray:
    """Derivatives (n, k) by time, of central differences; NaN in gaps and for frames without a neighbour."""
    found = np.full_like(values, np.nan)
    for run in runs(time_s, usable, trials):
        found[run] = np.gradient(values[run], time_s[run], axis=0)
    return found
