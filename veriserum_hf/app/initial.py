"""Where matching begins in a frame: at its accepted pose, at the neighbours', or at a given one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from veriserum_hf.app.own_pose import OwnPose, of_row, transform_of
from veriserum_hf.app.saved import ManualPoses
from veriserum_hf.app.trials import OpenFrame, Place, Trials
from veriserum_hf.core import Component, FloatArray, PoseRow, Poses
from veriserum_hf.errors import MatchError
from veriserum_hf.geometry import Camera, invert_transform, make_transform

LABEL = "label"
_BETWEEN_MM = 1000.0  # of a plane alone, from its source


@dataclass(frozen=True, eq=False)
class PoseSource:
    """Poses that are shown beside those that are matched.

    Attributes
    ----------
    name : in the legend.
    frames : poses by measurement id and component.

    """

    name: str
    frames: Mapping[int, Poses]

    def pose(self, place: Place, component: Component) -> PoseRow | None:
        """Pose of an implant in a frame, if there is one."""
        return self.frames.get(place.measurement_id, {}).get(component)


def initial_pose(
    trials: Trials, sources: Sequence[PoseSource], saved: ManualPoses, place: Place, component: Component
) -> OwnPose | None:
    """Pose that an implant is first shown at.

    It is the accepted one; or that of the nearest frame of the trial with an accepted pose, moved as a source's pose
    moves between the two frames; or that of the first source that has one; or that of the nearest frame, unmoved.

    Parameters
    ----------
    trials : all frames.
    sources : given poses, those to prefer first.
    saved : accepted poses.
    place, component : the frame and the implant.

    """
    if (own := saved.of_frame(place.measurement_id).get(component)) is not None:
        return of_row(own, own.get("start") or "accepted")
    near = _nearest_accepted(trials.of_trial[place.trial_id], saved, place, component)
    given = next(((source, pose) for source in sources if (pose := source.pose(place, component))), None)
    if near is not None and given is not None and (there := given[0].pose(near[0], component)) is not None:
        neighbour, accepted = near
        if accepted["anatomy_id"] == given[1]["anatomy_id"] == there["anatomy_id"]:
            correction = invert_transform(transform_of(there)) @ transform_of(accepted)
            return OwnPose(
                accepted["anatomy_id"],
                transform_of(given[1]) @ correction,
                f"{given[0].name} with the correction of frame {neighbour.frame_index}",
            )
    if given is not None:
        return of_row(given[1], given[0].name)
    if near is not None:
        neighbour, accepted = near
        return OwnPose(accepted["anatomy_id"], transform_of(accepted), f"frame {neighbour.frame_index}")
    return None


def placed(frame: OpenFrame, anatomy_id: int, center_mm: FloatArray) -> OwnPose:
    """Implant in its own orientation, where the centres of the images meet."""
    if not frame.views:
        raise MatchError(f"measurement {frame.place.measurement_id} shows no image to place an implant in")
    cameras = [(view.camera, (view.columns_rows - 1) / 2) for view in frame.views.values()]
    (camera, px), *others = cameras
    at_mm = _meeting_point(camera, px, *others[0]) if others else _on_ray(camera, px)
    return OwnPose(anatomy_id, make_transform(np.eye(3), at_mm - center_mm), "placed")


def _nearest_accepted(
    places: Sequence[Place], saved: ManualPoses, place: Place, component: Component
) -> tuple[Place, PoseRow] | None:
    """The frame of a trial with an accepted pose that is nearest in time, the earlier one of two, and the pose."""
    accepted = [
        (other, pose) for other in places if (pose := saved.of_frame(other.measurement_id).get(component)) is not None
    ]
    return min(accepted, key=lambda each: abs(each[0].frame_index - place.frame_index), default=None)


def _meeting_point(camera: Camera, px: ArrayLike, other: Camera, other_px: ArrayLike) -> FloatArray:
    at_mm = camera.triangulate(px, other, other_px)
    return at_mm if np.isfinite(at_mm).all() else _on_ray(camera, px)


def _on_ray(camera: Camera, px: ArrayLike) -> FloatArray:
    source_mm, ray = camera.rays(px)
    return source_mm + _BETWEEN_MM * ray
