"""Offsets that labels have in common: all of a component, all of an implant, or all of a calibration.

An offset is the median of label minus registration. Its standard deviation is estimated by a bootstrap over trials,
since frames of a trial share errors; with fewer than five trials over frames. A shift or a rotation is a common
offset where it is longer than 0.2 mm or 0.3 degrees, and beyond its 99 % interval (Student's t) in some degree of
freedom.

The offset is constant in the world or in the implant's frame, whichever leaves the clearly smaller spread: a mesh
with another origin than that of the labels gives the latter.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation, t as student_t

from veriserum_hf.core import COMPONENTS, Component, FloatArray, listed
from veriserum_hf.registration.labels.differences import Differences

ENOUGH = 20  # labels of a component, an implant or a calibration
MIN_MM, MIN_DEG = 0.2, 0.3
_MIN_TRIALS = 3  # of an implant or a calibration: of fewer, single labels are flagged
_TRIALS_TO_RESAMPLE = 5
_RESAMPLINGS = 200
_CLEARLY_SMALLER = 0.8
_CLIPPED = 3.0  # robust standard deviations
_PARTS = (slice(3), slice(3, 6))  # shift and rotation

Statistic = Callable[[NDArray[np.intp]], FloatArray]  # of some indices


class OffsetDocument(TypedDict):
    """An offset in JSON."""

    component: str
    implant: int | None
    calibration_of_trials: list[int] | None
    labels: int
    trials: int
    frame: str
    shift_mm: list[float]
    shift_sd_mm: list[float]
    size_mm: float
    rotation_deg: list[float]
    rotation_sd_deg: list[float]
    size_deg: float
    resampled: str


@dataclass(frozen=True, eq=False)
class Estimate:
    """A vector with its standard deviation over resampled trials.

    Attributes
    ----------
    value, deviation : (d,).
    samples : number of independent samples: of trials, or of frames.
    resampled : which of the two.

    """

    value: FloatArray
    deviation: FloatArray
    samples: int
    resampled: Literal["trials", "frames"]

    def exceeds(self, limit: float, part: slice = slice(None)) -> bool:
        """Whether the vector, or a part of it, is longer than a limit, and beyond its 99 % interval."""
        value, deviation = self.value[part], self.deviation[part]
        widest = student_t.ppf(0.995, self.samples - 1) * deviation
        return bool(np.linalg.norm(value) > limit and np.any(np.abs(value) > widest))


@dataclass(frozen=True, eq=False)
class Offset:
    """Median of label minus registration of many labels.

    Attributes
    ----------
    component : ``"femur"`` or ``"tibia"``.
    labels, trials : how many of them.
    frame : in which the offset is constant, and its values are.
    estimate : (6,): shift in mm, rotation vector in degrees.
    implant : anatomy id, where it is the offset of one implant.
    calibration : trials of a calibration, where it is the offset of one.

    """

    component: Component
    labels: int
    trials: int
    frame: Literal["world", "implant"]
    estimate: Estimate
    implant: int | None = None
    calibration: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """Component, and implant or trials of a calibration."""
        if self.implant is not None:
            return f"{self.component} {self.implant}"
        return self.component if self.calibration is None else f"{self.component}, trials {listed(self.calibration)}"

    @property
    def common(self) -> bool:
        """Whether it is larger than the limits and than its uncertainty."""
        return any(map(self.estimate.exceeds, (MIN_MM, MIN_DEG), _PARTS))

    def document(self) -> OffsetDocument:
        """The offset in JSON."""
        value, deviation = self.estimate.value, self.estimate.deviation
        return {
            "component": self.component,
            "implant": self.implant,
            "calibration_of_trials": None if self.calibration is None else list(self.calibration),
            "labels": self.labels,
            "trials": self.trials,
            "frame": self.frame,
            "shift_mm": value[:3].tolist(),
            "shift_sd_mm": deviation[:3].tolist(),
            "size_mm": float(np.linalg.norm(value[:3])),
            "rotation_deg": value[3:].tolist(),
            "rotation_sd_deg": deviation[3:].tolist(),
            "size_deg": float(np.linalg.norm(value[3:])),
            "resampled": self.estimate.resampled,
        }


def common_offsets(differences: Differences, explained: FloatArray | None = None) -> tuple[list[Offset], FloatArray]:
    """Offsets that labels have in common, and the offset to judge each label by.

    Parameters
    ----------
    differences : labels minus registrations.
    explained : (n, 6), offset of the labels of some sessions that has another cause, NaN elsewhere; see
        `judged_labels`.

    Returns
    -------
    Offsets of components that exceed the limits, and those of implants and calibrations whose difference from their
    component does; and for each label the median of its component, and of its implant and its calibration where
    theirs is another: (n, 6) in the world, NaN for a component with fewer than 20 labels. An explained offset is
    added, or replaces what is NaN.

    """
    baseline = np.full_like(differences.values, np.nan)
    if explained is None:
        explained = np.full_like(baseline, np.nan)
    judged = judged_labels(differences, explained)
    differences = replace(differences, values=differences.values - np.nan_to_num(explained))
    found = []
    for component in COMPONENTS:
        of = np.flatnonzero(judged & differences.assessed & (differences.components == component))
        if len(of) < ENOUGH:
            continue
        whole, baseline[of] = _whole(differences, component, of)
        found += [whole] if whole.common else []
        found += _of_groups(differences, component, of, baseline)
    return found, np.where(np.isnan(baseline), explained, baseline + np.nan_to_num(explained))


def judged_labels(differences: Differences, explained: FloatArray) -> NDArray[np.bool_]:
    """Labels that show common offsets, (n,): those without explained offset, or all if fewer than 20 have none."""
    others: NDArray[np.bool_] = np.isnan(explained[:, 0])
    return others if (others & differences.assessed).sum() >= ENOUGH else np.full_like(others, True)


def change_over_volume(differences: Differences, baseline: FloatArray) -> tuple[float, float] | None:
    """Change of the offset over the volume of the implants' positions, if there is one: mm, and over how many mm."""
    of = np.flatnonzero(np.isfinite(baseline).all(axis=1) & differences.assessed)
    if len(np.unique(differences.trials[of])) < _TRIALS_TO_RESAMPLE:
        return None
    shift = differences.values[of, :3] - baseline[of, :3]
    widest = _CLIPPED * median_abs_deviation(shift, axis=0, scale="normal")
    shift = np.clip(shift, -widest, widest)
    at = differences.T_world_implant[of, :3, 3]
    span_mm: FloatArray = np.ptp(np.quantile(at, (0.1, 0.9), axis=0), axis=0)

    def change_mm(chosen: NDArray[np.intp]) -> FloatArray:
        to = np.column_stack([at[chosen] - at.mean(axis=0), np.ones(len(chosen))])
        slopes: FloatArray = np.linalg.lstsq(to, shift[chosen], rcond=None)[0][:3]
        change: FloatArray = slopes * span_mm[:, None]
        return change.ravel()

    estimate = resampled(change_mm, differences.trials[of])
    steepest = max(
        (slice(3 * axis, 3 * axis + 3) for axis in range(3)), key=lambda s: np.linalg.norm(estimate.value[s])
    )
    if not estimate.exceeds(MIN_MM, steepest):
        return None
    return float(np.linalg.norm(estimate.value[steepest])), float(span_mm[steepest.start // 3])


def resampled(statistic: Statistic, trials: NDArray[np.int64]) -> Estimate:
    """Value of a statistic of all samples, with its standard deviation over resampled trials."""
    rng = np.random.default_rng(0)
    ids, of_trial = np.unique(trials, return_inverse=True)
    by_trial = len(ids) >= _TRIALS_TO_RESAMPLE
    parts = [np.flatnonzero(of_trial == n) for n in range(len(ids))] if by_trial else np.arange(len(trials))[:, None]
    count = len(parts)
    drawn = [
        statistic(np.concatenate([parts[n] for n in rng.integers(count, size=count)])) for _ in range(_RESAMPLINGS)
    ]
    deviation = np.std(drawn, axis=0) * np.sqrt(count / (count - 1))
    return Estimate(statistic(np.arange(len(trials))), deviation, count, "trials" if by_trial else "frames")


def resampled_median(values: FloatArray, trials: NDArray[np.int64]) -> Estimate:
    """Median over (n, d) values, with its standard deviation."""
    return resampled(lambda chosen: np.median(values[chosen], axis=0), trials)


def _whole(differences: Differences, component: Component, of: NDArray[np.intp]) -> tuple[Offset, FloatArray]:
    """Offset of a component, and it in the world for each label, (n, 6)."""
    values, trials = differences.values[of], differences.trials[of]
    R = differences.T_world_implant[of, :3, :3]
    in_implant = np.concatenate([np.einsum("nji,nj->ni", R, values[:, part]) for part in _PARTS], axis=1)
    number = len(np.unique(trials))
    offset = Offset(component, len(of), number, "world", resampled_median(values, trials))
    if _spread_mm(in_implant) < _CLEARLY_SMALLER * _spread_mm(values):
        other = replace(offset, frame="implant", estimate=resampled_median(in_implant, trials))
        if other.common:
            parts = [np.einsum("nij,j->ni", R, other.estimate.value[part]) for part in _PARTS]
            return other, np.concatenate(parts, axis=1)
    return offset, np.tile(offset.estimate.value, (len(of), 1))


def _of_groups(
    differences: Differences, component: Component, of: NDArray[np.intp], baseline: FloatArray
) -> list[Offset]:
    """Offsets of implants and calibrations that differ from that of all; adds their difference to the baseline."""
    found = []
    for groups in (differences.implants, differences.calibrations):
        for group in np.unique(groups[of]):
            members = of[groups[of] == group]
            trials = differences.trials[members]
            number = len(np.unique(trials))
            if len(members) < ENOUGH or number < _MIN_TRIALS or len(members) == len(of):
                continue
            own = resampled_median(differences.values[members] - baseline[members], trials)
            offset = Offset(component, len(members), number, "world", own)
            if not offset.common:
                continue
            baseline[members] += own.value
            whole = replace(offset, estimate=resampled_median(differences.values[members], trials))
            is_implant = groups is differences.implants
            found.append(
                replace(whole, implant=int(group))
                if is_implant
                else replace(whole, calibration=tuple(np.unique(trials).tolist()))
            )
    return found


def _spread_mm(values: FloatArray) -> float:
    return float(np.linalg.norm(median_abs_deviation(values[:, :3], axis=0, scale="normal")))
