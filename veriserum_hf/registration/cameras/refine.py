"""``veriserum refine-cameras``: cameras of a data set, refined from the implants in its frames.

Frames whose stored cameras are the same are one group. Some of its frames, spread over the poses that it has, are
adjusted together with the cameras. Each fifth of them is then left out (cross-validation), and registered by the
stored cameras and by those that the other frames give. Refined cameras replace the stored ones only where they are
significantly different and fit the frames that were left out better.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from veriserum_hf.calibration import Per, RefinedCameras, RefinedRig, SizedCamera
from veriserum_hf.core import (
    PLANES,
    Component,
    FloatArray,
    FrameRow,
    PlaneName,
    PoseRow,
    listed,
)
from veriserum_hf.dataset import open_rows
from veriserum_hf.errors import FrameError, RegistrationError
from veriserum_hf.geometry import (
    transform_points,
)
from veriserum_hf.poses import transforms
from veriserum_hf.registration.cameras.adjustment import Adjusted, adjust, registered_by
from veriserum_hf.registration.cameras.details import details_of
from veriserum_hf.registration.cameras.groups import (
    LEAST_FRAMES,
    Group,
    groups_of,
    has_failed,
    moving_frames,
    spread,
)
from veriserum_hf.registration.cameras.left_out import left_out
from veriserum_hf.registration.cameras.observed import Observed
from veriserum_hf.registration.cameras.unknowns import Free, Rig, Tolerances, Unknowns
from veriserum_hf.registration.cameras.velocities import Velocities, velocities
from veriserum_hf.registration.cameras.verdict import kept_rig, plane_covariance, verdict_of
from veriserum_hf.registration.data_sets import ARCHIVE_PX
from veriserum_hf.registration.frame import Frame
from veriserum_hf.registration.implant import Implant, implant_of
from veriserum_hf.registration.initial_poses import Starts, configs_for, starts_of
from veriserum_hf.registration.inputs import views_of
from veriserum_hf.registration.outline.search import COARSE, FINE, MIDDLE
from veriserum_hf.registration.scene import View

FRAMES = 100
_SUPPORTED = 0.3  # share of the outline on edges of frames that are used: with wrong cameras no pose fits both planes
Progress = Callable[[int, int], None]


def refine_cameras(
    dataset: str,
    *,
    poses: str = "refined",
    per: Per = "session",
    free: Sequence[Free] = ("fs-pose",),
    tolerances: Tolerances | None = None,
    frames: int = FRAMES,
    frame_rate_hz: float | None = None,
    progress: Progress | None = None,
) -> RefinedCameras:
    """Refine the cameras of a data set or archive.

    Parameters
    ----------
    dataset : converted folder, archive or hub name.
    poses : initial poses: ``"refined"``, ``"initial"``, ``"manual"``, ``"target"``, or a pose file.
    per : group of frames that has cameras of its own: those with the same stored cameras, a trial, or all.
    free : what is refined.
    tolerances : standard deviations of what may be wrong, before any frame is seen.
    frames : number of a group that are used, at most.
    frame_rate_hz : of the trials, if the time between the exposures of the planes is free.
    progress : called with the number of frames read, and of all.

    Raises
    ------
    RegistrationError
        If there are too few frames with poses, or most poses are failed, or cameras of several sessions are to be
        refined as one, or nothing is free that the frames could show; if the time between the planes is free, and
        there is no frame rate, or too few frames have poses of the frames right before and after them.

    """
    if "time" in free and not (frame_rate_hz and np.isfinite(frame_rate_hz) and frame_rate_hz > 0):
        raise RegistrationError(
            f"the time between the planes needs the frame rate of the trials, which data sets do not hold; it is "
            f"{frame_rate_hz}, expected a number above 0. Give --frame-rate-hz (in Veriserum's tables: sampling_freq)"
        )
    source = open_rows(dataset, configs_for(poses), archive_px=ARCHIVE_PX)
    starts = starts_of(source, source.splits, poses)
    groups = groups_of(source.splits, starts, per)
    implants = {id: implant_of(id, mesh) for id, mesh in source.meshes.items()}
    usable, moving = groups, dict[int, dict[Component, FloatArray]]()
    if "time" in free and frame_rate_hz:
        for group in groups.values():
            moving |= velocities(group.labels, starts, implants, frame_rate_hz)
        usable = {name: moving_frames(name, group, moving) for name, group in groups.items()}
    tolerances = tolerances or Tolerances()
    chosen = {name: spread(group, starts, implants, frames) for name, group in usable.items()}
    counts = {name: len(group.frames) for name, group in chosen.items()}
    if max(counts.values(), default=0) < LEAST_FRAMES:
        of_groups = listed(f"{name} has {count}" for name, count in counts.items()) or "there are none"
        raise RegistrationError(
            f"too few frames with poses: {of_groups}; expected at least {LEAST_FRAMES} in a group. Give poses of "
            "more frames, or refine the cameras of several trials together: --per session"
        )
    total, done, rigs = 2 * sum(counts.values()), 0, []  # each frame is registered, and then adjusted

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    for name, group in chosen.items():
        trials = sorted({label["trial_id"] for label in groups[name].labels})
        if counts[name] < LEAST_FRAMES:
            reason = f"{counts[name]} frames with poses; at least {LEAST_FRAMES} are needed"
            rigs.append(kept_rig(name, trials, _any_views(group), tolerances, reason))
            advance(2 * counts[name])
            continue
        observed, excluded = [], []
        for label, each in zip(group.labels, _observed(group, starts, implants, moving), strict=True):
            if each is None:
                excluded.append(label["measurement_id"])
            else:
                observed.append(each)
            advance(1)
        if not observed:
            raise RegistrationError(f"{name}: no frame can be read; run audit on the data set")
        rigs.append(refined_rig(name, trials, observed, free, tolerances, excluded))
        advance(counts[name])
    return RefinedCameras(tuple(rigs), per)


def _any_views(group: Group) -> dict[PlaneName, View]:
    """Views of the first frame of a group that can be read."""
    for frames, index in group.frames:
        (row,) = frames.taken([index]).read()
        if not isinstance(row, FrameError):
            return views_of(row, PLANES)
    raise RegistrationError("no frame of a group can be read; run audit on the data set")


def _observed(
    group: Group, starts: Starts, implants: Mapping[int, Implant], moving: Velocities
) -> Iterator[Observed | None]:
    """Frames of a group, their outlines registered by the stored cameras; None where that cannot be used."""
    for (frames, index), label in zip(group.frames, group.labels, strict=True):
        (row,) = frames.taken([index]).read()
        poses = {name: pose for name, pose in starts[label["measurement_id"]].items() if not has_failed(pose)}
        velocity = moving.get(label["measurement_id"])
        if isinstance(row, FrameError) or not poses:
            yield None
        else:
            yield registered_frame(row, poses, implants, velocity)


def registered_frame(
    row: FrameRow,
    poses: Mapping[Component, PoseRow],
    implants: Mapping[int, Implant],
    velocity: Mapping[Component, FloatArray] | None = None,
) -> Observed:
    """A frame with its outlines registered from these poses by the stored cameras."""
    shown = {name: implants[pose["anatomy_id"]] for name, pose in poses.items()}
    initial = transforms(list(poses.values()))
    frame = Frame(views_of(row, PLANES), shown, initial)
    state = frame.outlines.initial_state(initial)
    for scale in (COARSE, MIDDLE, FINE):
        state = frame.outlines.solver(scale).run(state, scale.passes)
    of_poses = None if velocity is None else np.array([velocity[name] for name in poses])
    return Observed.of(row["trial_id"], row["measurement_id"], frame, state, of_poses)


def refined_rig(
    name: str,
    trials: Sequence[int],
    observed: Sequence[Observed],
    free: Sequence[Free],
    tolerances: Tolerances,
    excluded: Sequence[int] = (),
) -> RefinedRig:
    """Refined cameras of one group; ids of its frames that cannot be used are stated."""
    if "time" in free and observed and len(observed[0].views) < 2:
        raise RegistrationError(
            f"{name}: the frames are of {listed(observed[0].views)} alone; the time between the exposures needs two "
            "planes. Refine without time"
        )
    used = [each for each in observed if each.share_on_edges() >= _SUPPORTED]
    if len(used) < LEAST_FRAMES:
        seen = f"{len(used)} of {len(observed)} frames have their outlines near edges"
        reason = f"{seen}; at least {LEAST_FRAMES} are needed"
        return kept_rig(name, trials, observed[0].views, tolerances, reason)
    unknowns = Unknowns(_rig(used), _anatomy_ids(observed), free, tolerances)
    if not unknowns.is_free.any():
        raise RegistrationError(
            f"{name}: none of {listed(free)} can be refined from frames of {listed(unknowns.planes)}; give --free "
            "sid,principal-point"
        )
    adjusted, by_stored = _adjusted(used, [each for each in observed if each not in used], unknowns)
    without = left_out(unknowns, adjusted, by_stored)
    verdict, reason = verdict_of(unknowns, adjusted, without.before_px, without.after_px)
    if "time" in free:
        late_ms, sd_ms = unknowns.late_ms(adjusted.values), float(np.sqrt(adjusted.covariance[-1, -1]))
        reason += f"; {unknowns.planes[1]} is exposed {late_ms:+.2f} ms (SD {sd_ms:.2f}) after {unknowns.planes[0]}"
    if len(unknowns.anatomy_ids) == 1:
        reason += f"; all frames show one implant alone, with anatomy_id {unknowns.anatomy_ids[0]}"
    unused = [each.measurement_id for each in observed if each not in by_stored]
    is_free, names = unknowns.is_free, np.array(unknowns.names)
    values = adjusted.values if verdict == "improved" else np.zeros(len(names))
    shapes = {plane: view.image.shape for plane, view in observed[0].views.items()}
    cameras = {
        which: {plane: SizedCamera(c.intrinsics, c.world_to_camera, shapes[plane]) for plane, c in each.items()}
        for which, each in (("before", unknowns.cameras(0 * values)), ("after", unknowns.cameras(values)))
    }
    covariance = adjusted.covariance[np.ix_(is_free, is_free)]
    return RefinedRig(
        trials=tuple(trials),
        before=cameras["before"],
        after=cameras["after"],
        center_mm=unknowns.rig.center_mm,
        verdict=verdict,
        unknowns=tuple(names[is_free].tolist()),
        estimate=adjusted.values[is_free],
        covariance=covariance,
        plane_covariance=plane_covariance(unknowns, adjusted, verdict),
        details=details_of(name, reason, [*excluded, *unused], unknowns, adjusted, without),
    )


def _adjusted(
    used: Sequence[Observed], others: Sequence[Observed], unknowns: Unknowns
) -> tuple[Adjusted, list[Observed]]:
    """Adjusted frames, and the same by the stored cameras.

    Others whose outlines are on edges only by the cameras that those in use give join them.
    """
    stored = np.zeros(len(unknowns.names))
    adjusted = adjust(used, unknowns, stored)
    found = {each: registered_by(each, unknowns, stored, adjusted.values) for each in others}
    found = {each: by_refined for each, by_refined in found.items() if by_refined.share_on_edges() >= _SUPPORTED}
    if found:
        adjusted = adjust([*adjusted.observed, *found.values()], unknowns, adjusted.values)
    return adjusted, [*used, *found]


def _rig(observed: Sequence[Observed]) -> Rig:
    views = observed[0].views
    centers_mm = [
        transform_points(T, body.implant.center_mm[None])[0]
        for each in observed
        for T, body in zip(each.state.T_world_implant, each.bodies, strict=True)
    ]
    return Rig(
        {plane: view.camera for plane, view in views.items()},
        {plane: view.pixel_mm for plane, view in views.items()},
        np.mean(centers_mm, axis=0),
    )


def _anatomy_ids(observed: Sequence[Observed]) -> list[int]:
    return sorted({body.implant.anatomy_id for each in observed for body in each.bodies})
