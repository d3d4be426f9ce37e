"""Agreement of two sets of poses of the same frames: bias and limits of agreement of each degree of freedom.

Of poses that one observer matched twice this is the intra-observer repeatability, of poses by two observers the
inter-observer one. Neither set is the reference.

Source: Bland & Altman, Lancet 1986.
"""

from typing import TypedDict

import numpy as np

from veriserum_hf.core import FloatArray
from veriserum_hf.evaluation.metrics import shifts_mm
from veriserum_hf.poses import DEVIATIONS_95, Estimates, pose_differences

_ROTATIONS_DEG = ("rotation_x_deg", "rotation_y_deg", "rotation_z_deg")


class Agreement(TypedDict):
    """Differences in one degree of freedom, first minus second, mm or degrees; of one pair there is no SD."""

    name: str
    pairs: int
    bias: float
    sd: float | None
    limits_95: list[float] | None


def repeatability(pairs: Estimates) -> dict[str, list[Agreement]]:
    """Bias, standard deviation and 95 % limits of agreement (bias -/+ 1.96 SD) of pairs of poses.

    Parameters
    ----------
    pairs : the first poses, with the second ones as labels.

    Returns
    -------
    By ``"all"`` and by implant, such as ``"femur 1"`` (anatomy id 1), one row for each degree of freedom:
    ``world_x_mm``, ``world_y_mm``, ``world_z_mm`` and for each plane ``bs_h_mm``, ``bs_v_mm``, ``bs_depth_mm``, as
    `pose_errors` defines them; ``rotation_x_deg`` and so on, of the rotation vector about the world's axes.
    Pairs in frames without a plane are not counted in its rows.

    """
    turns_deg = pose_differences(pairs.T_world_implant, pairs.T_world_label)[:, 3:]
    columns = shifts_mm(pairs) | {name: turns_deg[:, n] for n, name in enumerate(_ROTATIONS_DEG)}
    implants = np.char.add(np.char.add(pairs.component, " "), pairs.anatomy_id.astype(str))
    groups = {"all": np.ones(len(pairs), bool)} | {str(name): implants == name for name in np.unique(implants)}
    return {
        group: [
            _agreement(name, seen)
            for name, values in columns.items()
            if len(seen := values[chosen & np.isfinite(values)])
        ]
        for group, chosen in groups.items()
    }


def _agreement(name: str, differences: FloatArray) -> Agreement:
    bias, sd = float(differences.mean()), float(differences.std(ddof=1)) if len(differences) > 1 else None
    limits = None if sd is None else [bias - DEVIATIONS_95 * sd, bias + DEVIATIONS_95 * sd]
    return {"name": name, "pairs": len(differences), "bias": bias, "sd": sd, "limits_95": limits}
