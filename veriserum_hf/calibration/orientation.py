"""Which way round a grid phantom is: by its extra or missing spots, or as its file states."""

import numpy as np

from veriserum_hf.calibration.beads import Beads
from veriserum_hf.calibration.lattice import Lattice
from veriserum_hf.calibration.phantoms import GridPhantom
from veriserum_hf.calibration.places import Placement, Seen
from veriserum_hf.core import FloatArray, IndexArray
from veriserum_hf.errors import CalibrationError

_COUNTS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
_UNDECIDED_DEG = 5.0  # from the rotation halfway between two that look the same


def rotated_right(
    placements: list[Placement], beads: Beads, lattice: Lattice, seen: Seen, phantom: GridPhantom
) -> Placement:
    """The one placement that agrees with the marks and the stated rotation."""
    marked = _marked(placements, seen, phantom)
    if phantom.rotation_deg is None:
        if len(marked) != 1:
            raise _unmarked(placements, seen, phantom)
        return marked[0]
    placements = marked or placements
    center_px = beads.center_px[lattice.bead]
    angles = [rotation_deg(center_px, phantom.positions_mm(p.index_of(lattice.place))) for p in placements]
    off_deg = np.abs((np.array(angles) - phantom.rotation_deg + 180) % 360 - 180)
    most_deg = min(180 / len(placements), 90) - _UNDECIDED_DEG
    if off_deg.min() > most_deg:
        shown = " or ".join(f"{angle:.0f}" for angle in sorted(angles))
        raise CalibrationError(
            f"the rotation of the grid contradicts its file, or is undecided: it is rotated by {shown} degrees in "
            f"the frame, and `rotation_deg: {phantom.rotation_deg:g}` is not within {most_deg:.0f} degrees of that; "
            "state the true rotation"
        )
    return placements[int(off_deg.argmin())]


def rotation_deg(xy_px: FloatArray, xy_mm: FloatArray) -> float:
    """Rotation, counter-clockwise, -180 to 180, of a phantom in a frame, by positions (n, 2) in both."""
    slope = np.polyfit(xy_px @ (1, -1j), xy_mm @ (1, 1j), 1)[0]
    return float(-np.degrees(np.angle(slope)))


def _marked(placements: list[Placement], seen: Seen, phantom: GridPhantom) -> list[Placement]:
    """Those that agree best with the extra and missing spots; none where none of those is seen."""
    marks = np.concatenate([phantom.indices(phantom.extra), phantom.indices(phantom.missing)])
    if not len(marks):
        return []
    own = [placement.place_of(marks) for placement in placements]
    everywhere = np.unique(np.concatenate(own), axis=0)

    def agreement(placement: Placement, places: IndexArray) -> IndexArray:
        return seen.at(places) * np.where(phantom.holds(placement.index_of(places)), 1, -1)

    scores = [int(agreement(placement, everywhere).sum()) for placement in placements]
    return [
        placement
        for placement, score, places in zip(placements, scores, own, strict=True)
        if score == max(scores) and agreement(placement, places).max() > 0
    ]


def _unmarked(placements: list[Placement], seen: Seen, phantom: GridPhantom) -> CalibrationError:
    """Why the marks do not decide."""
    places = [placement.place_of(phantom.indices(phantom.extra or phantom.missing)) for placement in placements]
    states = seen.at(np.unique(np.concatenate(places), axis=0))
    lit, dark, out = (int(np.count_nonzero(states == state)) for state in (1, -1, 0))
    if len(phantom.extra) == 1:
        return CalibrationError(
            "the orientation of the grid cannot be determined: expected the orientation bead at one of its "
            f"{_COUNTS.get(len(states), len(states))} places, seen at {lit}, and {out} of them lie out of the field; "
            "give a frame that shows it"
        )
    return CalibrationError(
        f"the orientation of the grid cannot be determined by its extra or missing spots: of their {len(states)} "
        f"possible places {lit} have a spot, {dark} have none, and {out} lie out of the field; give a frame that "
        "shows them, or state `rotation_deg` in the phantom's file, and `mirrored: true` if it is mounted back to "
        "front"
    )
