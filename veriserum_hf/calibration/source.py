"""Source positions and inter-plane pose, from frames of a phantom with markers at known places.

The phantom may have any pose in each frame: its poses are estimated too (see `adjustment`). One plane gives the
principal point and the source-to-intensifier distance (SID). Both planes, which see the same pose in each frame, give
those of both and the pose of the ``fs`` intensifier. The world is the frame of the ``bs`` intensifier, whose pose is
the identity by definition; nothing else constrains the poses of the phantom, so all that is free of the two
intensifiers is ``T_world_fs``.

A source 1.9 m away is poorly observable. When it moves by 1 mm, and the poses follow, a projection at a distance r
from the principal point moves by about (r / SID)^2 mm, 7 um at the rim of the field, and random errors decrease only
with the square root of markers times frames. So the phantom should fill the field, and the standard deviations of a
fit should be checked. They hold for random errors of the images. The phantom is assumed to be exact: one that is
larger by a part in 10,000 moves the ``fs`` intensifier by 0.17 mm and no source, but markers that are 0.02 mm off,
each independently, move principal points by up to 1 mm, however many frames there are. Measure it well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from veriserum_hf.calibration.adjustment import Adjusted, adjust
from veriserum_hf.calibration.observations import DualObservation, Observation, check_markers, nearest_affine, padded
from veriserum_hf.calibration.poses import PlaneMarkers, fit_poses, initial_poses
from veriserum_hf.core import FloatArray
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import DualPlaneRig, Plane, transform_points

_MOST_RESIDUAL_MM = 1.0
_MOST_SID_SIGMA = 0.01  # of SID: a less certain fit is refused


@dataclass(frozen=True, eq=False, kw_only=True)
class _Fit:
    """What fits of one plane and of two have in common.

    Attributes
    ----------
    covariance : of what was fitted, mm and degrees.
    residual_mm_rms : on the intensifier, per coordinate, of the markers used.
    markers_used, markers_seen : how many, over all frames and planes; those that are not used are outliers.
    T_world_phantom : (frames, 4, 4) poses of the phantom.

    """

    covariance: FloatArray
    residual_mm_rms: float
    markers_used: int
    markers_seen: int
    T_world_phantom: FloatArray

    @property
    def standard_deviations(self) -> FloatArray:
        """Square roots of the covariance's diagonal, mm and degrees."""
        deviations: FloatArray = np.sqrt(np.diag(self.covariance))
        return deviations

    @property
    def frames(self) -> int:
        """How many frames the fit is made from."""
        return len(self.T_world_phantom)


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceFit(_Fit):
    """Principal point and distance of one plane; the covariance is (3, 3), of principal point h, v and SID, mm^2.

    Attributes
    ----------
    plane : the initial plane with the fitted source.

    """

    plane: Plane

    @property
    def principal_point_mm(self) -> FloatArray:
        """(2,) foot of the source on the intensifier, (h, v) mm."""
        return self.plane.principal_point_mm

    @property
    def sid_mm(self) -> float:
        """Source-to-intensifier distance, mm."""
        return self.plane.sid_mm


@dataclass(frozen=True, eq=False, kw_only=True)
class RigFit(_Fit):
    """Both sources and the pose of the ``fs`` intensifier.

    The covariance is (12, 12), of principal point h, v and SID of ``bs`` (mm), the same of ``fs``, shift of the
    ``fs`` intensifier's centre along the world's axes (mm), and its rotation about them (degrees).

    Attributes
    ----------
    rig : both planes, in the world of the ``bs`` intensifier.

    """

    rig: DualPlaneRig

    @property
    def T_world_fs(self) -> FloatArray:  # noqa: N802
        """(4, 4) pose of the ``fs`` intensifier in the world."""
        return self.rig["fs"].T_world_intensifier


def fit_source(observations: Sequence[Observation], plane_start: Plane) -> SourceFit:
    """Find principal point and source-to-intensifier distance of one plane.

    Parameters
    ----------
    observations : one per frame of the phantom, of any pose each.
    plane_start : the intensifier's pose, which is kept, and a rough source, such as the last calibration's.

    Raises
    ------
    CalibrationError
        If frames have too few markers, or markers in one plane or line, if markers lie behind the source, if no
        source fits the markers, or if the frames do not determine the source.

    """
    adjusted, seen = _adjusted({"": observations}, [plane_start])
    return SourceFit(
        plane=adjusted.planes[0],
        covariance=adjusted.covariance,
        residual_mm_rms=adjusted.residual_mm_rms,
        markers_used=adjusted.markers_used,
        markers_seen=seen,
        T_world_phantom=adjusted.T_world_phantom,
    )


