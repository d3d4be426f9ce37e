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


def rates(
    values: FloatArray, deviations: FloatArray, time_s: FloatArray, usable: BoolArray, trials: list[slice]
) -> tuple[FloatArray, FloatArray]:
    """Derivatives (n, k) by time, of central differences, and their deviations.

    NaN in gaps and for frames without a neighbour.

    Parameters
    ----------
    values : (n, k).
    deviations : (n, k) of their errors, which are independent from frame to frame.
    time_s : (n,).
    usable : (n,).
    trials : frames of each.

    """
    found, spread = np.full_like(values, np.nan), np.full_like(values, np.nan)
    for run in runs(time_s, usable, trials):
        t = time_s[run]
        found[run] = np.gradient(values[run], t, axis=0)
        # Row k has the weights by which the values of frame k - 1, k and k + 1 enter its derivative.
        before, after = np.diff(t, prepend=np.nan)[:, None], np.diff(t, append=np.nan)[:, None]
        weights = [-after / (before * (before + after)), 1 / before - 1 / after, before / (after * (before + after))]
        s = deviations[run]
        padded = np.pad(s, ((1, 1), (0, 0)))
        spread[run] = np.sqrt(sum((w * padded[k : k + len(s)]) ** 2 for k, w in enumerate(weights)))
        for end, inner in ((0, 1), (-1, -2)):  # one-sided
            spread[run][end] = np.hypot(s[end], s[inner]) / abs(t[inner] - t[end])
    return found, spread
