"""Whether stated probabilities are true: reliability, expected calibration error, and what marks catch.

A confidence is true if, of all poses with a confidence of about p, a share of p is within the limits. The expected
calibration error is the mean distance of both over bins of equal numbers, weighted by these (Naeini et al., AAAI
2015; with bins of equal numbers, as in Nguyen and O'Connor, EMNLP 2015, no bin is nearly empty).
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veriserum_hf.core import FloatArray

BINS = 10
FAR_MM, FAR_DEG = 5.0, 5.0  # a pose that is off by more should be marked


class Bin(TypedDict):
    """Poses with about the same confidence: the mean of it, the share that was right, and how many there are."""

    confidence: float
    share: float
    count: int


class Marks(TypedDict):
    """Poses that a model says not to trust, against those that are far off.

    Attributes
    ----------
    far : share of poses that are off by more than `FAR_MM` or `FAR_DEG`.
    marked : share of poses that are marked.
    caught : of those that are far off, the share that is marked; None where there is none.
    lost : of the others, the share that is marked all the same; None where there is none.
    count : of all poses.

    """

    far: float
    marked: float
    caught: float | None
    lost: float | None
    count: int


class StatedConfidence(TypedDict):
    """What the stated confidence of poses is worth.

    Attributes
    ----------
    calibration_error : expected calibration error, 0 to 1.
    reliability : in bins.
    marks : where the model marks poses, else None.

    """

    calibration_error: float
    reliability: list[Bin]
    marks: Marks | None


def stated_confidence(columns: Mapping[str, NDArray[Any]], limits: tuple[float, float]) -> StatedConfidence | None:
    """What the confidence of a table of errors is worth; None where none is stated.

    Parameters
    ----------
    columns : of `veriserum_hf.evaluation.pose_errors`.
    limits : translation, mm, and rotation, degrees, that a confidence is the probability of.

    """
    right = (columns["translation_mm"] <= limits[0]) & (columns["rotation_deg"] <= limits[1])
    error = calibration_error(columns["confidence"], right)
    if error is None:
        return None
    trusted = columns.get("trusted", np.array([np.nan]))
    marked = None
    if np.isfinite(trusted).all():
        marked = marks(trusted, columns["translation_mm"], columns["rotation_deg"])
    return {
        "calibration_error": error,
        "reliability": reliability(columns["confidence"], right),
        "marks": marked,
    }


def reliability(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Reliability of stated probabilities (n,), of which some are NaN and do not count, in bins of equal numbers.

    Parameters
    ----------
    confidence : (n,) probabilities.
    right : (n,) whether what they are probabilities of is so.
    bins : how many, at most.

    """
    stated, found = _stated(confidence, right)
    order = np.argsort(stated)
    stated, found = stated[order], found[order]
    ends = np.linspace(0, len(stated), min(bins, len(stated)) + 1).round().astype(int)[1:]
    # Equal probabilities stay together: which of them were right must not decide on their bin.
    ends = np.unique(np.searchsorted(stated, stated[ends - 1], side="right"))
    return [
        {
            "confidence": float(stated[start:end].mean()),
            "share": float(found[start:end].mean()),
            "count": int(end - start),
        }
        for start, end in pairwise([0, *ends.tolist()])
    ]


def calibration_error(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> float | None:
    """Expected calibration error, 0 to 1, of the same; None where no probability is stated."""
    found = reliability(confidence, right, bins)
    if not found:
        return None
    counts = np.array([each["count"] for each in found])
    off = np.array([abs(each["confidence"] - each["share"]) for each in found])
    return float((off * counts).sum() / counts.sum())


def marks(trusted: ArrayLike, translation_mm: ArrayLike, rotation_deg: ArrayLike) -> Marks:
    """What marks catch: (n,) whether a pose is to be trusted, and its errors.

    Raises
    ------
    ValueError
        If there is no pose.

    """
    marked = ~np.asarray(trusted, dtype=bool)
    if not len(marked):
        raise ValueError("no pose is marked or not: expected at least one")
    far = (np.asarray(translation_mm) > FAR_MM) | (np.asarray(rotation_deg) > FAR_DEG)
    return {
        "far": float(far.mean()),
        "marked": float(marked.mean()),
        "caught": float(marked[far].mean()) if far.any() else None,
        "lost": float(marked[~far].mean()) if not far.all() else None,
        "count": len(marked),
    }


def _stated(confidence: ArrayLike, right: ArrayLike) -> tuple[FloatArray, NDArray[np.bool_]]:
    values, found = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    there = np.isfinite(values)
    return values[there], found[there]
