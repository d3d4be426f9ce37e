"""Agreement of two sets of poses of the same frames, as the field reports it.

Of each degree of freedom: bias, standard deviation and 95 % limits of agreement (Bland & Altman, Lancet 1986). Of
poses that one observer matched twice this is the intra-observer repeatability, of poses by two observers the
inter-observer one; neither set is the reference. Against labels it is the accuracy, and precision.

Frames of a trial are repeated measurements that are not independent. The standard deviation is that of one frame
of a new trial: its variance is the sum of those between and within trials (Bland & Altman, J Biopharm Stat 17 (2007)
571, where the true value varies). All frames together would give too small a deviation where there are few trials.
Intervals of bias and limits are those of Zou (Stat Methods Med Res 22 (2013) 630), with Student's t for the bias.
With simulated differences, normally distributed between and within trials, they contained the true value in 94 to
98 % of cases with 5 to 40 trials.

MTPM, maximum total point motion, is the distance by which the point of an implant that moves farthest is displaced
(RSA guideline: Valstar et al., Acta Orthop 76 (2005) 563; ISO 16087). It has no sign, and so no limits.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypedDict

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.stats import chi2, t

from veriserum_hf.core import FloatArray, IndexArray
from veriserum_hf.evaluation.metrics import mtpm_mm, shifts_mm
from veriserum_hf.poses import DEVIATIONS_95, Estimates, pose_differences

_ROTATIONS_DEG = ("rotation_x_deg", "rotation_y_deg", "rotation_z_deg")
_TAIL = 0.025  # on each side of a 95 % interval


class Agreement(TypedDict):
    """Differences in one degree of freedom, first minus second, mm or degrees.

    Of one pair there is no SD, of one trial no interval, and of MTPM no limits. ``p95`` is the 95 % quantile of the
    absolute differences.
    """

    name: str
    pairs: int
    trials: int
    bias: float
    bias_interval_95: list[float] | None
    sd: float | None
    limits_95: list[float] | None
    limits_intervals_95: list[list[float]] | None
    rms: float
    p95: float


class Agreements(TypedDict):
    """Agreement of implants, and of the joint.

    ``by_implant`` is that of `agreements`; ``joint`` has a row for each coordinate of the knee, and is empty where
    no frame has both implants; ``about_joint`` states side and axes, or why there is none.
    """

    by_implant: dict[str, list[Agreement]]
    joint: list[Agreement]
    about_joint: str


def agreements(pairs: Estimates, meshes: Mapping[int, trimesh.Trimesh]) -> dict[str, list[Agreement]]:
    """Agreement of pairs of poses in every degree of freedom.

    Parameters
    ----------
    pairs : the first poses, with the second ones as labels.
    meshes : of the implants by anatomy id, mm.

    Returns
    -------
    By ``"all"`` and by implant, such as ``"femur 1"`` (anatomy id 1), one row for each degree of freedom:
    ``world_x_mm``, ``world_y_mm``, ``world_z_mm`` and for each plane ``bs_h_mm``, ``bs_v_mm``, ``bs_depth_mm``, as
    `pose_errors` defines them; ``rotation_x_deg`` and so on, of the rotation vector about the world's axes; and
    ``mtpm_mm``. Pairs in frames without a plane are not counted in its rows.

    """
    turns_deg = pose_differences(pairs.T_world_implant, pairs.T_world_label)[:, 3:]
    columns = shifts_mm(pairs) | {name: turns_deg[:, n] for n, name in enumerate(_ROTATIONS_DEG)}
    columns["mtpm_mm"] = mtpm_mm(pairs, meshes)
    implants = np.char.add(np.char.add(pairs.component, " "), pairs.anatomy_id.astype(str))
    groups = {"all": np.ones(len(pairs), bool)} | {str(name): implants == name for name in np.unique(implants)}
    return {
        group: [
            agreement(name, values[seen], pairs.trial_id[seen], signed=name != "mtpm_mm")
            for name, values in columns.items()
            if (seen := chosen & np.isfinite(values)).any()
        ]
        for group, chosen in groups.items()
    }


def agreement(name: str, differences: FloatArray, trial_id: NDArray[np.int64], *, signed: bool = True) -> Agreement:
    """Agreement in one degree of freedom.

    Parameters
    ----------
    name : of the degree of freedom, with its unit.
    differences : (n,) first minus second.
    trial_id : (n,).
    signed : whether there are limits of agreement.

    """
    trials, of_row = np.unique(trial_id, return_inverse=True)
    spread = _spread(differences, of_row)
    bias, several = float(differences.mean()), len(trials) > 1
    limits = intervals = None
    if signed and len(differences) > 1:
        limits = [bias - DEVIATIONS_95 * spread.sd, bias + DEVIATIONS_95 * spread.sd]
        below, above = (DEVIATIONS_95 * (end - spread.sd) for end in spread.sd_interval)
        if several:  # uncertainties of bias and SD are added as squares
            inner, outer = (float(np.hypot(spread.bias, each)) for each in (below, above))
            intervals = [[limits[0] - outer, limits[0] + inner], [limits[1] - inner, limits[1] + outer]]
    return {
        "name": name,
        "pairs": len(differences),
        "trials": len(trials),
        "bias": bias,
        "bias_interval_95": [bias - spread.bias, bias + spread.bias] if several else None,
        "sd": spread.sd if len(differences) > 1 else None,
        "limits_95": limits,
        "limits_intervals_95": intervals,
        "rms": float(np.sqrt(np.mean(differences**2))),
        "p95": float(np.percentile(np.abs(differences), 95)),
    }


class _Spread(NamedTuple):
    """Standard deviation of one frame of a new trial, its 95 % interval, and half of that of the bias."""

    sd: float
    sd_interval: tuple[float, float]
    bias: float


def _spread(differences: FloatArray, of_row: IndexArray) -> _Spread:
    n = np.bincount(of_row)
    means = np.bincount(of_row, differences) / n
    freedom = len(differences) - len(n)  # degrees of it, within trials
    within = float(np.sum((differences - means[of_row]) ** 2)) / max(freedom, 1)
    if len(n) == 1:
        return _Spread(float(np.sqrt(within)), (np.nan, np.nan), np.nan)
    # The variance of the means has some of that within trials.
    of_means, of_frames = float(means.var(ddof=1)), (1 - float(np.mean(1 / n))) * within
    variance = of_means + of_frames
    ends = []
    for share, sign in ((1 - _TAIL, -1), (_TAIL, 1)):
        off, more = (
            part * (many / chi2.ppf(share, many) - 1) if many else 0.0
            for part, many in ((of_means, len(n) - 1), (of_frames, freedom))
        )
        ends.append(float(np.sqrt(max(variance + sign * np.hypot(off, more), 0))))
    between = max(of_means - float(np.mean(1 / n)) * within, 0)
    of_bias = between * np.sum(n**2) / len(differences) ** 2 + within / len(differences)
    return _Spread(
        float(np.sqrt(variance)), (ends[0], ends[1]), float(t.ppf(1 - _TAIL, len(n) - 1) * np.sqrt(of_bias))
    )
