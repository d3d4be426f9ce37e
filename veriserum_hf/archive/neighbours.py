"""Whether a frame looks like the frames around it in its trial, or would if it were read in another way.

A file that was inverted, flipped, rotated or swapped with that of the other plane is sound by itself. Within a trial,
though, frames change little by little. Two images are as unlike as their correlation is below 1, that is half the
squared distance of the two after their mean and contrast are removed: what does not change, such as the round rim of
the field, adds nothing to it, and neither does exposure. A frame is only named where it is more unlike all of its
neighbours than those are unlike each other, and clearly more than in another reading: a fast motion, a table that
moves or a first frame of another exposure is not closer to its neighbours when it is flipped.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from veriserum_hf.archive.layout import Layout
from veriserum_hf.archive.problems import Findings
from veriserum_hf.archive.readings import described
from veriserum_hf.core import PLANES, FloatArray, Grey, PlaneName

_EDGE_PX = 32
_SAMPLED_PX = 400  # rows of the pixels that a thumbnail is made of
_EACH_SIDE = 2  # neighbours before and after
# Unlikeness against that in the other reading and that of the neighbours. Simulated frames of fast activities reach
# 0.3 times the former; flipped, inverted and swapped ones have 3.4 and 1.8 times at least.
_OF_OTHER, _OF_NEIGHBOURS = 2.0, 1.5
_LEAST = 0.03  # unlikeness: below, differences may be noise, dust or another encoder's
_TINY = float(np.finfo(np.float32).tiny)
Thumbnail = NDArray[np.float32]


class Unlike(NamedTuple):
    """A frame that agrees with its neighbours in another reading.

    Attributes
    ----------
    frame, plane : place in the trial, and plane of the file.
    flip : of `veriserum_hf.archive.evidence.FLIPS`, in which it agrees.
    inverted, swapped : whether it agrees with inverted grey levels, and with frames of the other plane.
    as_is, other : highest correlation with a neighbour as it is, and in that reading.
    neighbours : correlation of the neighbours with each other.

    """

    frame: int
    plane: PlaneName
    flip: int
    inverted: bool
    swapped: bool
    as_is: float
    other: float
    neighbours: float


def thumbnail(frame: Grey) -> Thumbnail:
    """A frame in 32 x 32 pixels, of mean 0 and length 1, or 0 where all of them are equal."""
    step = max(1, min(frame.shape) // _SAMPLED_PX)
    small = cv2.resize(np.ascontiguousarray(frame[::step, ::step]), (_EDGE_PX,) * 2, interpolation=cv2.INTER_AREA)
    levels = small.astype(np.float32)
    levels -= levels.mean()
    unit: Thumbnail = levels / max(float(np.linalg.norm(levels)), _TINY)
    return unit


def unlike_neighbours(trial: Sequence[Mapping[PlaneName, Thumbnail]]) -> Iterator[Unlike]:
    """Frames of a trial that agree with their neighbours in another reading only.

    Parameters
    ----------
    trial : thumbnails of each frame by plane, in order; those of frames that cannot be used are missing. Fewer than
        three of a plane cannot be assessed.

    """
    for plane, other_plane in zip(PLANES, reversed(PLANES), strict=True):
        places = [n for n, frame in enumerate(trial) if plane in frame]
        for at, n in enumerate(places):
            around = places[max(0, at - _EACH_SIDE) : at] + places[at + 1 : at + 1 + _EACH_SIDE]
            if len(around) < 2:
                continue
            own = _stacked([trial[k][plane] for k in around])
            across = _stacked([trial[k][other_plane] for k in around if other_plane in trial[k]])
            shown = trial[n][plane]
            readings = _stacked([shown, shown[::-1], shown[:, ::-1], shown[::-1, ::-1]])  # by FLIPS
            among = float(np.median(np.sum(own[:-1] * own[1:], axis=1)))
            as_is = float((own @ readings[0]).max())
            flip, inverted, swapped, other = _best(readings, own, across)
            if 1 - as_is >= max(_LEAST, _OF_NEIGHBOURS * (1 - among), _OF_OTHER * (1 - other)):
                yield Unlike(n, plane, flip, inverted, swapped, as_is, other, among)


def _stacked(thumbnails: Sequence[Thumbnail]) -> FloatArray:
    return np.array([each.ravel() for each in thumbnails], dtype=np.float64).reshape(-1, _EDGE_PX**2)


def _best(readings: FloatArray, own: FloatArray, across: FloatArray) -> tuple[int, bool, bool, float]:
    """Flip, inverted, swapped and highest correlation of the reading, but the present one, that agrees best."""
    found = [
        (flip, inverted, swapped, float((sign * correlation).max()))
        for swapped, neighbours in ((False, own), (True, across))
        for flip, correlation in enumerate(readings @ neighbours.T)
        for inverted, sign in ((False, 1), (True, -1))
        if len(neighbours) and (flip or inverted or swapped)
    ]
    return max(found, key=lambda each: each[-1])


class TrialNeighbours:
    """Compares the frames of every trial once all of them were added, and keeps no thumbnail longer.

    Parameters
    ----------
    frames : of the archive, by ``FRAME_SCHEMA``.
    layout : for messages.
    findings : takes the problems.

    """

    def __init__(self, frames: pa.Table, layout: Layout, findings: Findings) -> None:
        self._layout, self._findings = layout, findings
        self._rows: defaultdict[int, list[dict[PlaneName, str]]] = defaultdict(list)
        paths = zip(*(frames[f"path_{plane}"].to_pylist() for plane in PLANES), strict=True)
        for trial, of_planes in zip(frames["trial_id"].to_pylist(), paths, strict=True):
            row = {plane: path for plane, path in zip(PLANES, of_planes, strict=True) if path}
            self._rows[trial].append(row)
        self._trial_of = {path: trial for trial, rows in self._rows.items() for row in rows for path in row.values()}
        self._missing = Counter(self._trial_of.values())
        self._seen: defaultdict[int, dict[str, Thumbnail]] = defaultdict(dict)

    def add(self, path: str, seen: Thumbnail | None) -> None:
        """Add a frame's thumbnail; None where the frame cannot be used."""
        trial = self._trial_of[path]
        if seen is not None:
            self._seen[trial][path] = seen
        self._missing[trial] -= 1
        if not self._missing[trial]:
            self._report(trial, self._rows[trial], self._seen.pop(trial, {}))

    def _report(self, trial: int, rows: Sequence[Mapping[PlaneName, str]], seen: Mapping[str, Thumbnail]) -> None:
        frames = [{plane: seen[path] for plane, path in row.items() if path in seen} for row in rows]
        for found in unlike_neighbours(frames):
            file_of = PLANES[1 - PLANES.index(found.plane)] if found.swapped else None
            reading = described(found.flip, inverted=found.inverted, file_of=file_of)
            self._findings.problem(
                "unlike its neighbours",
                self._layout.relative(rows[found.frame][found.plane]),
                f"its correlation with the frames around it in trial {trial} is at most {found.as_is:.3f}, but "
                f"{found.other:.3f} if it is {reading}; expected about {found.neighbours:.3f}, which they have with "
                "each other",
                "Compare it with them and restore it from the download, or mark the poses of this frame obsolete; it "
                "is kept.",
            )
