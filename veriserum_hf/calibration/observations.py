"""Markers of a phantom as found in each frame."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from veriserum_hf.calibration.poses import PlaneMarkers
from veriserum_hf.core import FloatArray
from veriserum_hf.errors import CalibrationError

LEAST_MARKERS = 6  # in a frame: each has two coordinates, a pose six numbers
_LEAST_EXTENT = 0.02  # of a layout: in its third direction, over that in its first


class Observation(NamedTuple):
    """Named markers of one frame.

    Attributes
    ----------
    marker_mm : (n, 3) positions in the phantom.
    detector_mm : (n, 2) where they appear on the intensifier, (h, v).

    """

    marker_mm: FloatArray
    detector_mm: FloatArray


class DualObservation(NamedTuple):
    """The same pose of the phantom, seen in both planes; each may see other markers."""

    bs: Observation
    fs: Observation


def pair_frames(bs: Sequence[Observation], fs: Sequence[Observation]) -> list[DualObservation]:
    """Dual-plane frames of what both planes saw, frame by frame.

    Raises
    ------
    CalibrationError
        If the planes have different numbers of frames.

    """
    if len(bs) != len(fs):
        raise CalibrationError(
            f"bs has {len(bs)} frames and fs has {len(fs)}: every pose of the phantom must be seen in both planes; "
            "exclude the frames that have no partner"
        )
    return [DualObservation(*pair) for pair in zip(bs, fs, strict=True)]


def check_markers(name: str, observations: Sequence[Observation]) -> None:
    """Refuse frames that no pose can be found from; ``name`` is what the message begins with.

    Raises
    ------
    CalibrationError
        If there is no frame, or one has too few markers, or markers that are not finite, or in one plane or line.

    """
    if not observations:
        raise CalibrationError(f"{name}there is no frame of the phantom: at least one is needed, tens are advised")
    for frame, (marker_mm, detector_mm) in enumerate(observations):
        if marker_mm.ndim != 2 or marker_mm.shape[1] != 3 or detector_mm.shape != (len(marker_mm), 2):
            raise CalibrationError(
                f"{name}frame {frame}: expected markers (n, 3) and their projections (n, 2), got "
                f"{marker_mm.shape} and {detector_mm.shape}"
            )
        if not (np.isfinite(marker_mm).all() and np.isfinite(detector_mm).all()):
            raise CalibrationError(f"{name}frame {frame}: some of its markers are not finite mm; exclude those")
        if len(marker_mm) < LEAST_MARKERS:
            raise CalibrationError(
                f"{name}frame {frame} has {len(marker_mm)} markers, at least {LEAST_MARKERS} are needed: exclude "
                "the frame, or bring more of the phantom into the field"
            )
        extents = np.linalg.svd(marker_mm - marker_mm.mean(axis=0), compute_uv=False)
        if extents[2] < _LEAST_EXTENT * extents[0]:
            shape = "on one line" if extents[1] < _LEAST_EXTENT * extents[0] else "in one plane"
            raise CalibrationError(
                f"{name}frame {frame}: its {len(marker_mm)} markers lie {shape}, which does not determine the "
                "source: use a phantom with depth, and see that markers of all its parts are found"
            )


def padded(observations: Sequence[Observation]) -> PlaneMarkers:
    """All frames as arrays."""
    most = max(len(observed.marker_mm) for observed in observations)
    marker_mm, detector_mm = np.zeros((len(observations), most, 3)), np.zeros((len(observations), most, 2))
    seen = np.zeros((len(observations), most), bool)
    for frame, observed in enumerate(observations):
        count = len(observed.marker_mm)
        marker_mm[frame, :count], detector_mm[frame, :count] = observed
        seen[frame, :count] = True
    return PlaneMarkers(marker_mm, detector_mm, seen)


def nearest_affine(observed: Observation) -> FloatArray:
    """The (2, 4) affine map that is nearest to a frame's projection."""
    homogeneous = np.column_stack([observed.marker_mm, np.ones(len(observed.marker_mm))])
    affine = np.linalg.lstsq(homogeneous, observed.detector_mm, rcond=None)[0].T
    return np.asarray(affine, dtype=np.float64)
