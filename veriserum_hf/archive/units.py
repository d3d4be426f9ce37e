"""Which unit translations are in: in the right one, both planes see the implants between source and intensifier."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from veriserum_hf.archive.fields import in_field
from veriserum_hf.core import PLANES, BoolArray, FloatArray
from veriserum_hf.geometry import DualPlaneRig

# mm in one; in a wrong unit, the poses lie at the centre of the bs intensifier or far away.
MM_PER_UNIT = {"micrometres": 0.001, "millimetres": 1.0, "centimetres": 10.0, "inches": 25.4, "metres": 1000.0}
# An implant is some 60 mm large and does not touch the intensifier, and is nearer to it than to the source.
_MAGNIFICATIONS = (1.01, 2.0)
_MOST, _HALF = 0.9, 0.5


def another_unit(
    stored: FloatArray, origins_mm: FloatArray, sources: NDArray[np.int64], rigs: Mapping[int, DualPlaneRig]
) -> tuple[str, int, int] | None:
    """The unit in which translations are plausible, if they are not in mm.

    Parameters
    ----------
    stored : (n, 3) translations as stored.
    origins_mm : (n, 3) positions of the ``bs`` source in the world, which may be the origin of the poses.
    sources : (n,) ids of their source calibrations.
    rigs : by id of the source calibration.

    Returns
    -------
    Name of the unit, how many of the poses both planes see in it, and how many in mm; None where half of the poses
    are plausible in mm, or where nine of ten are in no other unit.

    """

    def seen(unit: str) -> int:
        in_mm = MM_PER_UNIT[unit] * stored
        return max(int(_seen_by_both(in_mm + origin, sources, rigs).sum()) for origin in (np.zeros(3), origins_mm))

    in_mm = seen("millimetres")
    if not len(stored) or in_mm >= _HALF * len(stored):
        return None
    count, best = max((seen(unit), unit) for unit in MM_PER_UNIT if unit != "millimetres")
    return (best, count, in_mm) if count >= _MOST * len(stored) else None


def _seen_by_both(points_mm: FloatArray, sources: NDArray[np.int64], rigs: Mapping[int, DualPlaneRig]) -> BoolArray:
    """Whether points (n, 3) of the world lie between source and intensifier of both planes, and in their fields."""
    seen = np.zeros(len(points_mm), dtype=bool)
    for id, rig in rigs.items():
        of_rig = np.flatnonzero(sources == id)
        by_both = np.ones(len(of_rig), dtype=bool)
        for plane in PLANES:
            by_both &= in_field(rig[plane], points_mm[of_rig], _MAGNIFICATIONS)
        seen[of_rig] = by_both
    return seen