def fit_rig(observations: Sequence[DualObservation], rig_start: DualPlaneRig) -> RigFit:
    """Find principal points, source-to-intensifier distances and the pose of the ``fs`` intensifier.

    Parameters
    ----------
    observations : dual-plane frames of the phantom, see `pair_frames`.
    rig_start : the rough rig, such as the nominal one; its ``bs`` intensifier is the world and is kept.

    Raises
    ------
    CalibrationError
        As `fit_source`, for either plane.

    """
    frames = {"bs: ": [both.bs for both in observations], "fs: ": [both.fs for both in observations]}
    adjusted, seen = _adjusted(frames, [rig_start["bs"], rig_start["fs"]])
    return RigFit(
        rig=DualPlaneRig(*adjusted.planes),
        covariance=adjusted.covariance,
        residual_mm_rms=adjusted.residual_mm_rms,
        markers_used=adjusted.markers_used,
        markers_seen=seen,
        T_world_phantom=adjusted.T_world_phantom,
    )


def _adjusted(observations: Mapping[str, Sequence[Observation]], planes: Sequence[Plane]) -> tuple[Adjusted, int]:
    """Adjust frames of one plane or two, by the name that errors begin with; return result and markers seen."""
    for name, frames in observations.items():
        check_markers(name, frames)
    measured = [padded(frames) for frames in observations.values()]
    affine = np.array([nearest_affine(markers) for markers in next(iter(observations.values()))])
    T_world_phantom, _ = fit_poses(measured[:1], planes[:1], initial_poses(affine, planes[0]))
    _check_depths(observations, planes, T_world_phantom, measured)
    try:
        adjusted = adjust(measured, planes, T_world_phantom)
    except (np.linalg.LinAlgError, CalibrationError) as error:
        raise CalibrationError(
            f"no source is found from {_seen_in(measured)} ({error}): are the markers named correctly, and in "
            "both planes in the same order of frames? If so, take more frames, with the phantom rotated, tilted and "
            "all over the field"
        ) from error
    _check_depths(observations, adjusted.planes, adjusted.T_world_phantom, measured)
    if not adjusted.residual_mm_rms < _MOST_RESIDUAL_MM:
        raise CalibrationError(
            f"no source and poses explain the markers: {adjusted.residual_mm_rms:.3g} mm RMS remains, at most "
            f"{_MOST_RESIDUAL_MM:g} mm is expected: are the markers named correctly, in mm, in both planes in the "
            "same order of frames, and the images not mirrored?"
        )
    for number, (name, plane) in enumerate(zip(observations, adjusted.planes, strict=True)):
        sigma_mm = float(np.sqrt(adjusted.covariance[3 * number + 2, 3 * number + 2]))
        if not sigma_mm < _MOST_SID_SIGMA * plane.sid_mm:
            raise CalibrationError(
                f"{name}{_seen_in(measured)} do not determine the source: its distance is known to {sigma_mm:.3g} mm "
                "(one standard deviation) only; take more frames, with the phantom rotated, tilted and all over the "
                "field, or a phantom that fills more of it"
            )
    return adjusted, sum(int(markers.seen.sum()) for markers in measured)


def _seen_in(measured: Sequence[PlaneMarkers]) -> str:
    return f"{sum(int(markers.seen.sum()) for markers in measured)} markers in {len(measured[0].seen)} frames"


def _check_depths(
    observations: Mapping[str, Sequence[Observation]],
    planes: Sequence[Plane],
    T_world_phantom: FloatArray,
    measured: Sequence[PlaneMarkers],
) -> None:
    for name, plane, markers in zip(observations, planes, measured, strict=True):
        depth_mm = np.where(
            markers.seen, plane.depths_mm(transform_points(T_world_phantom, markers.marker_mm)), np.inf
        )
        if not (depth_mm > 0).all():
            frame, _ = np.unravel_index(np.argmin(depth_mm), depth_mm.shape)
            raise CalibrationError(
                f"{name}frame {frame}: a marker lies {-depth_mm.min():.0f} mm behind the source, which is "
                f"{plane.sid_mm:.0f} mm from the intensifier: are phantom and projections in mm, the markers "
                "named correctly, and is the initial distance approximately right?"
            )
