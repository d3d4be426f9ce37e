"""Calibration phantoms: where their beads are."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# The lab's phantom `sipla_grid`: lead beads on a square lattice, its corners cut off, and one bead more that tells
# its orientation. It hangs on the intensifier, whose mm are counted from its middle.
BEADS_PER_SIDE = 45
BEAD_PITCH_MM = 7.0
BEAD_DIAMETER_MM = 2.0
CUT_CORNER = 11  # beads that the first row of a corner lacks; the next lacks one less
ORIENTATION_BEAD = (5, 39)


def grid_beads_mm() -> FloatArray:
    """Positions (1762, 2) mm, X right and Y up, of the grid phantom's beads; the last tells the orientation."""
    index = np.arange(BEADS_PER_SIDE)
    first, second = np.meshgrid(index, index, indexing="ij")
    to_edge = np.minimum(first, BEADS_PER_SIDE - 1 - first) + np.minimum(second, BEADS_PER_SIDE - 1 - second)
    kept = to_edge >= CUT_CORNER
    beads = np.stack([first[kept], second[kept]], axis=1)
    return BEAD_PITCH_MM * (np.vstack([beads, ORIENTATION_BEAD]) - (BEADS_PER_SIDE - 1) / 2)
