"""Identify the spots of a grid phantom.

A walk along the lattice gives the spots' places on it; `placement` locates those on the phantom.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from veriserum_hf.calibration.beads import Beads
from veriserum_hf.calibration.phantoms import GridPhantom
from veriserum_hf.core import FloatArray, IndexArray
from veriserum_hf.errors import CalibrationError

_FEWEST = 100  # beads of a grid
_PITCH_TOLERANCE = 0.15  # published scales differ by 2 %, and the scale within a frame by 9 %
_NEAR = 0.25  # of the pitch: how far from its place a bead may be
_NEIGHBOURS = {
    "square": np.array([(1, 0), (0, 1), (-1, 0), (0, -1)]),
    "hexagonal": np.array([(1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1)]),
}
WAY_OUT = "give a frame of the whole grid phantom"


class Lattice(NamedTuple):
    """Spots of a frame (n,) by number, and their places (n, 2): the first step points right, the second up."""

    bead: IndexArray
    place: IndexArray


def find_lattice(beads: Beads, phantom: GridPhantom) -> Lattice:
    """Places of a frame's spots on their common lattice.

    Raises
    ------
    CalibrationError
        If there is no such lattice; the message states what was found.

    """
    return _assign(beads.center_px, *_walk(beads, phantom), phantom)


def fewest(phantom: GridPhantom) -> int:
    """Spots that a frame must show."""
    return min(_FEWEST, int(0.75 * len(phantom.index))) if phantom.bounded else _FEWEST


def _walk(beads: Beads, phantom: GridPhantom) -> tuple[IndexArray, IndexArray]:
    """Beads that are connected on a lattice, and their places (n, 2)."""
    center_px, neighbours = beads.center_px, _NEIGHBOURS[phantom.lattice]
    if len(center_px) < fewest(phantom):
        expected = f"the phantom has {len(phantom.index)}" if phantom.bounded else f"at least {_FEWEST} are needed"
        raise CalibrationError(
            f"no grid in the frame: {len(center_px)} spots look like {phantom.spots}, {expected}; {WAY_OUT}"
        )
    tree = KDTree(center_px)
    pitch_px = float(np.median(tree.query(center_px, k=2)[0][:, 1]))
    pitch_mm = pitch_px * beads.mm_per_px
    if abs(pitch_mm / phantom.pitch_mm - 1) > _PITCH_TOLERANCE:
        raise CalibrationError(
            f"frame of another phantom: {len(center_px)} {phantom.spots} about {pitch_mm:.1f} mm apart, expected "
            f"{phantom.pitch_mm:g} mm; {WAY_OUT}, taken in the full field"
        )
    seed, steps_px = _seed(center_px, tree, pitch_px, phantom)
    place_of, steps_of, taken, front = {seed: (0, 0)}, {seed: steps_px}, {(0, 0)}, [seed]
    while front:
        expected_px = np.concatenate([center_px[bead] + neighbours @ steps_of[bead] for bead in front])
        nearest = tree.query(expected_px, distance_upper_bound=_NEAR * pitch_px)[1]
        parents, front = front, []
        for number in np.flatnonzero(nearest < len(center_px)):
            parent, bead = parents[number // len(neighbours)], int(nearest[number])
            step = neighbours[number % len(neighbours)]
            place = (place_of[parent][0] + int(step[0]), place_of[parent][1] + int(step[1]))
            if bead in place_of or place in taken:
                continue
            # The scale and rotation of the lattice change slowly along the way.
            off_px = center_px[bead] - center_px[parent] - step @ steps_of[parent]
            steps_px = steps_of[parent] + np.outer(step, off_px) / (2 * np.abs(step).sum())
            place_of[bead], steps_of[bead] = place, steps_px
            taken.add(place)
            front.append(bead)
    return np.array(list(place_of), dtype=np.intp), np.array(list(place_of.values()), dtype=np.intp)


def _seed(center_px: FloatArray, tree: KDTree, pitch_px: float, phantom: GridPhantom) -> tuple[int, FloatArray]:
    """A bead near the centre with all its neighbours, and the steps (2, 2) to the one right and the next one up."""
    from_center_px = np.hypot(*(center_px - np.median(center_px, axis=0)).T)
    neighbours = _NEIGHBOURS[phantom.lattice]
    along, across = phantom.steps[1]
    for bead in np.argsort(from_center_px):
        arms = center_px[tree.query(center_px[bead], k=len(neighbours) + 1)[1][1:]] - center_px[bead]
        right = arms[arms[:, 0].argmax()]
        steps_px = np.array([right, along * right + across * np.array([right[1], -right[0]])])  # px count downwards
        off_px = np.hypot(*(arms[:, None] - neighbours @ steps_px).transpose(2, 0, 1)).min(axis=0)
        if (off_px < _NEAR * pitch_px).all():
            return int(bead), steps_px
    angles = "four neighbours at right angles" if phantom.lattice == "square" else "six neighbours all around"
    raise CalibrationError(
        f"frame of another phantom: none of {len(center_px)} {phantom.spots} has {angles}; {WAY_OUT}"
    )


def smooth_map(
    source: FloatArray | IndexArray, target: FloatArray | IndexArray, degree: int = 3
) -> Callable[[FloatArray | IndexArray], FloatArray]:
    """Polynomial map from points (n, 2) to others (n, 2), by least squares."""
    center, spread = source.mean(axis=0), source.std()

    def powers(points: FloatArray | IndexArray) -> FloatArray:
        x, y = ((points - center) / spread).T
        return np.stack([x**a * y**b for a in range(degree + 1) for b in range(degree + 1 - a)], axis=1)

    terms = powers(source)
    coefficients = np.linalg.solve(terms.T @ terms, terms.T @ target)
    return lambda points: np.asarray(powers(points) @ coefficients)


def _assign(center_px: FloatArray, bead: IndexArray, place: IndexArray, phantom: GridPhantom) -> Lattice:
    """Places of all beads, also of those that the walk did not reach, by a smooth map through those that it did."""
    if len(bead) < fewest(phantom):
        raise CalibrationError(
            f"no grid in the frame: only {len(bead)} of {len(center_px)} {phantom.spots} are connected on a "
            f"{phantom.lattice} lattice; {WAY_OUT}"
        )
    smooth = smooth_map(center_px[bead], place)(center_px)
    places = np.rint(smooth).astype(np.intp)
    off = np.hypot(*(smooth - places).T)
    near = np.argsort(off)[: np.count_nonzero(off < _NEAR)]
    nearest = near[np.unique(places[near], axis=0, return_index=True)[1]]
    return Lattice(nearest, places[nearest])
