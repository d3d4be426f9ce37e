"""Initial poses from the images alone: candidates of the search, registered by their outlines and ranked again.

Candidates are rough, and ranked at a coarse scale. The best few are registered at all scales, each with the best pose
of the other implant, which may cover it; the share of the outline that has an edge then ranks them. Whatever the
images hardly distinguish stays visible: where a different pose agrees nearly as well, the best one is ``ambiguous``.
In one plane the mirror image of the best is one of them, and of what it leaves open, poses of a knee come first, see
`veriserum_hf.registration.from_images.knees`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import trimesh

from veriserum_hf.core import FAILED, PLANES, Component, FloatArray, FrameRow, PlaneName, PoseRow, Poses
from veriserum_hf.errors import RegistrationError
from veriserum_hf.geometry import Camera, angle_between_deg, matrix_to_quaternion, mirror_pose, transform_points
from veriserum_hf.registration.from_images.hypotheses import Hypotheses
from veriserum_hf.registration.from_images.knees import UNDECIDED, like_a_knee, mediolateral_axes
from veriserum_hf.registration.from_images.pose_search import CandidatePose, candidate_poses
from veriserum_hf.registration.inputs import name_of, views_of
from veriserum_hf.registration.refine import RefinedPose, register
from veriserum_hf.registration.verdicts import MIRRORED

# One plane hardly distinguishes mirrored poses and depths at a coarse scale; two planes do.
_MOST_IN_ONE_PLANE, _MOST_IN_TWO = 4, 3
_CLOSE_CANDIDATE = 0.15  # in two planes, below the best one's score: what is worse has never become the best
RIVAL = "another pose"  # first words of a detail
_SAME = (2.0, 4.0)  # mm, deg: registered poses nearer to each other are one
_SIMILAR = 0.1  # difference in score below which two planes do not decide between two poses


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
    The best pose of each component, as a row has poses; components without a candidate are missing. One is
    ``ambiguous`` where another agrees with the images nearly as well: its detail says so.

    Raises
    ------
    RegistrationError
        As `candidate_poses`, or if there is no candidate for any component.

    """
    found = ranked_poses(row, implants, meshes, planes=planes)
    return {component: _with_open_question(ranked[0]) for component, ranked in found.items()}


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
    Scores decide. In one plane, where both components are found, poses of close scores are ordered by how nearly
    parallel the components are, as in a knee. Where another pose agrees with the images nearly as well, the first is
    ``ambiguous`` and its detail names the runner-up.

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
    one_plane = len(cameras) == 1
    axes = mediolateral_axes(meshes, implants) if one_plane else {}
    best = {component: _as_row(each[0]) for component, each in candidates.items()}
    found: dict[Component, list[RefinedPose]] = {}
    for component in sorted(candidates, key=lambda component: -candidates[component][0].score):
        starts = [_as_row(candidate) for candidate in candidates[component]]
        registered = _registered(row, meshes, component, best, starts, planes)
        if registered and component in axes:
            mirror = _mirrored(registered[0], meshes[implants[component]], axes[component], cameras[0])
            registered += _registered(row, meshes, component, best, [mirror], planes)
        if registered:
            found[component] = _different(registered, meshes, cameras)
            best[component] = _as_row(found[component][0])
    found = {
        component: _with_rival(ranked, one_plane=one_plane) for component, ranked in like_a_knee(found, axes).items()
    }
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
    row: FrameRow,
    meshes: Mapping[int, trimesh.Trimesh],
    component: Component,
    others: Poses,
    starts: Sequence[PoseRow],
    planes: Sequence[PlaneName],
) -> list[RefinedPose]:
    """Registered poses of a component from its starts, the best first.

    Some lead to none: a candidate may be no initial pose, as behind the source of the other plane.
    """
    found = []
    for start in starts:
        try:
            poses = register(
                row,
                meshes,
                {**others, component: start},
                planes=planes,
                method="outline",
                limit_mm=math.inf,  # candidates in one plane may be some centimetres off in depth
                limit_deg=math.inf,
            )
        except RegistrationError:
            continue
        found.append(poses[component])
    return sorted(found, key=_order)


def _order(pose: RefinedPose) -> tuple[bool, float]:
    return pose.verdict == FAILED, -pose.score


def _mirrored(pose: RefinedPose, mesh: trimesh.Trimesh, axis: FloatArray, camera: Camera) -> PoseRow:
    """What one plane shows of a nearly symmetric implant is nearly that of this pose too."""
    center_mm = mesh.bounds.mean(axis=0)
    ray = transform_points(pose.T_world_implant, center_mm[None])[0] - camera.source_mm
    T = mirror_pose(pose.T_world_implant, axis, center_mm, ray / np.linalg.norm(ray))
    return _as_row(replace(pose, T_world_implant=T))


def _different(
    registered: Sequence[RefinedPose], meshes: Mapping[int, trimesh.Trimesh], cameras: Sequence[Camera]
) -> list[RefinedPose]:
    """Different ones of registered poses, the best first."""
    registered = sorted(registered, key=_order)
    center_mm = np.mean(meshes[registered[0].anatomy_id].bounds, axis=0)
    poses = Hypotheses(
        np.stack([pose.T_world_implant[:3, :3] for pose in registered]),
        np.concatenate([transform_points(pose.T_world_implant, center_mm[None]) for pose in registered]),
        np.array([pose.score for pose in registered]),
    )
    return [registered[n] for n in poses.distinct_places(len(registered), *_SAME, cameras)]


def _with_rival(ranked: Sequence[RefinedPose], *, one_plane: bool) -> list[RefinedPose]:
    """The same poses; the first is ambiguous where another agrees nearly as well, which its detail begins with."""
    best, *others = ranked
    least = best.score - (UNDECIDED if one_plane else _SIMILAR)
    rival = next((each for each in others if each.verdict != FAILED and each.score > least), None)
    if best.verdict == FAILED or rival is None:
        return [*ranked]
    apart_deg = float(angle_between_deg(best.T_world_implant[:3, :3], rival.T_world_implant[:3, :3]))
    why = (
        f"{RIVAL}, {apart_deg:.0f} deg away, agrees with {100 * rival.score:.0f} % of its outline, this one with "
        f"{100 * best.score:.0f} %"
    )
    return [replace(best, verdict="ambiguous", detail="; ".join(filter(None, (why, best.detail)))), *others]


def _with_open_question(pose: RefinedPose) -> PoseRow:
    """A row; with verdict and detail where another pose agrees nearly as well, a mirrored one too."""
    is_open = pose.verdict == "ambiguous" and pose.detail.startswith((RIVAL, MIRRORED))
    return {**_as_row(pose), "verdict": pose.verdict, "detail": pose.detail} if is_open else _as_row(pose)


def _as_row(pose: CandidatePose | RefinedPose) -> PoseRow:
    T = pose.T_world_implant
    return {
        "anatomy_id": pose.anatomy_id,
        "translation_mm": T[:3, 3].tolist(),
        "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist(),
    }
