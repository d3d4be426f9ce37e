"""Identify the beads in one projection of the marker phantom, in any pose.

Four large spots are matched with four of the large beads, in every order. A distant source gives nearly affine
projections: only those orders count whose affine map preserves right angles and lengths. Each of them gives a pose,
refined with the true perspective. The first four spots whose best pose explains enough of all spots, by place and
size, are accepted.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from veriserum_hf.calibration.phantoms import MarkerPhantom
from veriserum_hf.calibration.poses import PlaneMarkers, fit_poses, initial_poses
from veriserum_hf.core import BoolArray, FloatArray, IndexArray
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import Plane, transform_points

LEAST_SPOTS = 24
_LEAST_SHARE = 0.6  # of the spots of a bead's size: a wrong pose explains a tenth of them by chance
_TRIES = 100  # sets of four spots; one of true large beads is enough
_MAGNIFICATION = (0.9, 4.0)  # of anything between intensifier and source, with a margin
_MOST_SKEW = 0.35  # of the affine projection of four true beads: perspective, seen from 1.5 m
_LEAST_DEPTH = 0.02  # volume of four beads over that of a box around all
_FOUR_FIT_MM = 1.0  # four beads have two coordinates more than a pose: RMS of four true beads, with a rough plane
_NEAR_MM = (6.0, 2.5, 1.0, 1.0)  # a spot belongs to a bead that is expected so near, round by round
_SIZE_TOLERANCE = 0.25
_FAR_MM = 1e6


class Named(NamedTuple):
    """Spots and the beads they show, one by one, and the phantom's pose in the world."""

    spots: IndexArray
    beads: IndexArray
    T_world_phantom: FloatArray


@lru_cache(maxsize=2)
def _fours(phantom: MarkerPhantom) -> tuple[IndexArray, FloatArray]:
    """Ordered sets of four large beads (k, 4) that have depth, and the inverse of (x, y, z, 1) of each, (k, 4, 4)."""
    large = phantom.large
    beads_mm = phantom.markers_mm[large]
    fours = np.array(list(permutations(range(len(large)), 4)))
    corners = np.concatenate([beads_mm[fours], np.ones((*fours.shape, 1))], axis=2)
    deep = np.abs(np.linalg.det(corners)) > _LEAST_DEPTH * np.ptp(beads_mm, axis=0).prod()
    return large[fours[deep]], np.linalg.inv(corners[deep])


def name_beads(spots_mm: FloatArray, spot_radii_mm: FloatArray, plane_start: Plane, phantom: MarkerPhantom) -> Named:
    """Identify which bead of the marker phantom each spot shows; spots that show none are skipped.

    Parameters
    ----------
    spots_mm : (n, 2) centres on the intensifier.
    spot_radii_mm : (n,) their radii there.
    plane_start : the plane, within some 20 mm of principal point and a few per cent of distance.
    phantom : whose beads they are.

    Raises
    ------
    CalibrationError
        If the spots show no phantom, or are ambiguous.

    """
    if len(spots_mm) < LEAST_SPOTS:
        raise CalibrationError(
            f"{len(spots_mm)} round, dark spots are in the frame, at least {LEAST_SPOTS} are needed to recognise "
            "the marker phantom: is it in the field, and is this a frame of it?"
        )
    large = np.flatnonzero(spot_radii_mm > 1.5 * np.median(spot_radii_mm))
    if len(large) < 4:
        raise CalibrationError(
            f"{len(spots_mm)} spots are in the frame, but only {len(large)} of them are large ones, which identify "
            "the marker phantom's beads, and at least 4 are needed: is this another phantom, or is most of it out "
            "of the field?"
        )
    tree = cKDTree(spots_mm)
    best = Named(np.empty(0, np.intp), np.empty(0, np.intp), np.eye(4))
    for four in _sets_of_four(large):
        T = _pose_of_four(four, spots_mm, large, plane_start, phantom)
        if T is None:
            continue
        found = _all_beads(T, spots_mm, spot_radii_mm, tree, plane_start, phantom)
        best = max(best, found, key=lambda named: len(named.spots))
        if len(best.spots) >= LEAST_SPOTS and len(best.spots) >= _LEAST_SHARE * len(spots_mm):
            return best
    raise CalibrationError(
        f"{len(spots_mm)} spots are in the frame, {len(large)} of them large, but no pose of the marker phantom "
        f"explains more than {len(best.spots)} of them: is this another phantom, is the image mirrored, or is the "
        "distortion that of another plane?"
    )


