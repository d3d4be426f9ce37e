"""Results of a trial as rows of a pose file."""

from collections.abc import Mapping, Sequence

import numpy as np
import trimesh

from veriserum_hf.core import COMPONENTS, Component, FloatArray, PoseFileRow
from veriserum_hf.geometry import angle_between_deg, matrix_to_quaternion, transform_points
from veriserum_hf.registration.trials.poses import Found, InitialPose

Ids = Mapping[str, int]  # measurement_id, trial_id and frame_index of a frame
_WITHOUT = "no initial pose in this frame, and no other frame of its trial has converged"


def rows_of_trial(
    ids: Sequence[Ids],
    given: Sequence[Mapping[Component, InitialPose]],
    found: Sequence[Mapping[Component, Found]],
    why_without: Mapping[int, str],
    meshes: Mapping[int, trimesh.Trimesh],
) -> list[PoseFileRow]:
    """Rows of `veriserum_hf.poses.REGISTERED_SCHEMA`, frame by frame, of implants with a pose in any frame.

    Parameters
    ----------
    ids, given, found : of every frame; initial poses and results by component.
    why_without : by frame, why it has no result.
    meshes : by anatomy id, mm.

    """
    rows: list[PoseFileRow] = []
    initial = {component: _initial(component, given, found) for component in COMPONENTS}
    for index, id in enumerate(ids):
        for component, known in initial.items():
            own, result = given[index].get(component), found[index].get(component)
            if not known:
                continue
            if result is None:
                nearest = min(known, key=lambda other, index=index: abs(other - index))  # type: ignore[misc]
                pose = (own or known[nearest]).failed(component, why_without.get(index, _WITHOUT))
                result = Found(pose, "given")
            row = _row(id, component, own, result, meshes)
            row["cross_covariance"] = _cross_covariance(component, found[index])
            rows.append(row)
    return rows


def _initial(
    component: Component,
    given: Sequence[Mapping[Component, InitialPose]],
    found: Sequence[Mapping[Component, Found]],
) -> dict[int, InitialPose]:
    """Initial poses of an implant by frame; where none is given, the poses that were found."""
    own = {index: poses[component] for index, poses in enumerate(given) if component in poses}
    return own or {index: poses[component].as_initial() for index, poses in enumerate(found) if component in poses}


def _row(
    id: Ids,
    component: Component,
    given: InitialPose | None,
    found: Found,
    meshes: Mapping[int, trimesh.Trimesh],
) -> PoseFileRow:
    pose = found.pose
    moved_mm, moved_deg = _moved(given, found, meshes) if given else (None, None)
    registered = bool(np.isfinite(pose.score))
    T = pose.T_world_implant
    return {
        "measurement_id": id["measurement_id"],
        "trial_id": id["trial_id"],
        "frame_index": id["frame_index"],
        "anatomy_id": pose.anatomy_id,
        "component": component,
        "translation_mm": T[:3, 3].tolist(),
        "quaternion_xyzw": matrix_to_quaternion(T[:3, :3]).tolist(),
        "covariance": _finite(pose.covariance),
        "image_covariance": _finite(pose.image_covariance),
        "method": pose.method if registered else None,
        "verdict": pose.verdict,
        "score": pose.score if registered else None,
        "detail": pose.detail,
        "moved_mm": moved_mm,
        "moved_deg": moved_deg,
        "planes_apart_mm": _known(pose.planes_apart_mm),
        "planes_apart_sd_mm": _known(pose.planes_apart_sd_mm),
        "start": found.origin if given or found.origin != "given" else None,
    }


def _cross_covariance(component: Component, found: Mapping[Component, Found]) -> list[list[float]] | None:
    """Of a pose with the other one of its frame, which the cameras' errors move as well; None where unknown."""
    effects = {name: each.pose.camera_effects for name, each in found.items()}
    if component not in effects or len(effects) != len(COMPONENTS):
        return None
    (other,) = (name for name in COMPONENTS if name != component)
    return _finite(effects[component] @ effects[other].T)


def _moved(given: InitialPose, found: Found, meshes: Mapping[int, trimesh.Trimesh]) -> tuple[float, float]:
    """Distance of the mesh's centre in mm, and angle in degrees, from the given initial pose."""
    if found.origin == given.origin:
        return found.pose.moved_mm, found.pose.moved_deg
    center_mm = meshes[given.anatomy_id].bounds.mean(axis=0, keepdims=True)
    T_start, T = given.T_world_implant, found.pose.T_world_implant
    shift_mm = transform_points(T, center_mm) - transform_points(T_start, center_mm)
    return float(np.linalg.norm(shift_mm)), float(angle_between_deg(T_start[:3, :3], T[:3, :3]))


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _finite(covariance: FloatArray) -> list[list[float]] | None:
    """Covariance as rows; None where it is unknown."""
    rows: list[list[float]] = covariance.tolist()
    return rows if np.isfinite(covariance).all() else None
