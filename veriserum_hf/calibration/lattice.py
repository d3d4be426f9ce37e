"""Identify the beads of the grid phantom.

A walk along the lattice gives the beads' places on it; the phantom's outline and orientation bead locate it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.signal import correlate
from scipy.spatial import KDTree

from veriserum_hf.calibration.beads import NOMINAL_MM_PER_PX, Beads
from veriserum_hf.calibration.phantoms import BEAD_PITCH_MM, BEADS_PER_SIDE, ORIENTATION_BEAD, grid_beads_mm
from veriserum_hf.core import BoolArray, FloatArray, IndexArray
from veriserum_hf.errors import CalibrationError

_FEWEST = 100  # beads of a grid
_PITCH_TOLERANCE = 0.15  # published scales differ by 2 %, and the scale within a frame by 9 %
_NEAR = 0.25  # of the pitch: how far from its place a bead may be
_BEYOND = 8  # places around the beads where the phantom's edge may be
_MOST_EXTRA, _MOST_MISSING = 0.01, 0.10  # of the phantom's places that are seen
_LEAST_SEEN = 0.75  # of the phantom's places; a fit to fewer would not hold for the rest of the field
_LEAD = 6  # places by which the best position must beat the next: a slip by a row costs the edge on either side
_CENTER_INDEX = (BEADS_PER_SIDE - 1) // 2
_NEIGHBOURS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
_WAY_OUT = "give a frame of the whole grid phantom"


class Indexed(NamedTuple):
    """Beads of a frame (n,) by number, and the index (n, 2) that each has on the phantom."""

    bead: IndexArray
    phantom_index: IndexArray


def index_beads(beads: Beads) -> Indexed:
    """Identify which bead of the grid phantom each bead of a frame is.

    The phantom's outline gives its position on the lattice, its orientation bead its rotation by a multiple of 90
    degrees. Both are symmetric about the diagonal through that bead, so a mirrored phantom (or frame) cannot be
    distinguished from a rotated one, and its beads are numbered as those of the latter.

    Raises
    ------
    CalibrationError
        If there is no such grid, or its position is ambiguous; the message states what was found.

    """
    bead, place = _walk(beads.center_px)
    bead, place = _assign(beads.center_px, bead, place)
    seen = _Seen.around(place, beads, bead)
    shift = _shift(seen)
    index = _rotated(place + shift, -_quarter_rotations(seen, shift))
    on_phantom = _on_phantom(index)
    return Indexed(bead[on_phantom], index[on_phantom])


def _phantom() -> BoolArray:
    """(45, 45) mask of the phantom's beads."""
    mask = np.zeros((BEADS_PER_SIDE, BEADS_PER_SIDE), dtype=bool)
    mask[tuple(np.rint(grid_beads_mm() / BEAD_PITCH_MM).astype(np.intp).T + _CENTER_INDEX)] = True
    return mask


def _on_phantom(index: IndexArray) -> BoolArray:
    inside = np.asarray(((index >= 0) & (index < BEADS_PER_SIDE)).all(axis=1))
    return np.asarray(inside & _phantom()[tuple(np.where(inside[:, None], index, 0).T)])


def _rotated(index: IndexArray, quarters: int) -> IndexArray:
    """Indices (n, 2) rotated by quarters counter-clockwise about the phantom's centre."""
    for _ in range(quarters % 4):
        index = np.stack([2 * _CENTER_INDEX - index[:, 1], index[:, 0]], axis=1)
    return index