def _sets_of_four(large: IndexArray) -> Iterator[IndexArray]:
    """Four large spots at a time, in random order, so that no false spot is in all of the first."""
    fours = np.array(list(combinations(large[:20], 4)))
    yield from np.random.default_rng(0).permutation(fours)[:_TRIES]


def _pose_of_four(
    four: IndexArray, spots_mm: FloatArray, large: IndexArray, plane: Plane, phantom: MarkerPhantom
) -> FloatArray | None:
    """The pose (4, 4) under which four spots are large beads and most other large spots are, too."""
    beads, inverse = _fours(phantom)
    affine = (inverse @ spots_mm[four]).swapaxes(1, 2)
    possible = _is_right_angled(affine)
    beads, T = beads[possible], initial_poses(affine[possible], plane)
    if not len(T):
        return None
    seen_mm = np.broadcast_to(spots_mm[four], (len(T), 4, 2))
    markers = PlaneMarkers(phantom.markers_mm[beads], seen_mm, np.ones(beads.shape, bool))
    T, (projection,) = fit_poses([markers], [plane], T, most_steps=4)
    rms_mm = np.sqrt(np.mean((projection.detector_mm - seen_mm) ** 2, axis=(1, 2)))
    T = T[rms_mm < _FOUR_FIT_MM]
    if not len(T):
        return None
    expected_mm = _projected(plane, transform_points(T, phantom.markers_mm[phantom.large]))
    distance_mm, _ = cKDTree(spots_mm[large]).query(expected_mm)
    hits = (distance_mm < _NEAR_MM[0]).sum(axis=1)
    pose: FloatArray = T[np.lexsort((np.minimum(distance_mm, _NEAR_MM[0]).sum(axis=1), -hits))[0]]
    return pose


def _is_right_angled(affine: FloatArray) -> BoolArray:
    """Whether affine projections (k, 2, 4) show right angles and a possible magnification, (k,)."""
    first, second = affine[:, 0, :3], affine[:, 1, :3]
    squares = np.einsum("ki,ki->k", first, first), np.einsum("ki,ki->k", second, second)
    product, dot = squares[0] * squares[1], np.einsum("ki,ki->k", first, second)
    low, high = _MAGNIFICATION
    possible: BoolArray = (dot**2 < _MOST_SKEW**2 * product) & (product > low**4) & (product < high**4)
    possible &= np.abs(squares[0] - squares[1]) < 2 * _MOST_SKEW * np.sqrt(product)
    return possible


def _all_beads(
    T_world_phantom: FloatArray,
    spots_mm: FloatArray,
    spot_radii_mm: FloatArray,
    tree: cKDTree,
    plane: Plane,
    phantom: MarkerPhantom,
) -> Named:
    """Beads of all spots, from the pose that a few gave."""
    beads_mm, radii_mm = phantom.markers_mm, phantom.diameters_mm / 2
    spots = beads = np.empty(0, np.intp)
    for near_mm in _NEAR_MM:
        beads_world_mm = transform_points(T_world_phantom, beads_mm)
        expected_mm = _projected(plane, beads_world_mm)
        magnification = plane.sid_mm / plane.depths_mm(beads_world_mm)
        distance_mm, nearest = tree.query(expected_mm)
        like = np.abs(spot_radii_mm[nearest] / (radii_mm * magnification) - 1) < _SIZE_TOLERANCE
        fits = (distance_mm < near_mm) & like & _alone(expected_mm, radii_mm * magnification)
        once = np.bincount(nearest[fits], minlength=len(spots_mm)) == 1
        beads = np.flatnonzero(fits & once[nearest])
        spots = nearest[beads]
        if len(beads) < 6:
            break
        markers = PlaneMarkers(beads_mm[None, beads], spots_mm[None, spots], np.ones((1, len(beads)), bool))
        T_world_phantom = fit_poses([markers], [plane], T_world_phantom[None])[0][0]
    return Named(spots, beads, T_world_phantom)


def _projected(plane: Plane, beads_world_mm: FloatArray) -> FloatArray:
    """Beads (..., 3) on the intensifier, (..., 2) mm; far from all spots if behind the source."""
    projected_mm = plane.project_mm(beads_world_mm)
    return np.where(np.isnan(projected_mm), _FAR_MM, projected_mm)


def _alone(expected_mm: FloatArray, radii_mm: FloatArray) -> BoolArray:
    """Whether a bead's shadow is clear of all others: (n,)."""
    gap_mm = np.linalg.norm(expected_mm[:, None] - expected_mm, axis=2) - radii_mm[:, None] - radii_mm
    np.fill_diagonal(gap_mm, np.inf)
    alone: BoolArray = gap_mm.min(axis=1) > _NEAR_MM[-1]
    return alone
