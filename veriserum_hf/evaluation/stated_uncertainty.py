"""Stated uncertainty of poses compared with their errors: coverage of intervals, and errors by verdict.

A covariance is 6 x 6, of the position of the implant's origin along the world's x, y, z (mm) and of the rotation
vector about the same axes (deg) from the label to the estimate.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike
from scipy.stats import norm

from veriserum_hf.core import FloatArray
from veriserum_hf.evaluation.summary import Group, overall
from veriserum_hf.poses import DEGREES_OF_FREEDOM, DEVIATIONS_95

_SHARE_OF_ONE_DEVIATION = 100 * float(norm.cdf(1) - norm.cdf(-1))  # percent


class Coverage(TypedDict):
    """Stated standard deviations and errors of one degree of freedom; see `coverage`."""

    name: str
    count: int
    within_95: float
    stated_sd: float
    error_68: float


def coverage(differences: FloatArray, covariances: Sequence[ArrayLike | None]) -> list[Coverage]:
    """Compare stated standard deviations with the errors.

    Parameters
    ----------
    differences : (n, 6) of `pose_differences`.
    covariances : n covariances, 6 x 6, or None. One with a variance of zero states no interval, such as that of an
        exact pose.

    Returns
    -------
    One row for each of ``DEGREES_OF_FREEDOM``, empty without stated covariances: ``name``; ``count``; ``within_95``,
    the share of absolute errors below 1.96 standard deviations; ``stated_sd``, the median of the standard deviations;
    ``error_68``, the 68.3 % quantile of the absolute errors. With correct covariances and exact labels the last two
    are equal and ``within_95`` is 0.95.

    """
    variances = {
        number: np.asarray(each, dtype=np.float64).diagonal()
        for number, each in enumerate(covariances)
        if each is not None
    }
    stated = [number for number, each in variances.items() if each.min() > 0]
    if not stated:
        return []
    deviations = np.sqrt([variances[number] for number in stated])
    off = np.abs(differences[stated])
    within = (off <= DEVIATIONS_95 * deviations).mean(axis=0)
    error_68 = np.percentile(off, _SHARE_OF_ONE_DEVIATION, axis=0)
    return [
        {
            "name": name,
            "count": len(stated),
            "within_95": float(within[n]),
            "stated_sd": float(np.median(deviations[:, n])),
            "error_68": float(error_68[n]),
        }
        for n, name in enumerate(DEGREES_OF_FREEDOM)
    ]


def by_verdict(errors: pa.Table, verdicts: Sequence[str | None]) -> dict[str, Group]:
    """Summary of the errors of each verdict, the most frequent first; see `veriserum_hf.evaluation.summarise`.

    Parameters
    ----------
    errors : n rows of `veriserum_hf.evaluation.metrics.pose_errors`.
    verdicts : n verdicts; rows with None are excluded.

    """
    of_row = np.array(["" if verdict is None else verdict for verdict in verdicts], dtype=str)
    names, counts = np.unique(of_row[of_row != ""], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(name): overall(errors.filter(pa.array(of_row == name))) for name in names[order]}