def _walk(center_px: FloatArray) -> tuple[IndexArray, IndexArray]:
    """Beads that are connected on a square lattice, and their places (n, 2): first to the right, second up."""
    if len(center_px) < _FEWEST:
        raise CalibrationError(
            f"no grid in the frame: {len(center_px)} spots look like beads, the phantom has {len(grid_beads_mm())}; "
            + _WAY_OUT
        )
    tree = KDTree(center_px)
    pitch_px = float(np.median(tree.query(center_px, k=2)[0][:, 1]))
    pitch_mm = pitch_px * NOMINAL_MM_PER_PX
    if abs(pitch_mm / BEAD_PITCH_MM - 1) > _PITCH_TOLERANCE:
        raise CalibrationError(
            f"frame of another phantom: {len(center_px)} beads about {pitch_mm:.1f} mm apart, expected "
            f"{BEAD_PITCH_MM:g} mm; {_WAY_OUT}, taken in the full field"
        )
    seed, steps_px = _seed(center_px, tree, pitch_px)
    place_of, steps_of, taken, front = {seed: (0, 0)}, {seed: steps_px}, {(0, 0)}, [seed]
    while front:
        expected_px = np.concatenate([center_px[bead] + _NEIGHBOURS @ steps_of[bead] for bead in front])
        nearest = tree.query(expected_px, distance_upper_bound=_NEAR * pitch_px)[1]
        parents, front = front, []
        for number in np.flatnonzero(nearest < len(center_px)):
            parent, bead, step = parents[number // 4], int(nearest[number]), _NEIGHBOURS[number % 4]
            place = (place_of[parent][0] + int(step[0]), place_of[parent][1] + int(step[1]))
            if bead in place_of or place in taken:
                continue
            # The scale and rotation of the lattice change slowly along the way.
            steps_px = steps_of[parent].copy()
            along = number % 2
            steps_px[along] = (steps_px[along] + step[along] * (center_px[bead] - center_px[parent])) / 2
            place_of[bead], steps_of[bead] = place, steps_px
            taken.add(place)
            front.append(bead)
    return np.array(list(place_of), dtype=np.intp), np.array(list(place_of.values()), dtype=np.intp)


def _seed(center_px: FloatArray, tree: KDTree, pitch_px: float) -> tuple[int, FloatArray]:
    """A bead near the centre with four neighbours crosswise, and the steps (2, 2) to the one right and the one up."""
    from_center_px = np.hypot(*(center_px - np.median(center_px, axis=0)).T)
    for bead in np.argsort(from_center_px):
        arms = center_px[tree.query(center_px[bead], k=5)[1][1:]] - center_px[bead]
        right = arms[arms[:, 0].argmax()]
        steps_px = np.array([right, (right[1], -right[0])])  # pixels count downwards
        off_px = np.hypot(*(arms[:, None] - _NEIGHBOURS @ steps_px).transpose(2, 0, 1)).min(axis=0)
        if (off_px < _NEAR * pitch_px).all():
            return int(bead), steps_px
    raise CalibrationError(
        f"frame of another phantom: none of {len(center_px)} beads has four neighbours at right angles; {_WAY_OUT}"
    )


def _cubic(
    source: FloatArray | IndexArray, target: FloatArray | IndexArray
) -> Callable[[FloatArray | IndexArray], FloatArray]:
    """Cubic map from points (n, 2) to others (n, 2), by least squares."""
    center, spread = source.mean(axis=0), source.std()

    def powers(points: FloatArray | IndexArray) -> FloatArray:
        x, y = ((points - center) / spread).T
        return np.stack([x**a * y**b for a in range(4) for b in range(4 - a)], axis=1)

    terms = powers(source)
    coefficients = np.linalg.solve(terms.T @ terms, terms.T @ target)
    return lambda points: np.asarray(powers(points) @ coefficients)


def _assign(center_px: FloatArray, bead: IndexArray, place: IndexArray) -> tuple[IndexArray, IndexArray]:
    """Places of all beads, also of those that the walk did not reach, by a smooth map through those that it did."""
    if len(bead) < _FEWEST:
        raise CalibrationError(
            f"no grid in the frame: only {len(bead)} of {len(center_px)} beads are connected on a square lattice; "
            + _WAY_OUT
        )
    smooth = _cubic(center_px[bead], place)(center_px)
    places = np.rint(smooth).astype(np.intp)
    off = np.hypot(*(smooth - places).T)
    near = np.argsort(off)[: np.count_nonzero(off < _NEAR)]
    nearest = near[np.unique(places[near], axis=0, return_index=True)[1]]
    return nearest, places[nearest]


class _Seen(NamedTuple):
    """State of the lattice's places from ``corner`` on: 1 with a bead, -1 without, 0 where the field ends."""

    corner: IndexArray
    state: IndexArray

    @classmethod
    def around(cls, place: IndexArray, beads: Beads, bead: IndexArray) -> "_Seen":
        corner = place.min(axis=0) - _BEYOND
        shape = tuple(place.max(axis=0) + _BEYOND + 1 - corner)
        everywhere = np.indices(shape).reshape(2, -1).T + corner
        in_field = beads.visible(_cubic(place, beads.center_px[bead])(everywhere))
        state = np.where(in_field, -1, 0).reshape(shape)
        state[tuple((place - corner).T)] = 1
        return cls(corner, state)

    def at(self, place: IndexArray) -> IndexArray:
        """State of places (n, 2)."""
        local = place - self.corner
        inside = np.asarray(((local >= 0) & (local < self.state.shape)).all(axis=1))
        return np.where(inside, self.state[tuple(np.where(inside[:, None], local, 0).T)], 0)


def _orientation_places() -> IndexArray:
    """Index (4, 2) of the orientation bead after 0 to 3 rotations by 90 degrees."""
    return np.concatenate([_rotated(np.array([ORIENTATION_BEAD]), quarters) for quarters in range(4)])


def _shift(seen: _Seen) -> IndexArray:
    """Shift from a place to its index on the phantom, before rotation, by the phantom's outline."""
    outline = _phantom()
    outline[tuple(_orientation_places().T)] = False
    score = np.rint(correlate(seen.state.astype(float), outline.astype(float))).astype(np.intp)
    second, best = np.sort(score, axis=None)[-2:]
    first = np.array(np.unravel_index(score.argmax(), score.shape)) - (BEADS_PER_SIDE - 1)
    shift: IndexArray = -(seen.corner + first)
    states = seen.at(np.argwhere(outline) - shift)
    found, empty = np.count_nonzero(states > 0), np.count_nonzero(states < 0)
    extra = np.count_nonzero(seen.state > 0) - found - np.count_nonzero(seen.at(_orientation_places() - shift) > 0)
    if extra > _MOST_EXTRA * (found + empty) or empty > _MOST_MISSING * (found + empty):
        raise CalibrationError(
            f"frame of another phantom, or only part of the grid: where its outline fits best, {extra} of "
            f"{extra + found} beads lie outside, and {empty} of its {found + empty} places in the field are empty; "
            + _WAY_OUT
        )
    if found + empty < _LEAST_SEEN * np.count_nonzero(outline):
        raise CalibrationError(
            f"only part of the grid: {found + empty} of the phantom's {np.count_nonzero(outline)} places lie in the "
            f"field, at least {_LEAST_SEEN:.0%} are needed; {_WAY_OUT}, in the centre of the field"
        )
    if best - second < _LEAD:
        raise CalibrationError(
            f"the position of the grid is ambiguous: {found} beads fit the phantom's outline nearly as well a row "
            "further; give a frame that shows the phantom's edges, in the centre of the field"
        )
    return shift


def _quarter_rotations(seen: _Seen, shift: IndexArray) -> int:
    """Number of counter-clockwise rotations by 90 degrees of the phantom, by its orientation bead."""
    states = seen.at(_orientation_places() - shift)
    if np.count_nonzero(states > 0) != 1:
        raise CalibrationError(
            "the orientation of the grid cannot be determined: expected the orientation bead at one of its four "
            f"places, seen at {np.count_nonzero(states > 0)}, and {np.count_nonzero(states == 0)} of them lie out of "
            "the field; give a frame that shows it"
        )
    return int(np.argmax(states > 0))
