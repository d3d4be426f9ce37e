"""Which grey level is white in frames of 16 bits."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from veriserum_hf.core import Grey

# Hot pixels, dust and burnt-in marks lie above the light that the detector measured.
MOST_ABOVE_WHITE = 0.001
ABOVE_WHITE = "above white"  # the problem of a frame with more


def highest_level(frame: Grey) -> int:
    """Grey level that all but 0.1 % of a frame's pixels reach at most."""
    counts = np.bincount(frame.ravel())
    above = frame.size - np.cumsum(counts)
    return int(np.argmax(above <= MOST_ABOVE_WHITE * frame.size))


def depth(level: int) -> int:
    """The even bit depth, at least 8, of frames whose highest grey level is ``level``."""
    bits = level.bit_length()
    return max(8, bits + bits % 2)


def white_level(highest: Iterable[int]) -> int:
    """White by the `highest_level` of some frames: that of the bit depth that most of them use.

    Where two depths are equally frequent, the larger one.
    """
    depths = Counter(map(depth, highest))
    bits = max(depths, key=lambda each: (depths[each], each))
    return int(2**bits - 1)


def share_above(frame: Grey, white: int) -> float:
    """Share of the pixels of a 16-bit frame that lie above white, and are clipped to it; 0 for 8 bits."""
    return np.count_nonzero(frame > white) / frame.size if frame.dtype == np.uint16 else 0.0
