"""Details of a refined rig: what the images alone determine, frames used, residuals by cross-validation."""

from collections.abc import Sequence

import numpy as np

from veriserum_hf.calibration import MOST_TOLERANCES, RigDetails
from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.registration.cameras.adjustment import Adjusted
from veriserum_hf.registration.cameras.left_out import LeftOut
from veriserum_hf.registration.cameras.unknowns import Unknowns

_DETERMINED = 0.5  # of its tolerance, above which a deviation is no result of the images


def is_determined(unknowns: Unknowns, adjusted: Adjusted) -> BoolArray:
    """Which of the free unknowns the frames determine clearly better than their tolerances do."""
    free = unknowns.is_free
    found: BoolArray = np.sqrt(np.diag(adjusted.covariance))[free] <= _DETERMINED * unknowns.tolerance[free]
    return found


def details_of(
    name: str,
    reason: str,
    excluded: Sequence[int],
    unknowns: Unknowns,
    adjusted: Adjusted,
    without: LeftOut,
) -> RigDetails:
    """Details of a rig from its adjustment and cross-validation; parameters as `RigDetails` has them."""
    free = unknowns.is_free
    names, tolerance = np.array(unknowns.names)[free], unknowns.tolerance[free]
    covariance = adjusted.covariance[np.ix_(free, free)]
    sd = np.sqrt(np.diag(covariance))
    before, after = without.before_px, without.after_px
    return {
        "name": name,
        "reason": reason,
        "frames": [each.measurement_id for each in adjusted.observed],
        "trials_of_frames": [each.trial_id for each in adjusted.observed],
        "excluded_frames": list(excluded),
        "left_out_misfit_px": {"before": _median(before), "after": _median(after)},
        "left_out_misfits_px": {"before": _rounded(before), "after": _rounded(after)},
        "left_out_better": int(np.sum(after < before)),
        "residual_fields": without.fields,
        "tolerances": tolerance.tolist(),
        "image_standard_deviations": _of_images(adjusted.information[np.ix_(free, free)], tolerance).tolist(),
        "standard_deviations": sd.tolist(),
        "correlation": (covariance / np.outer(sd, sd)).tolist(),
        "not_determined": names[~is_determined(unknowns, adjusted)].tolist(),
        "sid_mm": {plane: unknowns.rig.sid_mm(plane) for plane in unknowns.planes},
        "implants": len(unknowns.anatomy_ids),
        "converged": adjusted.converged,
    }


def nothing_refined(name: str, reason: str) -> RigDetails:
    """Details of a rig whose frames are too few."""
    return {
        "name": name,
        "reason": reason,
        "frames": [],
        "trials_of_frames": [],
        "excluded_frames": [],
        "left_out_misfit_px": {"before": None, "after": None},
        "left_out_misfits_px": {"before": [], "after": []},
        "left_out_better": 0,
        "residual_fields": {},
        "tolerances": [],
        "image_standard_deviations": [],
        "standard_deviations": [],
        "correlation": [],
        "not_determined": [],
        "sid_mm": {},
        "implants": 0,
        "converged": False,
    }


def _of_images(information: FloatArray, tolerance: FloatArray) -> FloatArray:
    """Standard deviations (n,) from the information (n, n) of images, of all directions at most some tolerances."""
    eigenvalues, directions = np.linalg.eigh(information * np.outer(tolerance, tolerance))
    variances = directions**2 @ (1 / np.maximum(eigenvalues, MOST_TOLERANCES**-2))
    found: FloatArray = tolerance * np.sqrt(variances)
    return found


def _median(values: FloatArray) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def _rounded(values: FloatArray) -> list[float | None]:
    return [round(value, 5) if np.isfinite(value) else None for value in values.tolist()]
