"""Pixels that an image's range has clipped: saturated, underexposed, or outside the window of its grey levels.

An image always has a brightest and a darkest pixel. What is clipped shows in the histogram: all levels that would lie
beyond the limit are piled up on it, so it is far more frequent than the levels next to it. Compression and resampling
smear the pile over a few levels, so a pixel is clipped where it and most of its neighbours are near the limit.

A bright or dark area that is exactly uniform looks the same and counts as well: it shows no more than a clipped one.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from veriserum_hf.core.arrays import BoolArray, IndexArray

_STEPS = 255  # of an image's range, as in 8 bits; other depths and floats are counted in as many
_STRAY = 1e-4  # share of the pixels that may lie beyond the limit: hot and dead ones
_SMEAR = 3  # steps that encoders and resampling spread a limit over
_NEXT = 64  # steps beyond these that are compared with the limit, a quarter of the range
_TIMES = 3.0  # as frequent as a step next to it; smooth images and noise have less at their ends than next to them
_TIMES_ADJACENT = 2.0  # as frequent as the steps on either side: a uniform area with noise is less sharp
_LEAST = 1e-3  # share of the pixels; a smaller pile is no evidence
_MOST = 0.5  # share of a pixel's neighbourhood of 3 x 3


def clipped_pixels(levels: NDArray[np.generic], in_field: BoolArray) -> BoolArray:
    """Pixels at the upper or lower limit of an image, where it is clipped there.

    Parameters
    ----------
    levels : (rows, columns) grey levels of any depth, or floats; finite.
    in_field : (rows, columns), False where there is no image, as outside a round field; nothing is clipped there.

    """
    shown = levels[in_field].astype(np.float32)
    clipped: BoolArray = np.zeros(levels.shape, dtype=np.bool_)
    stray = int(_STRAY * len(shown))
    if not len(shown):
        return clipped
    low, high = np.partition(shown, [stray, len(shown) - 1 - stray])[[stray, -1 - stray]].tolist()
    if not high > low:
        return clipped
    steps = np.rint((levels.astype(np.float32) - low) * (_STEPS / (high - low)))
    within = steps[in_field & (steps >= 0) & (steps <= _STEPS)].astype(np.uint8)
    counts = np.bincount(within, minlength=_STEPS + 1)
    for from_limit, of_limit in ((steps, counts), (_STEPS - steps, counts[::-1])):
        if (last := _last_step(of_limit)) is not None:
            near = in_field & (from_limit <= last)
            clipped |= near & (cv2.blur(near.astype(np.float32), (3, 3)) > _MOST)
    return clipped


def _last_step(counts: IndexArray) -> int | None:
    """Last step, counted from the limit, of the pile of clipped pixels; None where there is none.

    Parameters
    ----------
    counts : pixels at each step from the limit.

    """
    peak = int(counts[: _SMEAR + 1].argmax())
    occupied = np.flatnonzero(counts)  # images of few levels, and stretched ones, skip steps
    beyond = occupied[(occupied > peak + _SMEAR) & (occupied <= peak + _SMEAR + _NEXT)]
    if not len(beyond):
        return None
    at = int(np.searchsorted(occupied, peak))
    adjacent = counts[occupied[max(at - 1, 0) : at + 2]].sum() - counts[peak]
    least = max(_TIMES * np.median(counts[beyond]), _TIMES_ADJACENT * adjacent, _LEAST * counts.sum())
    return peak + _SMEAR if counts[peak] >= least else None
