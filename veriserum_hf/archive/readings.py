"""In which way labels and images can be read, and which of them makes them agree."""

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from veriserum_hf.archive.evidence import FLIPS
from veriserum_hf.core import PLANES, FloatArray

# The agreement is the mean cosine of an angle: above a half where outlines and images have one direction, to 60
# degrees on average; by chance it is zero. Between the two readings there must be half of that again.
AGREES, MARGIN = 0.5, 0.25
_OF_FRAMES = 0.8  # in which the other reading is the better one
_FEWEST = 2  # frames; one alone may show anything


class Reading(NamedTuple):
    """A way to read labels and images: what differs from the present one.

    Attributes
    ----------
    scalar_first : quaternions are (w, x, y, z).
    swapped : files named after one plane show the other.
    flips : of the images of each plane, as indices into `veriserum_hf.archive.evidence.FLIPS`.
    inverted : metal is bright.

    """

    scalar_first: bool = False
    swapped: bool = False
    flips: tuple[int, int] = (0, 0)
    inverted: bool = False

    @property
    def changes(self) -> int:
        """How many things are read in another way."""
        return self.scalar_first + self.swapped + self.inverted + len({*self.flips} - {0})

    def __str__(self) -> str:
        """The reading as the end of a sentence, "agree if ..."."""
        parts = ["the quaternions are scalar first, (r0, r1, r2, r3) = (w, x, y, z)"] * self.scalar_first
        parts += ["the bs and fs files are swapped"] * self.swapped
        if self.flips[0] == self.flips[1] != 0:
            parts.append(f"the images of both planes are {FLIPS[self.flips[0]]}")
        else:
            for p, flip in enumerate(self.flips):
                file = PLANES[1 - p] if self.swapped else PLANES[p]
                parts += [f"the images in the {file} files are {FLIPS[flip]}"] * (flip != 0)
        parts += ["the grey levels are inverted (metal is bright)"] * self.inverted
        return " and ".join(parts) or "both are read as now"


def described(flip: int, *, inverted: bool, file_of: str | None) -> str:
    """How one image is read, as the end of a sentence, "agree if it is ..."; empty for the present reading.

    Parameters
    ----------
    flip : index into `veriserum_hf.archive.evidence.FLIPS`.
    inverted : whether metal is bright.
    file_of : the plane whose file takes the image's place; None: its own.

    """
    parts = [f"replaced by the {file_of} file"] * (file_of is not None) + [FLIPS[flip]] * (flip != 0)
    return " and ".join(parts + ["inverted"] * inverted)


_YES_NO, _EACH = (False, True), range(len(FLIPS))
READINGS = tuple(
    Reading(scalar_first, swapped, (bs, fs), inverted)
    for inverted, scalar_first, swapped, bs, fs in product(_YES_NO, _YES_NO, _YES_NO, _EACH, _EACH)
)
_FIRST = np.array([int(reading.scalar_first) for reading in READINGS])
_SWAPPED = np.array([int(reading.swapped) for reading in READINGS])
_INVERTED = np.array([int(reading.inverted) for reading in READINGS])
_FLIP = np.array([reading.flips for reading in READINGS])


class Verdict(NamedTuple):
    """Which reading some frames support.

    Attributes
    ----------
    reading : the best one where it is assessed: the present one, or one that contradicts it; None where it is not.
    agreement : of every one of `READINGS`, mean of the planes that could be assessed; NaN where none could.
    frames : how many were compared.

    """

    reading: Reading | None
    agreement: FloatArray
    frames: int

    def of(self, reading: Reading) -> float:
        """Agreement of one reading."""
        return float(self.agreement[READINGS.index(reading)])


def disagree(reading: Reading) -> str:
    """The reading that contradicts the present one, as what the outlines of labels do."""
    return f"do not agree with the images as both are read; they agree if {reading}"


def judge(frames: Sequence[FloatArray], *, scalar_first: bool = True) -> Verdict:
    """Which reading frames support.

    Parameters
    ----------
    frames : `veriserum_hf.archive.evidence.agreement` of each frame.
    scalar_first : whether quaternions may be stored so; they may not where rotations are Euler angles.

    """
    if not frames:
        return Verdict(None, np.full(len(READINGS), np.nan), 0)
    each = np.stack([np.stack(frames)[:, p, _FIRST, _SWAPPED, _FLIP[:, p]] for p in range(len(PLANES))], axis=-1)
    each *= (1 - 2 * _INVERTED)[:, None]  # (frames, readings, planes)
    each[:, (_FIRST == 1) & (not scalar_first)] = np.nan
    shown = np.nan_to_num(each)  # what was not computed, or is not seen, agrees with nothing
    mean = shown.mean(axis=0)
    assessed = mean.max(axis=0) >= AGREES
    planes = assessed if assessed.any() else ~assessed
    agreement = _mean(each[:, :, planes].mean(axis=2))
    fits = np.flatnonzero((mean[:, planes] >= AGREES).all(axis=1))
    if not len(fits):
        return Verdict(None, agreement, len(frames))
    # Readings that differ in a plane that shows nothing are equal: then the one with the fewest changes.
    best = min(fits, key=lambda n: (-mean[n, planes].mean(), READINGS[n].changes))
    if best and (mean[best] - mean[0])[planes].max() >= MARGIN:
        better = int((shown[:, best, planes].mean(axis=1) > shown[:, 0, planes].mean(axis=1)).sum())
        sure = len(frames) >= _FEWEST and better >= _OF_FRAMES * len(frames)
        return Verdict(READINGS[best] if sure else None, agreement, len(frames))
    per_frame = shown[:, :, planes].mean(axis=2)
    contradicting = (per_frame.max(axis=1) >= AGREES) & (per_frame.max(axis=1) - per_frame[:, 0] >= MARGIN)
    agrees = 0 in fits and contradicting.mean() <= 1 - _OF_FRAMES
    return Verdict(Reading() if agrees else None, agreement, len(frames))


def contradicting(frames: Sequence[FloatArray], *, scalar_first: bool = True) -> Reading | None:
    """The reading that frames of one trial support against the present one: all of them, or at least two."""
    whole = judge(frames, scalar_first=scalar_first).reading
    if whole is not None and whole.changes:
        return whole
    single = Counter(found for frame in frames if (found := contradicting_alone(frame, scalar_first=scalar_first)))
    reading, count = single.most_common(1)[0] if single else (None, 0)
    return reading if count >= _FEWEST else None


def contradicting_alone(frame: FloatArray, *, scalar_first: bool = True) -> Reading | None:
    """The reading that one frame supports against the present one; by itself it is no evidence."""
    reading = judge([frame] * _FEWEST, scalar_first=scalar_first).reading
    return reading if reading is not None and reading.changes else None


def _mean(values: FloatArray) -> FloatArray:
    """Mean over the rows, without those that are NaN."""
    known = np.isfinite(values)
    mean: FloatArray = np.nansum(values, axis=0) / np.maximum(known.sum(axis=0), 1)
    return mean
