"""How much of the raw frames is clipped, and so shows nothing; see `veriserum_hf.core.clipped_pixels`."""

from collections.abc import Iterable, Mapping
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.core import PLANES, Grey, PlaneName, clipped_pixels, round_field

_SAMPLED_PX = 200  # rows of the pixels that are looked at; a share needs no more
_MUCH = 0.05


class ClippedShares(TypedDict):
    """Shares of the pixels of the field that are clipped, 0 to 1, over the frames of a plane that can be used."""

    frames: int
    median: float
    p95: float
    max: float
    frames_above_5_percent: int


def share_clipped(frame: Grey, white: int) -> float:
    """Share of the pixels of a frame's field that are clipped, 0 to 1; levels above white are clipped to it."""
    step = max(1, min(frame.shape) // _SAMPLED_PX)
    levels: NDArray[np.float32] = frame[::step, ::step].astype(np.float32)
    levels[levels > white] = white
    in_field = round_field(np.asarray(levels / max(float(levels.max()), 1.0), np.float32))
    return float(clipped_pixels(levels, in_field)[in_field].mean())


def clipped_shares(shares: Mapping[PlaneName, Iterable[float]]) -> dict[PlaneName, ClippedShares]:
    """Summary of the frames of each plane that has any."""
    found: dict[PlaneName, ClippedShares] = {}
    for plane in PLANES:
        if len(values := np.array(list(shares[plane]), dtype=np.float64)):
            median, p95 = np.percentile(values, (50, 95)).round(4).tolist()
            highest = round(float(values.max()), 4)
            above = int(np.count_nonzero(values > _MUCH))
            found[plane] = {
                "frames": len(values),
                "median": median,
                "p95": p95,
                "max": highest,
                "frames_above_5_percent": above,
            }
    return found
