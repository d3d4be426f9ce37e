"""Which place of the phantom each place of a frame's lattice is: never wrong, or refused.

The phantom's border, or what its file states, locates the lattice; marks or the stated rotation decide between the
rotations under which the border looks the same.
"""

from typing import NamedTuple

import numpy as np
from scipy.signal import correlate

from veriserum_hf.calibration.beads import Beads
from veriserum_hf.calibration.lattice import WAY_OUT, Lattice, find_lattice, smooth_map
from veriserum_hf.calibration.orientation import rotated_right
from veriserum_hf.calibration.phantoms import GridPhantom
from veriserum_hf.calibration.places import Placement, Seen, counts, inverse
from veriserum_hf.core import FloatArray, IndexArray
from veriserum_hf.errors import CalibrationError

_MOST_EXTRA, _MOST_MISSING = 0.01, 0.10  # of the phantom's places that are seen
_LEAST_SEEN = 0.75  # of the phantom's places; a fit to fewer would not hold for the rest of the field
_LEAD = 6  # places by which the best position must beat the next: a slip by a row costs the edge on either side
_OTHER_WAYS = "; or state `center_px`, the pixel of its centre, in the phantom's file, or another `origin`"
_CENTER_OFF = 0.35  # of the pitch: how far a stated centre may lie from a place for it


class Indexed(NamedTuple):
    """Spots of a frame (n,) by number, and the index (n, 2) that each has on the phantom."""

    bead: IndexArray
    phantom_index: IndexArray


def index_beads(beads: Beads, phantom: GridPhantom) -> Indexed:
    """Identify which spot of the phantom each spot of a frame is.

    The border and the marks of the lab's grid phantom are symmetric about a diagonal, so a mirrored phantom (or
    frame) cannot be distinguished from a rotated one, and its beads are numbered as those of the latter.

    Raises
    ------
    CalibrationError
        If there is no such grid, or its position or rotation is ambiguous; the message states what was found.

    """
    lattice = find_lattice(beads, phantom)
    seen = Seen.around(lattice, beads)
    if not phantom.bounded:
        placements = _at_the_center(beads, lattice, phantom)
    elif phantom.center_px is not None:
        placements = _by_stated_center(beads, lattice, seen, phantom)
    else:
        placements = _by_border(seen, phantom)
    placement = rotated_right(placements, beads, lattice, seen, phantom)
    index = placement.index_of(lattice.place)
    held = phantom.holds(index)
    return Indexed(lattice.bead[held], index[held])


def lattice_in_field(beads: Beads, bead: IndexArray, index: IndexArray) -> int:
    """Number of places of an unbounded lattice that lie in the field, by the index (n, 2) of some of its spots."""
    return int(np.count_nonzero(Seen.around(Lattice(bead, index), beads).state))


def _by_border(seen: Seen, phantom: GridPhantom) -> list[Placement]:
    """The placements, one for each rotation under which the border looks the same, that fit it best."""
    rotations = phantom.rotations()
    marks = np.concatenate([phantom.indices(phantom.extra), phantom.indices(phantom.missing)])
    # Seen in the frame, but for a shift; what may be a mark, after any rotation that the border allows, is left out.
    outlines = [phantom.outline_index @ inverse(rotation).T for rotation in rotations]
    corners = [outline.min(axis=0) for outline in outlines]
    keys = [frozenset(map(tuple, (outline - c).tolist())) for outline, c in zip(outlines, corners, strict=True)]
    images = [marks @ inverse(rotation).T - c for rotation, c in zip(rotations, corners, strict=True)]
    fits = []
    for key in dict.fromkeys(keys):
        same = [image for image, other in zip(images, keys, strict=True) if other == key]
        possible = np.unique(np.concatenate(same), axis=0)
        fits.append(_Fit.of(seen, np.array(sorted(key - set(map(tuple, possible.tolist())))), possible))
    best = max(range(len(fits)), key=lambda number: fits[number].best)
    fit = fits[best]
    fit.check(seen, phantom)
    others = [fit.second, *(other.best for number, other in enumerate(fits) if number != best)]
    contradicted = fit.inside - max([fit.inside_elsewhere, *(o.most_inside for o in fits if o is not fit)])
    # Beads where there is none on the phantom are proof; where beads are missing, they may be too faint to be found.
    certain = fit.best - max(others) >= _LEAD
    if not phantom.raw_frame:
        certain &= contradicted >= _LEAD
    if not certain:
        raise CalibrationError(
            f"the position of the grid is ambiguous: {fit.inside} {phantom.spots} fit the phantom's outline nearly "
            "as well a row further; give a frame that shows the phantom's edges, in the centre of the field"
            + ("" if phantom.raw_frame else _OTHER_WAYS)
        )
    wanted = list(dict.fromkeys(keys))[best]
    return [
        Placement(rotation, -(rotation @ (fit.corner - corner)))
        for rotation, corner, key in zip(rotations, corners, keys, strict=True)
        if key == wanted
    ]


