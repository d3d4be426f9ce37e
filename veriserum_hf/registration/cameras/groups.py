"""Groups of frames that share cameras, and which of their frames are used."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from veriserum_hf.calibration import Per
from veriserum_hf.core import CAMERA_OF, COMPONENTS, FAILED, LabelRow
from veriserum_hf.dataset import Frames
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import session_numbers, transform_points
from veriserum_hf.poses import transforms
from veriserum_hf.registration.cameras.velocities import Velocities
from veriserum_hf.registration.implant import Implant
from veriserum_hf.registration.initial_poses import Starts

LEAST_FRAMES = 10


@dataclass(frozen=True, eq=False)
class Group:
    """Frames of one group: where they are, their labels and initial poses."""

    frames: list[tuple[Frames, int]]
    labels: list[LabelRow]


def groups_of(splits: Mapping[str, Frames], starts: Starts, per: Per) -> dict[str, Group]:
    """Frames with initial poses by the name of their group.

    Raises
    ------
    RegistrationError
        If most poses are failed, or cameras of several sessions are to be one group.

    """
    names = ("measurement_id", "trial_id", "frame_index", *CAMERA_OF.values())
    where, labels = [], []
    for frames in splits.values():
        for index, label in enumerate(frames.table(*names).to_pylist()):
            if starts.get(label["measurement_id"]):
                where.append((frames, index))
                labels.append(label)
    failed = [pose for label in labels for pose in starts[label["measurement_id"]].values() if has_failed(pose)]
    poses = sum(len(starts[label["measurement_id"]]) for label in labels)
    if 2 * len(failed) > poses:
        raise RegistrationError(
            f"{len(failed)} of {poses} poses are failed; expected registered poses. Register the frames again from "
            "other initial poses, or give those of another file"
        )
    sessions = session_numbers(labels)
    if per == "all" and len(sessions) and sessions.max() > 0:
        raise RegistrationError(
            f"the frames have the cameras of {sessions.max() + 1} sessions, which cannot be refined as one; give "
            "--per session"
        )
    keys = [label["trial_id"] if per == "trial" else int(n) for label, n in zip(labels, sessions, strict=True)]
    found: dict[str, Group] = {}
    for key, at, label in zip(keys, where, labels, strict=True):
        name = f"trial {key}" if per == "trial" else f"session {key + 1}"
        group = found.setdefault(name, Group([], []))
        group.frames.append(at)
        group.labels.append(label)
    return found


def moving_frames(name: str, group: Group, moving: Velocities) -> Group:
    """Frames of a group whose implants have velocities."""
    kept = [n for n, label in enumerate(group.labels) if label["measurement_id"] in moving]
    if len(kept) < LEAST_FRAMES:
        raise RegistrationError(
            f"{name}: {len(kept)} of {len(group.labels)} frames have poses of the frames right before and after them "
            f"in their trial (frame_index), which show how the implants move; expected at least {LEAST_FRAMES} for "
            "the time between the planes. Give poses of consecutive frames, or refine without time"
        )
    return Group([group.frames[n] for n in kept], [group.labels[n] for n in kept])


def has_failed(pose: Mapping[str, object]) -> bool:
    """Whether the verdict of an initial pose is failed."""
    return pose.get("verdict") == FAILED


def spread(group: Group, starts: Starts, implants: Mapping[int, Implant], count: int) -> Group:
    """Frames whose poses are far from each other: the farthest from those chosen before, first that of the centre.

    The expected information of frames (D-optimal choice) gives no smaller deviations: errors of what is held, which
    are the same in all frames, are most of them.
    """
    features = []
    for label in group.labels:
        of_frame = starts[label["measurement_id"]]
        values = []
        for component in COMPONENTS:
            if (pose := of_frame.get(component)) is None:
                values += [0.0] * 12
                continue
            implant = implants[pose["anatomy_id"]]
            (T,) = transforms([pose])
            center_mm = transform_points(T, implant.center_mm[None])[0]
            values += [*center_mm, *(T[:3, :3].ravel() * implant.radius_mm)]
        features.append(values)
    points = np.array(features).reshape(len(features), -1)
    if not len(points):
        return group
    order = [int(np.argmin(np.linalg.norm(points - points.mean(axis=0), axis=1)))]
    distance = np.linalg.norm(points - points[order[0]], axis=1)
    while len(order) < min(count, len(points)):
        order.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(points - points[order[-1]], axis=1))
        distance[order] = -1
    return Group([group.frames[n] for n in order], [group.labels[n] for n in order])
