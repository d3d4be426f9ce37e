"""Calibration phantoms: where their beads are."""

import numpy as np

from veriserum_hf.core import FloatArray

# The lab's phantom `sipla_grid`: lead beads on a square lattice, its corners cut off, and one more bead that marks
# its orientation. It is mounted on the intensifier, whose mm are counted from its centre.
BEADS_PER_SIDE = 45
BEAD_PITCH_MM = 7.0
BEAD_DIAMETER_MM = 2.0
CUT_CORNER = 11  # beads that the first row of a corner lacks; the next lacks one less
ORIENTATION_BEAD = (5, 39)


def grid_beads_mm() -> FloatArray:
    """Positions (1762, 2) mm, X right and Y up, of the grid phantom's beads; the last marks the orientation."""
    index = np.arange(BEADS_PER_SIDE)
    first, second = np.meshgrid(index, index, indexing="ij")
    to_edge = np.minimum(first, BEADS_PER_SIDE - 1 - first) + np.minimum(second, BEADS_PER_SIDE - 1 - second)
    kept = to_edge >= CUT_CORNER
    beads = np.stack([first[kept], second[kept]], axis=1)
    return BEAD_PITCH_MM * (np.vstack([beads, ORIENTATION_BEAD]) - (BEADS_PER_SIDE - 1) / 2)


# The layout of the lab's phantom `sipla_cylinder` is not public: this one was designed for this package. Lead beads
# are in the wall of an acrylic tube along a spiral of golden angles, denser towards the ends, where perspective is
# strongest, and displaced so that no rotation or shift maps the spiral onto itself; a few large ones, identified by
# their size, are the code by which a projection is recognised. It fills the field, because the information on the
# source grows with the square of the projection's size.
CYLINDER_RADIUS_MM = 100.0
CYLINDER_HEIGHT_MM = 240.0
CYLINDER_WALL_MM = 5.0
CYLINDER_BEADS = 160
CYLINDER_BEAD_DIAMETER_MM = 2.0
LARGE_BEAD_DIAMETER_MM = 4.0
LARGE_BEADS = (31, 38, 47, 53, 62, 66, 75, 84, 92, 97, 106, 113, 121, 128)


def cylinder_beads_mm() -> FloatArray:
    """Positions (160, 3) mm of the marker phantom's beads: origin at its centre, its axis along y."""
    index = np.arange(CYLINDER_BEADS)
    along = 2 * (index + 0.5) / CYLINDER_BEADS - 1
    height_mm = CYLINDER_HEIGHT_MM / 2 * np.sign(along) * np.sqrt(np.abs(along))
    angle = np.pi * (3 - np.sqrt(5)) * index + 0.08 * np.sin(index**2)
    return np.stack([CYLINDER_RADIUS_MM * np.sin(angle), height_mm, CYLINDER_RADIUS_MM * np.cos(angle)], axis=1)


def cylinder_bead_diameters_mm() -> FloatArray:
    """Diameters (160,) mm of the marker phantom's beads."""
    diameters = np.full(CYLINDER_BEADS, CYLINDER_BEAD_DIAMETER_MM)
    diameters[list(LARGE_BEADS)] = LARGE_BEAD_DIAMETER_MM
    return diameters