class _Fit(NamedTuple):
    """An outline at the position where it fits best.

    Attributes
    ----------
    corner : place of the outline's lower left corner.
    best, second : its score there, and the next best elsewhere; spots on its places less empty places.
    inside, inside_elsewhere, most_inside : spots on its places there, the most elsewhere, and the most anywhere.
    outline, marks : places there (n, 2) that must have spots, and those that may have one.

    """

    corner: IndexArray
    best: int
    second: int
    inside: int
    inside_elsewhere: int
    most_inside: int
    outline: IndexArray
    marks: IndexArray

    @classmethod
    def of(cls, seen: Seen, outline: IndexArray, marks: IndexArray) -> "_Fit":
        shape = outline.max(axis=0) + 1
        mask = np.zeros(shape)
        mask[tuple(outline.T)] = 1
        score = np.rint(correlate(seen.state.astype(float), mask)).astype(np.intp)
        inside = np.rint(correlate((seen.state > 0).astype(float), mask)).astype(np.intp)
        second, best = np.sort(score, axis=None)[-2:]
        at = np.unravel_index(score.argmax(), score.shape)
        elsewhere = inside.copy()
        elsewhere[at] = 0
        corner: IndexArray = seen.corner + np.array(at) - (shape - 1)
        return cls(
            corner,
            int(best),
            int(second),
            int(inside[at]),
            int(elsewhere.max()),
            int(inside.max()),
            outline + corner,
            marks + corner,
        )

    def check(self, seen: Seen, phantom: GridPhantom) -> None:
        """Refuse a frame of another phantom, or of too small a part of it."""
        found, empty, extra = counts(seen, self.outline, self.marks)
        if extra > _MOST_EXTRA * (found + empty) or empty > _MOST_MISSING * (found + empty):
            raise CalibrationError(
                f"frame of another phantom, or only part of the grid: where its outline fits best, {extra} of "
                f"{extra + found} {phantom.spots} lie outside, and {empty} of its {found + empty} places in the "
                f"field are empty; {WAY_OUT}"
            )
        if found + empty < _LEAST_SEEN * len(self.outline):
            raise CalibrationError(
                f"only part of the grid: {found + empty} of the phantom's {len(self.outline)} places lie in the "
                f"field, at least {_LEAST_SEEN:.0%} are needed; {WAY_OUT}, in the centre of the field"
            )


def _at_the_center(beads: Beads, lattice: Lattice, phantom: GridPhantom) -> list[Placement]:
    """Placements, one for each rotation, with the origin at the place nearest to the centre of the image."""
    center_px = (np.array(beads.size_px) - 1) / 2
    around = np.indices((5, 5)).reshape(2, -1).T - 2 + np.rint(_place_at(beads, lattice, center_px)).astype(np.intp)
    around_px = smooth_map(lattice.place, beads.center_px[lattice.bead])(around)
    found, which = np.nonzero((lattice.place[:, None] == around).all(axis=2))
    around_px[which] = beads.center_px[lattice.bead[found]]
    place = around[np.hypot(*(around_px - center_px).T).argmin()]
    return [Placement(rotation, -(rotation @ place)) for rotation in phantom.rotations()]


def _place_at(beads: Beads, lattice: Lattice, xy_px: FloatArray) -> FloatArray:
    """Place (2,), between the lattice's, of a pixel."""
    return np.asarray(smooth_map(beads.center_px[lattice.bead], lattice.place)(xy_px[None])[0])


def _by_stated_center(beads: Beads, lattice: Lattice, seen: Seen, phantom: GridPhantom) -> list[Placement]:
    """Placements, one for each rotation that fits, with the phantom's centre at the stated pixel."""
    center = _place_at(beads, lattice, np.array(phantom.center_px))
    placements, nearest_off = [], np.inf
    for rotation in phantom.rotations():
        exact = phantom.center_index - rotation @ center
        shift = np.rint(exact).astype(np.intp)
        off = float(np.hypot(*((exact - shift) @ phantom.steps)))
        nearest_off = min(nearest_off, off)
        placement = Placement(rotation, shift)
        marks = placement.place_of(np.concatenate([phantom.indices(phantom.extra), phantom.indices(phantom.missing)]))
        possible = set(map(tuple, marks.tolist()))
        outline = np.array(
            [at for at in placement.place_of(phantom.outline_index).tolist() if tuple(at) not in possible]
        )
        found, empty, extra = counts(seen, outline, marks)
        fits = extra <= _MOST_EXTRA * (found + empty) and empty <= _MOST_MISSING * (found + empty)
        if off < _CENTER_OFF and fits:
            placements.append(placement)
    if not placements:
        raise CalibrationError(
            f"center_px {list(phantom.center_px or ())} is not the centre of the phantom: it lies {nearest_off:.2f} "
            f"of a pitch from the nearest place for it (at most {_CENTER_OFF} is expected), or spots lie beyond the "
            "phantom's outline then; look up the pixel of its centre"
        )
    return placements
