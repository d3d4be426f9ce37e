"""Labels minus their registrations: the differences of a data set as arrays.

A difference is label minus registration: of the implant's origin in mm along the world's axes, and the rotation
vector from the registered to the labelled implant, degrees about the world's axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from veriserum_hf.core import CONVERGED, PLANES, FloatArray, LabelRow, PoseFileRow, cameras_of
from veriserum_hf.geometry import viewing_axes
from veriserum_hf.poses import pose_differences, transforms
from veriserum_hf.registration.verdicts import CONTRADICTION

DIFFERENCES = ("world_x_mm", "world_y_mm", "world_z_mm", "rotation_x_deg", "rotation_y_deg", "rotation_z_deg")


class Label(LabelRow):
    """A row of a data set without images, and where it is."""

    split: str
    row: int


@dataclass(frozen=True, eq=False)
class Differences:
    """Labels minus registrations, one for each implant and frame that has both.

    Attributes
    ----------
    pairs : label's row, and registration, n of them.
    assessed : (n,), whether the label is compared with it: where it has converged, or its session's planes
        contradict each other by the same amount (`veriserum_hf.registration.labels.session_offsets`).
    contradictory : (n,), whether it is ambiguous only since its planes contradict each other.
    values : (n, 6), in the order of `DIFFERENCES`; NaN where it is neither.

    """

    pairs: Sequence[tuple[Label, PoseFileRow]]
    assessed: NDArray[np.bool_]
    contradictory: NDArray[np.bool_]
    values: FloatArray

    @cached_property
    def components(self) -> NDArray[np.str_]:
        """Component of each, (n,)."""
        return np.array([pose["component"] for _, pose in self.pairs], dtype=str)

    @cached_property
    def implants(self) -> NDArray[np.int64]:
        """Anatomy id of each, (n,)."""
        return np.array([pose["anatomy_id"] for _, pose in self.pairs], dtype=np.int64)

    @cached_property
    def trials(self) -> NDArray[np.int64]:
        """Trial id of each, (n,)."""
        return np.array([row["trial_id"] for row, _ in self.pairs], dtype=np.int64)

    @cached_property
    def calibrations(self) -> NDArray[np.int64]:
        """Number of the calibration of each, (n,): the same where all cameras of the row are the same."""
        numbers: dict[object, int] = {}
        return np.array([numbers.setdefault(_cameras(row), len(numbers)) for row, _ in self.pairs], dtype=np.int64)

    @cached_property
    def T_world_implant(self) -> FloatArray:  # noqa: N802
        """Registered poses, (n, 4, 4) mm."""
        return transforms(pose for _, pose in self.pairs)

    @cached_property
    def variances(self) -> FloatArray:
        """Variances that the registrations state, (n, 6); 0 where they state none."""
        stated = (pose["covariance"] for _, pose in self.pairs)
        return np.array([np.zeros(6) if each is None else np.diag(each) for each in stated]).reshape(-1, 6)

    def chosen(self, of: NDArray[np.bool_]) -> "Differences":
        """Those where ``of``, (n,), is true."""
        pairs = [pair for pair, is_chosen in zip(self.pairs, of, strict=True) if is_chosen]
        return Differences(pairs, self.assessed[of], self.contradictory[of], self.values[of])

    def depths_mm(self) -> FloatArray:
        """Shift along the ray from each plane's source, (n, 2); NaN where there is no such plane."""
        depths = np.full((len(self.pairs), len(PLANES)), np.nan)
        at = self.T_world_implant[:, :3, 3]
        cameras = [cameras_of(row) for row, _ in self.pairs]
        for n, plane in enumerate(PLANES):
            seen = [index for index, each in enumerate(cameras) if plane in each]
            world_to_camera = np.array([cameras[index][plane]["world_to_camera"] for index in seen]).reshape(-1, 4, 4)
            depths[seen, n] = (viewing_axes(world_to_camera, at[seen])[:, 2] * self.values[seen, :3]).sum(axis=1)
        return depths


def differences_of(labels: Sequence[Label], registered: pa.Table) -> Differences:
    """Differences of labels and their registrations, by `veriserum_hf.poses.REGISTERED_SCHEMA`."""
    label_of: dict[int | None, Label] = {row["measurement_id"]: row for row in labels}
    poses: list[PoseFileRow] = registered.to_pylist()
    pairs = [
        (row, pose)
        for pose in poses
        if (row := label_of.get(pose["measurement_id"])) is not None and row[pose["component"]]
    ]
    converged = np.array([pose["verdict"] == CONVERGED for _, pose in pairs], dtype=bool)
    contradictory = np.array(
        [pose["verdict"] == "ambiguous" and (pose["detail"] or "").startswith(CONTRADICTION) for _, pose in pairs],
        dtype=bool,
    )
    compared = converged | contradictory
    known = [pair for pair, is_compared in zip(pairs, compared, strict=True) if is_compared]
    stored = transforms(label for row, pose in known if (label := row[pose["component"]]))
    values = np.full((len(pairs), 6), np.nan)
    values[compared] = pose_differences(stored, transforms(pose for _, pose in known))
    return Differences(pairs, converged, contradictory, values)


def _cameras(row: Label) -> tuple[object, ...]:
    """Cameras of a row, as a key."""
    return tuple(
        (plane, np.asarray(camera["intrinsics"]).tobytes(), np.asarray(camera["world_to_camera"]).tobytes())
        for plane, camera in cameras_of(row).items()
    )
