"""Places of a frame's lattice: which have a spot, and which places of the phantom they may be."""

from typing import NamedTuple

import numpy as np

from veriserum_hf.calibration.beads import Beads
from veriserum_hf.calibration.lattice import Lattice, smooth_map
from veriserum_hf.core import IndexArray

_BEYOND = 8  # places around the beads where the phantom's edge may be


class Seen(NamedTuple):
    """State of the lattice's places from ``corner`` on: 1 with a bead, -1 without, 0 where the field ends."""

    corner: IndexArray
    state: IndexArray

    @classmethod
    def around(cls, lattice: Lattice, beads: Beads) -> "Seen":
        """What is seen of the places of a lattice, and of those around it."""
        bead, place = lattice
        corner = place.min(axis=0) - _BEYOND
        shape = tuple(place.max(axis=0) + _BEYOND + 1 - corner)
        everywhere = np.indices(shape).reshape(2, -1).T + corner
        in_field = beads.visible(smooth_map(place, beads.center_px[bead])(everywhere))
        state = np.where(in_field, -1, 0).reshape(shape)
        state[tuple((place - corner).T)] = 1
        return cls(corner, state)

    def at(self, place: IndexArray) -> IndexArray:
        """State of places (n, 2)."""
        local = place - self.corner
        inside = np.asarray(((local >= 0) & (local < self.state.shape)).all(axis=1))
        return np.where(inside, self.state[tuple(np.where(inside[:, None], local, 0).T)], 0)


class Placement(NamedTuple):
    """Index on the phantom = ``rotation`` @ place + ``shift``."""

    rotation: IndexArray
    shift: IndexArray

    def index_of(self, place: IndexArray) -> IndexArray:
        """Index (n, 2) of places (n, 2)."""
        return np.asarray(place @ self.rotation.T + self.shift)

    def place_of(self, index: IndexArray) -> IndexArray:
        """Place (n, 2) of indices (n, 2)."""
        return np.asarray((index - self.shift) @ inverse(self.rotation).T)


def inverse(rotation: IndexArray) -> IndexArray:
    """Inverse (2, 2) of a rotation that maps places to places."""
    return np.rint(np.linalg.inv(rotation)).astype(np.intp)


def counts(seen: Seen, outline: IndexArray, marks: IndexArray) -> tuple[int, int, int]:
    """Places of an outline with a spot and without, and spots elsewhere that are no marks."""
    states = seen.at(outline)
    found, empty = int(np.count_nonzero(states > 0)), int(np.count_nonzero(states < 0))
    return found, empty, int(np.count_nonzero(seen.state > 0) - found - np.count_nonzero(seen.at(marks) > 0))
