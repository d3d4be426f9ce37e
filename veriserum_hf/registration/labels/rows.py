"""The rows of ``veriserum check-labels``: each label compared with what is usual in its data set.

The usual differences are estimated from the data set itself, for each component and degree of freedom. They are the
median over all frames, or that of the label's implant or calibration where it is another (see
`veriserum_hf.registration.labels.offsets`), and the spread (robust scale: 1.4826 times the median absolute deviation,
MAD) from the noise of labels and registrations together; a few wrong labels hardly affect either. Where a
registration states a larger variance than is typical, the excess is added. With fewer than 20 labels of a component,
most may be wrong: median and spread are still reported, but each label is compared with zero, in units of the error
of a good registration and of the variance that its own registration states. ``disagreement_sd`` is the norm of the
three shifts, or of the three rotations if that is larger, each less its median, in units of its standard deviation.

A label is flagged where its shift is beyond 5 such standard deviations and longer than 0.75 mm, or its rotation
beyond 5 and larger than 1.5 degrees, each less its median. The robust scale does not describe the tails of the
registration errors: with these limits a shift of 1 mm is found, and registrations with several times the usual error
flag few correct labels. Where the planes disagree (`veriserum_hf.registration.labels.planes_apart`), a registration
may be at the pose of either: the limit is wider by their disagreement.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation

from veriserum_hf.core import COMPONENTS, PLANES, FloatArray
from veriserum_hf.registration.labels.differences import DIFFERENCES, Differences
from veriserum_hf.registration.labels.offsets import ENOUGH
from veriserum_hf.registration.labels.planes_apart import PlanesApart

_DEPTHS = tuple(f"{plane}_depth_mm" for plane in PLANES)
LIMIT_SD, LIMIT_MM, LIMIT_DEG = 5.0, 0.75, 1.5
# Error of a good registration: lower bound of a spread.
_NARROWEST = np.repeat((0.05, 0.1), 3)
_HALF_SIZE_MM = 30.0  # of a knee implant: where one end follows each plane, their shift rotates it
SCHEMA = pa.schema(
    {
        "measurement_id": pa.int64(),
        "trial_id": pa.int64(),
        "frame_index": pa.int64(),
        "split": pa.string(),
        "row": pa.int64(),
        "anatomy_id": pa.int64(),
        "component": pa.string(),
        **dict.fromkeys((*DIFFERENCES, *_DEPTHS, "disagreement_sd"), pa.float64()),
        "flagged": pa.bool_(),
        "verdict": pa.string(),
        "score": pa.float64(),
        "detail": pa.string(),
    },
    metadata={
        "difference": "label minus registration: of the implant's origin, mm along the world's axes and along the "
        "ray from each plane's X-ray source (positive: label too far from it); rotation vector about the world's "
        "axes, degrees",
        "disagreement_sd": "in standard deviations of the usual difference in this data set, the larger of shift and "
        "rotation",
        "flagged": f"beyond {LIMIT_SD:g} standard deviations, and {LIMIT_MM:g} mm or {LIMIT_DEG:g} degrees from the "
        "usual difference; null: not assessed, since the registration has not converged (verdict, detail), except "
        "where the planes of its session contradict each other by the same amount",
        "row": "of the split, from 0, as `veriserum show` counts",
    },
)
Spread = dict[str, dict[str, dict[str, float]]]


def label_rows(differences: Differences, baseline: FloatArray, planes: PlanesApart | None = None) -> pa.Table:
    """Compare each label with what is usual.

    Parameters
    ----------
    differences : labels minus registrations.
    baseline : (n, 6), usual differences; NaN where too few labels are known.
    planes : disagreement of the planes, if there is one.

    Returns
    -------
    A row by `SCHEMA` for each implant and frame with a label and a registration.

    """
    assessed = differences.assessed
    relative = differences.values - np.nan_to_num(baseline)
    sd = _deviations(differences, relative, np.isfinite(baseline[:, 0]), planes)
    z = _norms(relative / sd)
    flagged = np.any((z > LIMIT_SD) & (_norms(relative) > (LIMIT_MM, LIMIT_DEG)), axis=1)
    values = np.column_stack([differences.values, differences.depths_mm(), z.max(axis=1)])
    known = [[None if np.isnan(value) else value for value in of_row] for of_row in values.tolist()]
    names = (*DIFFERENCES, *_DEPTHS, "disagreement_sd")
    rows = [
        {name: row[name] for name in ("measurement_id", "trial_id", "frame_index", "split", "row")}
        | {name: pose[name] for name in ("anatomy_id", "component", "verdict", "score", "detail")}
        | ({**dict(zip(names, known[n], strict=True)), "flagged": bool(flagged[n])} if assessed[n] else {})
        for n, (row, pose) in enumerate(differences.pairs)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def spread_of(differences: Differences) -> Spread:
    """By component and degree of freedom, ``median`` and ``spread`` of the differences."""
    spread = Spread()
    for component in COMPONENTS:
        of = differences.assessed & (differences.components == component)
        if of.any():
            values = differences.values[of]
            median, sd = np.median(values, axis=0), median_abs_deviation(values, axis=0, scale="normal")
            spread[component] = {
                name: {"median": float(median[n]), "spread": float(sd[n])} for n, name in enumerate(DIFFERENCES)
            }
    return spread


def _deviations(
    differences: Differences, relative: FloatArray, usual: NDArray[np.bool_], planes: PlanesApart | None
) -> FloatArray:
    """Standard deviation of a right label's difference from the baseline, (n, 6)."""
    variance = _NARROWEST**2 + differences.variances
    for component in COMPONENTS:
        of = usual & differences.assessed & (differences.components == component)
        if len(relative[of]) >= ENOUGH:
            sd = median_abs_deviation(relative[of], axis=0, scale="normal")
            stated = differences.variances[of]
            more = np.maximum(stated - np.median(stated, axis=0), 0)
            variance[of] = np.maximum(sd, _NARROWEST) ** 2 + more
    if planes is not None:
        lever_deg = np.degrees(planes.shift.value / _HALF_SIZE_MM).repeat(3)
        apart = np.concatenate([planes.shift.value * planes.direction, np.hypot(planes.rotation.value, lever_deg)])
        variance += (apart / LIMIT_SD) ** 2
    deviations: FloatArray = np.sqrt(variance)
    return deviations


def _norms(values: FloatArray) -> FloatArray:
    """Norms of shift and rotation, (n, 2)."""
    return np.stack([np.linalg.norm(values[:, part], axis=1) for part in (slice(3), slice(3, 6))], axis=1)
