"""Whether a marker phantom looks the same after some rotation."""

from itertools import permutations

import numpy as np
from scipy.spatial import cKDTree

from veriserum_hf.calibration.phantoms import MarkerPhantom
from veriserum_hf.core import FloatArray

_SAME_MM = 1.0  # markers so near to one another's places cannot be distinguished in a projection
_SHARE = 0.9  # of the markers that have a place to go to


def is_symmetric(phantom: MarkerPhantom) -> bool:
    """Whether a rotation other than none maps nearly all markers onto markers of the same size.

    Every rotation maps three large markers to large markers: all such triples are tried.
    """
    large_mm = phantom.markers_mm[phantom.large]
    first = _spread_triple(large_mm)
    sides_mm = _sides_mm(large_mm[list(first)][None])[0]
    triples = np.array([triple for triple in permutations(range(len(large_mm)), 3) if triple != first])
    triples = triples[(np.abs(_sides_mm(large_mm[triples]) - sides_mm) < 2 * _SAME_MM).all(axis=1)]
    by_size = np.column_stack([phantom.markers_mm, 10 * phantom.diameters_mm])  # another size is far off
    tree = cKDTree(by_size)
    for triple in triples:
        moved_mm = _moved(large_mm[list(first)], large_mm[triple], phantom.markers_mm)
        off_mm, _ = tree.query(np.column_stack([moved_mm, 10 * phantom.diameters_mm]))
        stays = np.linalg.norm(moved_mm - phantom.markers_mm, axis=1).max() < 2 * _SAME_MM
        if not stays and np.mean(off_mm < _SAME_MM) > _SHARE:
            return True
    return False


def _spread_triple(points_mm: FloatArray) -> tuple[int, int, int]:
    """The three points with the largest triangle."""
    triples = np.array(
        [triple for triple in permutations(range(len(points_mm)), 3) if sorted(triple) == list(triple)]
    )
    a, b, c = points_mm[triples].swapaxes(0, 1)
    one, two, three = triples[np.linalg.norm(np.cross(b - a, c - a), axis=1).argmax()].tolist()
    return one, two, three


def _sides_mm(triples_mm: FloatArray) -> FloatArray:
    """Lengths (n, 3) of the sides of triangles (n, 3, 3)."""
    return np.asarray(np.linalg.norm(triples_mm - np.roll(triples_mm, 1, axis=1), axis=2))


def _moved(source_mm: FloatArray, target_mm: FloatArray, points_mm: FloatArray) -> FloatArray:
    """Points after the rotation and shift that map three points best to three others (Kabsch)."""
    source_center, target_center = source_mm.mean(axis=0), target_mm.mean(axis=0)
    u, _, vt = np.linalg.svd((source_mm - source_center).T @ (target_mm - target_center))
    proper = np.diag([1, 1, np.linalg.det(u @ vt)])
    return np.asarray((points_mm - source_center) @ (u @ proper @ vt) + target_center)
