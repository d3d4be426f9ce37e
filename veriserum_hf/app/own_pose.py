"""Poses that are being matched, and what was done to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from veriserum_hf.core import MANUAL, NOT_ASSESSED, Component, FloatArray, PoseFileRow, PoseRow
from veriserum_hf.geometry import make_transform, matrix_to_quaternion, quaternion_to_matrix

_SAME_MM = 1e-9  # a pose that has been written and read again


@dataclass(frozen=True, eq=False)
class OwnPose:
    """Pose of one implant in one frame, as it is now.

    Attributes
    ----------
    anatomy_id : of the implant.
    T_world_implant : (4, 4) mm.
    start : what the pose was before it was moved.
    registered : what a registration states about exactly this pose; None where it was moved since, or never
        registered.

    """

    anatomy_id: int
    T_world_implant: FloatArray
    start: str
    registered: PoseRow | None = None

    def moved(self, T_world_implant: FloatArray) -> "OwnPose":
        """Pose after a move."""
        return OwnPose(self.anatomy_id, T_world_implant, self.start)

    def as_row(self) -> PoseRow:
        """Pose as in a row of the data set."""
        return {
            "anatomy_id": self.anatomy_id,
            "translation_mm": self.T_world_implant[:3, 3].tolist(),
            "quaternion_xyzw": matrix_to_quaternion(self.T_world_implant[:3, :3]).tolist(),
        }


def of_row(pose: PoseRow, start: str) -> OwnPose:
    """Pose of a row, of the data set or a file, with what a registration states about it, if it is of one."""
    registered = pose if pose.get("method") not in (None, MANUAL) else None
    return OwnPose(pose["anatomy_id"], transform_of(pose), start, registered)


def transform_of(pose: PoseRow) -> FloatArray:
    """``T_world_implant``, (4, 4) mm, of a pose as in a row."""
    return make_transform(quaternion_to_matrix(pose["quaternion_xyzw"]), pose["translation_mm"])


def is_same(own: OwnPose | None, pose: PoseRow | None) -> bool:
    """Whether a pose is that of a row, or there is neither."""
    if own is None or pose is None:
        return own is None and pose is None
    same = np.allclose(transform_of(pose), own.T_world_implant, rtol=0, atol=_SAME_MM)
    return bool(same) and own.anatomy_id == pose["anatomy_id"]


def accepted_row(
    own: OwnPose, ids: Mapping[str, int], component: Component, observer: str, accepted_utc: datetime
) -> PoseFileRow:
    """Row of `veriserum_hf.poses.MANUAL_SCHEMA` of a pose that is accepted."""
    pose = own.as_row()
    stated = own.registered or pose
    return {
        "anatomy_id": pose["anatomy_id"],
        "translation_mm": pose["translation_mm"],
        "quaternion_xyzw": pose["quaternion_xyzw"],
        "measurement_id": ids["measurement_id"],
        "trial_id": ids["trial_id"],
        "frame_index": ids["frame_index"],
        "component": component,
        "covariance": stated.get("covariance"),
        "image_covariance": stated.get("image_covariance"),
        "score": stated.get("score"),
        "detail": stated.get("detail"),
        "verdict": stated.get("verdict", NOT_ASSESSED),
        "kind": MANUAL,
        "method": stated.get("method", MANUAL),
        "start": own.start,
        "observer": observer,
        "accepted_utc": accepted_utc,
    }


_MOST_CHANGES = 1000  # that can be taken back
OfFrame = Mapping[Component, OwnPose]


@dataclass
class History:
    """What the poses of a frame were before each change, and what was undone."""

    past: list[OfFrame] = field(default_factory=list)
    future: list[OfFrame] = field(default_factory=list)

    def keep(self, before: OfFrame) -> None:
        """Note the poses before a change."""
        self.past.append(dict(before))
        del self.past[:-_MOST_CHANGES]
        self.future.clear()

    def undone(self, now: OfFrame) -> OfFrame | None:
        """Poses before the last change; None where there was none."""
        return self._step(self.past, self.future, now)

    def redone(self, now: OfFrame) -> OfFrame | None:
        """Poses after the change that was undone last; None where there is none."""
        return self._step(self.future, self.past, now)

    @staticmethod
    def _step(source: list[OfFrame], target: list[OfFrame], now: OfFrame) -> OfFrame | None:
        if not source:
            return None
        target.append(dict(now))
        return source.pop()
