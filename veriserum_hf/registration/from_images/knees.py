"""Which of the poses that the images hardly decide between are those of a knee.

In one plane a nearly symmetric tray looks like its mirror image behind a plane across the ray. But in an artificial
knee the mediolateral axes of both components stay nearly parallel, whatever the flexion, and the femoral component is
seldom ambiguous. So of such poses those with the smaller angle between these axes are more likely.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import trimesh

from veriserum_hf.core import FAILED, Component, FloatArray
from veriserum_hf.errors import KinematicsError
from veriserum_hf.geometry import axes_in_mesh
from veriserum_hf.registration.refine import RefinedPose

# Of the tibia against the femur in deep flexion: 8 deg on average, standard deviation 6 (16 implants, kneeling and
# lunging; doi 10.1302/2046-3758.53.2000621), root mean square.
_TURNED_DEG = 10.0
_SCORE = 0.05  # difference between scores that counts as much as one of log likelihood
# Difference between scores below which one plane does not decide between two poses: in simulated frames the right one
# was up to 0.11 behind.
UNDECIDED = 0.15


def mediolateral_axes(
    meshes: Mapping[int, trimesh.Trimesh], implants: Mapping[Component, int]
) -> dict[Component, FloatArray]:
    """Unit vectors (3,) in the coordinates of the meshes; components whose mesh shows no such axis are missing."""
    axes = {}
    for component, id in implants.items():
        try:
            axes[component] = axes_in_mesh(meshes[id], component)[0][:3, 0]
        except KinematicsError:
            continue
    return axes


def like_a_knee(
    ranked: Mapping[Component, Sequence[RefinedPose]], axes: Mapping[Component, FloatArray]
) -> dict[Component, list[RefinedPose]]:
    """Poses of each component, those first that together are most likely, and the others in their order.

    Parameters
    ----------
    ranked : poses of each component, the best first, failed ones last.
    axes : of `mediolateral_axes`; unless it has those of both components, nothing changes.

    """
    likely = {name: [pose for pose in poses if pose.verdict != FAILED] for name, poses in ranked.items()}
    if len(likely) < 2 or not all(likely.values()) or not likely.keys() <= axes.keys():
        return {name: list(poses) for name, poses in ranked.items()}
    best = max(product(*likely.values()), key=lambda pair: sum(pose.score for pose in pair) - _unlike(pair, axes))
    return {
        name: [first, *(pose for pose in poses if pose is not first)]
        for first, (name, poses) in zip(best, ranked.items(), strict=True)
    }


def _unlike(pair: Sequence[RefinedPose], axes: Mapping[Component, FloatArray]) -> float:
    """How much higher the score of a pair must be whose axes are not parallel."""
    one, other = (pose.T_world_implant[:3, :3] @ axes[pose.component] for pose in pair)
    turned_deg = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other)))
    return min(_SCORE * (turned_deg / _TURNED_DEG) ** 2 / 2, UNDECIDED)
