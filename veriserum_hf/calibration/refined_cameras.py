"""Cameras that were refined from frames of implants, and how they replace those that rows store.

A rig is a group of trials whose stored cameras are the same, except for the size of the images. Its refined cameras
keep the pixels of the detector: a changed focal length is a changed distance of the source.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from veriserum_hf.calibration.rig_details import RigDetails
from veriserum_hf.calibration.sized_camera import (
    SizedCamera,
    difference,
    is_whole,
    numbers,
    row_of,
    same,
    scale,
    scaled,
)
from veriserum_hf.core import (
    CAMERA_OF,
    IMAGE_OF,
    PLANES,
    CameraRow,
    FloatArray,
    FrameRow,
    LabelRow,
    PlaneName,
    cameras_of,
    image_size,
    listed,
)
from veriserum_hf.errors import CalibrationError
from veriserum_hf.geometry import Camera, Size

RigVerdict = Literal["improved", "no evidence", "not determined"]
Per = Literal["session", "trial", "all"]


@dataclass(frozen=True, eq=False)
class RefinedRig:
    """Refined cameras of trials whose stored cameras are the same.

    Attributes
    ----------
    trials : their ids.
    before : stored cameras, which are replaced.
    after : the refined ones; the same as ``before``, unless the verdict is ``"improved"``.
    center_mm : (3,) mean position of the implants in the world, about which errors are stated.
    verdict : ``"improved"``, ``"no evidence"`` or ``"not determined"``.
    unknowns : names of the free unknowns with their units, such as ``"fs shift x mm"``.
    estimate : (n,) of the unknowns, after less before.
    covariance : (n, n) of the unknowns.
    plane_covariance : (6, 6) of the pose of the second camera with respect to the first after the refinement: shift,
        mm, and rotation vector, deg, along the world's axes, at ``center_mm``.
    details : what else is to be known, as JSON; not checked.

    Raises
    ------
    CalibrationError
        If a field is invalid; it is named.

    """

    trials: tuple[int, ...]
    before: Mapping[PlaneName, SizedCamera]
    after: Mapping[PlaneName, SizedCamera]
    center_mm: FloatArray
    verdict: RigVerdict
    unknowns: tuple[str, ...]
    estimate: FloatArray
    covariance: FloatArray
    plane_covariance: FloatArray
    details: RigDetails

    def __post_init__(self) -> None:
        n = len(self.unknowns)
        shapes = {"center_mm": (3,), "estimate": (n,), "covariance": (n, n), "plane_covariance": (6, 6)}
        for name, shape in shapes.items():
            object.__setattr__(self, name, numbers(getattr(self, name), name, shape))
        for name in ("covariance", "plane_covariance"):
            _check_covariance(getattr(self, name), name)
        if not self.trials or not all(is_whole(id) for id in self.trials):
            raise CalibrationError(f"trials is {list(self.trials)}; expected whole numbers, at least one")
        if not all(isinstance(name, str) for name in self.unknowns) or len(set(self.unknowns)) != n:
            raise CalibrationError(f"unknowns is {list(self.unknowns)}; expected different names")
        if self.verdict not in get_args(RigVerdict):
            raise CalibrationError(f"verdict is {self.verdict!r}; expected {', '.join(get_args(RigVerdict))}")
        planes = [plane for plane in PLANES if plane in self.before]
        if not planes or set(self.before) != set(planes) or set(self.after) != set(planes):
            found = [listed(map(str, cameras)) or "none" for cameras in (self.before, self.after)]
            raise CalibrationError(
                f"before has the planes {found[0]}, after {found[1]}; expected the same of {', '.join(PLANES)}"
            )
        for plane in planes:
            before, after = self.before[plane], self.after[plane]
            if before.image_shape != after.image_shape:
                raise CalibrationError(
                    f"{plane}: before is of images of {before.image_shape}, after of {after.image_shape} (rows, "
                    "columns); expected the same"
                )
            if self.verdict != "improved" and not same(before.camera, after.camera):
                raise CalibrationError(
                    f"{plane}: after differs from before ({difference(before.camera, after.camera)}), but the "
                    f"verdict is {self.verdict!r}; expected the same cameras"
                )

    def replaced(self, plane: PlaneName, camera: CameraRow, shape: Size | None = None) -> CameraRow:
        """Refined camera in place of a row's.

        Parameters
        ----------
        plane : of the camera.
        camera : of a row of one of the trials. Its pixel on the detector stays; the distance of the source and its
            foot on the detector change with the intrinsics.
        shape : of the row's image, px; if not given, the focal lengths give the scale.

        Raises
        ------
        CalibrationError
            If the row's camera is invalid, or not the one that is replaced.

        """
        if plane not in self.before:
            raise CalibrationError(f"it has no refined camera of plane {plane}, only of {listed(self.before)}")
        found, stored, refined = Camera.from_row(camera), self.before[plane], self.after[plane]
        ratio = scale(found, stored, shape)
        if same(found, before := scaled(stored, ratio)):
            return row_of(scaled(refined, ratio), camera, found) if self.verdict == "improved" else camera
        if same(found, scaled(refined, scale(found, refined, shape))):
            raise CalibrationError("it is the refined camera already; cameras are replaced only once")
        raise CalibrationError(f"it is not the camera that is replaced: {difference(found, before)}")


@dataclass(frozen=True, eq=False)
class RefinedCameras:
    """Refined cameras of trials, as ``veriserum refine-cameras`` writes them.

    Attributes
    ----------
    rigs : each trial is in one of them.
    per : what has a rig of its own: each session, each trial, or all trials together.
    source : file that they were read from, for messages.

    Raises
    ------
    CalibrationError
        If there is no rig, or a trial is in several.

    """

    rigs: tuple[RefinedRig, ...]
    per: Per
    source: str = field(default="the refined cameras")

    def __post_init__(self) -> None:
        if self.per not in get_args(Per):
            raise CalibrationError(f"per is {self.per!r}; expected {', '.join(get_args(Per))}")
        if not self.rigs:
            raise CalibrationError("rigs is empty; expected at least one")
        ids = [id for rig in self.rigs for id in rig.trials]
        if several := sorted({id for id in ids if ids.count(id) > 1}):
            raise CalibrationError(f"trial {listed(several)} occurs more than once in rigs; expected it once")

    def of_trial(self, trial_id: int) -> RefinedRig:
        """Return the rig of a trial; CalibrationError if there is none."""
        for rig in self.rigs:
            if trial_id in rig.trials:
                return rig
        ids = sorted(id for rig in self.rigs for id in rig.trials)
        raise CalibrationError(
            f"{self.source}: no trial {trial_id}, only {listed(ids, 12)}; refine the cameras of this trial too, "
            "with `veriserum refine-cameras`, or choose trials that it has"
        )

    def replaced(self, row: LabelRow, plane: PlaneName, shape: Size | None = None) -> CameraRow | None:
        """Refined camera of a row's plane; None where the row has no camera.

        Parameters
        ----------
        row : ids and cameras count.
        plane : of the camera.
        shape : see `RefinedRig.replaced`.

        Raises
        ------
        CalibrationError
            As `applied`.

        """
        if (camera := row[CAMERA_OF[plane]]) is None:
            return None
        trial_id = row["trial_id"]
        rig = self.of_trial(trial_id)
        try:
            return rig.replaced(plane, camera, shape)
        except CalibrationError as error:
            raise CalibrationError(
                f"measurement {row['measurement_id']}, {CAMERA_OF[plane]}: {error}. Expected rows of the data "
                f"set that the cameras were refined with, and its stored cameras of trial {trial_id} ({self.source})"
            ) from error

    def applied(self, row: FrameRow) -> FrameRow:
        """Return the row with its cameras replaced.

        Parameters
        ----------
        row : with images; those of raw frames do not show the size that their cameras are for, which are scaled by
            their focal lengths.

        Raises
        ------
        CalibrationError
            If the trial has no refined cameras, or a camera of the row is not the one that is replaced.

        """
        found = row.copy()
        for plane in cameras_of(row):
            image = row[IMAGE_OF[plane]]
            raw = "distortion_bs" in row
            found[CAMERA_OF[plane]] = self.replaced(row, plane, None if image is None or raw else image_size(image))
        return found


def _check_covariance(matrix: FloatArray, name: str) -> None:
    deviations = np.sqrt(np.maximum(matrix.diagonal(), 0.0))
    scale = np.where(deviations > 0, deviations, 1.0)
    correlation = matrix / np.outer(scale, scale)
    if not np.allclose(correlation, correlation.T, rtol=0, atol=1e-6):
        raise CalibrationError(f"{name} is not symmetric; expected a covariance")
    if len(matrix) and np.linalg.eigvalsh((correlation + correlation.T) / 2)[0] < -1e-6:
        raise CalibrationError(f"{name} has negative eigenvalues; expected a covariance")
