"""Initial poses from the images alone: candidates of the search, registered by their outlines and ranked again.

Candidates are rough, and ranked at a coarse scale. The best few are registered at all scales, each with the best pose
of the other implant, which may cover it; the share of the outline that has an edge then ranks them. Whatever the
images hardly distinguish stays visible: where a different pose agrees nearly as well, the best one is ``ambiguous``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import trimesh

from veriserum_hf.core import CONVERGED, FAILED, PLANES, Component, FrameRow, PlaneName, PoseRow, Poses
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import Camera, angle_between_deg, matrix_to_quaternion, transform_points
from veriserum_hf.registration.from_images.hypotheses import Hypotheses
from veriserum_hf.registration.from_images.pose_search import CandidatePose, candidate_poses
from veriserum_hf.registration.inputs import name_of, views_of
from veriserum_hf.registration.refine import RefinedPose, register

# One plane hardly distinguishes mirrored poses and depths at a coarse scale; two planes do.
_MOST_IN_ONE_PLANE, _MOST_IN_TWO = 4, 3
_CLOSE_CANDIDATE = 0.15  # in two planes, below the best one's score: what is worse has never become the best
_SAME = (2.0, 4.0)  # mm, deg: registered poses nearer to each other are one
_SIMILAR = 0.1  # difference in score below which the images do not decide between two poses


def find_poses(
    row: FrameRow,
    implants: Mapping[Component, int],
    meshes: Mapping[int, trimesh.Trimesh],
    *,
    planes: Sequence[PlaneName] = PLANES,
) -> Poses:
    """Find initial poses of implants in a frame from the images alone.

    Parameters are those of `ranked_poses`, which also reports scores and what agrees nearly as well.

    Returns
    -------
    The best pose of each component, as a row has poses; components without a candidate are missing.

    Raises
    ------
    RegistrationError
        As `candidate_poses`, or if there is no candidate for any component.

    """
    found = ranked_poses(row, implants, meshes, planes=planes)
    return {component: _as_row(ranked[0]) for component, ranked in found.items()}


def ranked_poses(
    row: FrameRow,
    implants: Mapping[Component, int],
    meshes: Mapping[int, trimesh.Trimesh],
    *,
    planes: Sequence[PlaneName] = PLANES,
) -> dict[Component, list[RefinedPose]]:
    """Find the poses of implants in a frame from the images alone, registered by their outlines.

    Parameters
    ----------
    row, meshes, planes : as for `veriserum_hf.registration.register`; poses of the row are not used.
    implants : anatomy id of each component that the frame shows.

    Returns
    -------
    Different poses of each component, the best first, failed ones last; components without a candidate are missing.
    Where another pose agrees with the images nearly as well, the first is ``ambiguous`` and its detail names the
    runner-up.

    Raises
    ------
    RegistrationError
        As `candidate_poses`, or if there is no candidate for any component.

    """
    cameras = [view.camera for view in views_of(row, planes).values()]
    candidates = {
        component: _promising(each, len(cameras))
        for component, each in candidate_poses(row, implants, meshes, planes=planes).items()
        if each
    }
    best = {component: _as_row(each[0]) for component, each in candidates.items()}
    found: dict[Component, list[RefinedPose]] = {}
    for component in sorted(candidates, key=lambda component: -candidates[component][0].score):
        starts = [best | {component: _as_row(candidate)} for candidate in candidates[component]]
        registered = [poses[component] for start in starts if (poses := _registered(row, meshes, start, planes))]
        if registered:
            registered.sort(key=lambda pose: (pose.verdict == FAILED, -pose.score))
            found[component] = _ranked(registered, meshes, cameras)
            best[component] = _as_row(found[component][0])
    if not found:
        raise RegistrationError(
            f"{name_of(row)}: no edge of the images agrees with an outline of {' or '.join(implants)}; give an "
            "initial pose"
        )
    return {component: found[component] for component in implants if component in found}


def _promising(candidates: Sequence[CandidatePose], planes: int) -> list[CandidatePose]:
    """Candidates that are registered, of so many planes."""
    if planes == 1:
        return list(candidates[:_MOST_IN_ONE_PLANE])
    close = (each for each in candidates if each.score >= candidates[0].score - _CLOSE_CANDIDATE)
    return list(close)[:_MOST_IN_TWO]


def _registered(
    row: FrameRow, meshes: Mapping[int, trimesh.Trimesh], start: Poses, planes: Sequence[PlaneName]
) -> dict[Component, RefinedPose]:
    """Registered poses; none where a candidate is no initial pose, as behind the source of the other plane."""
    try:
        return register(
            row,
            meshes,
            start,
            planes=planes,
            method="outline",
            limit_mm=math.inf,  # candidates in one plane may be some centimetres off in depth
            limit_deg=math.inf,
        )
    except RegistrationError:
        return {}


def _ranked(
    registered: Sequence[RefinedPose], meshes: Mapping[int, trimesh.Trimesh], cameras: Sequence[Camera]
) -> list[RefinedPose]:
    """Different ones of registered poses; the first is ambiguous where the second agrees nearly as well."""
    center_mm = np.mean(meshes[registered[0].anatomy_id].bounds, axis=0)
    poses = Hypotheses(
        np.stack([pose.T_world_implant[:3, :3] for pose in registered]),
        np.concatenate([transform_points(pose.T_world_implant, center_mm[None]) for pose in registered]),
        np.array([pose.score for pose in registered]),
    )
    best, *others = (registered[n] for n in poses.distinct_places(len(registered), *_SAME, cameras))
    runner_up = next((each for each in others if each.verdict != FAILED), None)
    if best.verdict == CONVERGED and runner_up is not None and runner_up.score > best.score - _SIMILAR:
        apart_deg = float(angle_between_deg(best.T_world_implant[:3, :3], runner_up.T_world_implant[:3, :3]))
        detail = (
            f"another pose, {apart_deg:.0f} deg away, agrees with {100 * runner_up.score:.0f} % of its outline, this "
            f"one with {100 * best.score:.0f} %"
        )
        best = replace(best, verdict="ambiguous", detail="; ".join(filter(None, (detail, best.detail))))
    return [best, *others]


def _as_row(pose: CandidatePose | RefinedPose) -> PoseRow:
    T = pose.T_world_implant
    return {
        "anatomy_id": pose.anatomy_id,
        "translation_mm": T[:3, 3].tolist(),
        "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist(),
    }
