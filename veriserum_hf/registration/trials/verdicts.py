"""Verdicts of a trial's poses in view of each other: one that jumps against its neighbours is ambiguous."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import trimesh

from veriserum_hf.core import Component, FloatArray, listed
from veriserum_hf.geometry import transform_points
from veriserum_hf.registration.deviations import at_point
from veriserum_hf.registration.trials.consistency import Jump, Track, jumps
from veriserum_hf.registration.trials.poses import Found


def check_consistency(
    frame_index: Sequence[int],
    found: Sequence[dict[Component, Found]],
    meshes: Mapping[int, trimesh.Trimesh],
) -> None:
    """Give poses that are inconsistent with those of neighbouring frames the verdict ``ambiguous``, in place.

    Parameters
    ----------
    frame_index : of every frame, in their order.
    found : results of every frame by component; those that have failed are no neighbours.
    meshes : by anatomy id, mm.

    """
    implants: dict[tuple[Component, int], list[int]] = {}
    for index, results in enumerate(found):
        for component, result in results.items():
            if not result.failed and np.isfinite(result.pose.image_covariance).all():
                implants.setdefault((component, result.pose.anatomy_id), []).append(index)
    for (component, anatomy_id), indices in implants.items():
        of_implant = [found[index][component] for index in indices]
        times = [frame_index[index] for index in indices]
        center_mm = meshes[anatomy_id].bounds.mean(axis=0)
        for number, jump in jumps(_track(times, of_implant, center_mm)).items():
            pose, why = of_implant[number].pose, _detail(jump, times)
            changed = replace(pose, verdict="ambiguous", detail="; ".join(filter(None, (pose.detail, why))))
            found[indices[number]][component] = replace(of_implant[number], pose=changed)


def _track(times: Sequence[int], results: Sequence[Found], center_mm: FloatArray) -> Track:
    T = np.array([result.pose.T_world_implant for result in results])
    # The images' own deviations: errors of cameras and meshes are the same in neighbouring frames.
    at_center = [
        at_point(result.pose.image_covariance, pose[:3, :3] @ center_mm)
        for result, pose in zip(results, T, strict=True)
    ]
    increasing = np.array(times) if (np.diff(times) > 0).all() else np.arange(len(times))
    return Track(
        time=increasing.astype(np.float64),
        center_mm=transform_points(T, center_mm[None])[:, 0],
        rotation=T[:, :3, :3],
        covariance=np.array(at_center),
    )


def _detail(jump: Jump, times: Sequence[int]) -> str:
    frames = listed(times[number] for number in jump.neighbours)
    return (
        f"jumps by {jump.mm:.1f} mm and {jump.deg:.1f} deg from the motion of its neighbours (frame_index {frames})"
    )
