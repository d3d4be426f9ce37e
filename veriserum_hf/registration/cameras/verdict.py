"""Verdict of a refined rig: whether its change is significant, and fits frames better that were left out."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import chi2, wilcoxon

from veriserum_hf.calibration import RefinedRig, RigVerdict, SizedCamera
from veriserum_hf.core import FloatArray, PlaneName
from veriserum_hf.geometry import angle_between_deg, transform_points
from veriserum_hf.registration.cameras.adjustment import Adjusted
from veriserum_hf.registration.cameras.details import is_determined, nothing_refined
from veriserum_hf.registration.cameras.observed import Observed
from veriserum_hf.registration.cameras.unknowns import Tolerances, Unknowns
from veriserum_hf.registration.scene import DOF, View

_ONE_POSE = (5.0, 5.0)  # mm, deg: frames that differ by less show the rig from one side
_CHANCE = 0.003  # of a change as large as that found, if there is none
_NOT_BETTER = 0.01  # chance of left-out frames that fit so much better, if cameras are no better


def verdict_of(
    unknowns: Unknowns, adjusted: Adjusted, before_px: FloatArray, after_px: FloatArray
) -> tuple[RigVerdict, str]:
    """Verdict and its reason, with the misfits of frames that were left out, (frames,) px, before and after."""
    free = unknowns.is_free_camera if unknowns.is_free_camera.any() else unknowns.is_free
    if _in_one_pose(adjusted.observed):
        return "not determined", "all frames show the implants in one pose"
    if not adjusted.converged:
        return "not determined", "the adjustment has not converged"
    if not is_determined(unknowns, adjusted).any():
        return "not determined", "the frames determine none of the unknowns better than their tolerances do"
    values = adjusted.values[free]
    statistic = float(values @ np.linalg.solve(adjusted.covariance_by_images[np.ix_(free, free)], values))
    if statistic < chi2.isf(_CHANCE, len(values)):
        return "no evidence", "the change is within its deviations"
    difference = (before_px - after_px)[np.isfinite(before_px - after_px)]
    if not difference.any() or wilcoxon(difference, alternative="greater").pvalue > _NOT_BETTER:
        return "no evidence", "frames that were left out do not fit better"
    return "improved", f"{np.sum(difference > 0)} of {len(difference)} frames that were left out fit better"


def _in_one_pose(used: Sequence[Observed]) -> bool:
    """Whether every implant is near one pose in all frames."""
    first: dict[int, FloatArray] = {}
    for each in used:
        for body, T in zip(each.bodies, each.state.T_world_implant, strict=True):
            other = first.setdefault(body.implant.anatomy_id, T)
            center_mm = body.implant.center_mm[None]
            shift_mm = np.linalg.norm(transform_points(T, center_mm) - transform_points(other, center_mm))
            if shift_mm > _ONE_POSE[0] or angle_between_deg(T[:3, :3], other[:3, :3]) > _ONE_POSE[1]:
                return False
    return True


def plane_covariance(unknowns: Unknowns, adjusted: Adjusted, verdict: RigVerdict) -> FloatArray:
    """Of the second camera's pose after the refinement; a change that is not applied stays an error."""
    if len(unknowns.planes) < 2:
        return np.zeros((DOF, DOF))
    if verdict == "not determined" or not unknowns.is_free[:DOF].all():
        return np.diag(unknowns.tolerance[:DOF] ** 2)
    found = adjusted.covariance[:DOF, :DOF]
    if verdict == "no evidence":
        found = found + np.outer(adjusted.values[:DOF], adjusted.values[:DOF])
    return found


def kept_rig(
    name: str, trials: Sequence[int], views: Mapping[PlaneName, View], tolerances: Tolerances, reason: str
) -> RefinedRig:
    """A rig of which nothing was refined: the stored cameras, with the tolerances."""
    cameras = {
        plane: SizedCamera(view.camera.intrinsics, view.camera.world_to_camera, view.image.shape)
        for plane, view in views.items()
    }
    sd = np.array([tolerances.plane_mm] * 3 + [tolerances.plane_deg] * 3) * (len(views) > 1)
    return RefinedRig(
        trials=tuple(trials),
        before=cameras,
        after=cameras,
        center_mm=np.zeros(3),
        verdict="not determined",
        unknowns=(),
        estimate=np.zeros(0),
        covariance=np.zeros((0, 0)),
        plane_covariance=np.diag(sd**2),
        details=nothing_refined(name, reason),
    )
