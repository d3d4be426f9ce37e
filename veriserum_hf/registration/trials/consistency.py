"""Consistency of the poses of an implant over a trial: a check, no smoothing; no pose changes.

A pose that is wrong in one frame, or in a few in a row, departs from the motion that the frames around it show. What
that motion allows is taken from the trial itself, since it depends on the activity and on the frame rate: divided
differences of the second, third and fourth order (the error of predicting a frame from two, three or four
neighbouring ones, at whatever times they were taken) are compared with those elsewhere in the trial, and with the
deviations of the poses. In a trial too short for that only what no leg does counts: a rotation by more than
`MAX_ROTATION_DEG` between two frames, such as that of a mirrored tray.

Which frame is wrong: the shortest run of frames, `LONGEST_RUN` at most, without which the others are consistent.
Where there is no such run, as after a lasting jump, both frames next to the jump are named.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from veriserum_hf.core import FloatArray, IndexArray

ORDERS = (2, 3, 4)  # of the differences; the neighbours that predict a frame
MIN_MM, MIN_DEG = 1.0, 1.0  # smaller jumps are not reported
MAX_ROTATION_DEG = 120.0  # between frames of one trial
LONGEST_RUN = 5
_DEVIATIONS = 5.0
# Motion allows this quantile of the trial's other differences so many times, and more where they are few: the largest
# of simulated activities at 5 to 30 frames a second.
_QUANTILE, _TIMES, _TIMES_FEW = 0.9, 2.5, 100.0
_NOISE = 6.25  # the same quantile of the square of three normal deviates
_LEAST = 0.4  # square of the least motion, in deviations
_FEWEST = 8  # differences elsewhere that a quantile is taken of
_SMALLEST_MM_DEG = 0.02  # deviation of a pose that states a smaller one
_EXPLAINED = 0.5  # of what is unexplained, that naming a run must remove


@dataclass(frozen=True)
class Jump:
    """A frame whose pose departs from those around it.

    Attributes
    ----------
    mm, deg : distance of the centre of the implant, and angle, from the pose that the neighbours predict.
    neighbours : indices of the frames that predict it.

    """

    mm: float
    deg: float
    neighbours: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Track:
    """Poses of one implant in consecutive frames.

    Attributes
    ----------
    time : (n,) increasing; in any unit, such as frame indices.
    center_mm : (n, 3) of the implant in the world.
    rotation : (n, 3, 3) implant to world.
    covariance : (n, 6, 6) of center_mm, and of the rotation vector about the world's axes in degrees.

    """

    time: FloatArray
    center_mm: FloatArray
    rotation: FloatArray
    covariance: FloatArray


def jumps(track: Track) -> dict[int, Jump]:
    """Frames that are inconsistent with their neighbours, by index; none where nothing can be determined."""
    named: list[int] = []
    found: dict[int, Jump] = {}
    segments = [np.arange(len(track.time))]
    while segments:
        kept = segments.pop()
        windows = _windows(track, kept)
        ratios = windows.ratios(windows)
        if not len(ratios) or ratios.max() <= 1:
            continue
        worst = windows.places[ratios.argmax()]
        if wrong := _shortest_explanation(track, kept, worst):
            named += kept[wrong].tolist()
            segments.append(np.delete(kept, wrong))
        else:  # a lasting jump
            at = _largest_step(track, kept[worst[0] : worst[1]]) + int(worst[0])
            before, after = int(kept[at]), int(kept[at + 1])
            found |= {a: _jump(track, a, [b]) for a, b in ((before, after), (after, before))}
            segments += [kept[: at + 1], kept[at + 1 :]]
    good = [index for index in range(len(track.time)) if index not in named]
    for index in named:
        jump = _jump(track, index, _predicting(index, good or [other for other in named if other != index]))
        if jump.mm >= MIN_MM or jump.deg >= MIN_DEG:
            found[index] = jump
    return dict(sorted(found.items()))


@dataclass(frozen=True, eq=False)
class _Windows:
    """Divided differences of consecutive frames, of all orders.

    Attributes
    ----------
    order : (w,).
    places : (w, 2) the first frame and the one after the last, as places among the frames.
    differences : (w, 2, 3) of the position in mm, and of the rotation vector in degrees, by time to the order.
    variances : (w, 2, 3, 3) of them by the deviations of the poses.
    weights : (w,) the largest weight of a frame: a difference is a jump of that frame times it.
    angle_deg : (w,) between the two frames of order 1, 0 of other orders.

    """

    order: IndexArray
    places: IndexArray
    differences: FloatArray
    variances: FloatArray
    weights: FloatArray
    angle_deg: FloatArray

    def ratios(self, others: "_Windows", around: IndexArray | None = None) -> FloatArray:
        """Differences as parts of the largest that motion and deviations explain, (w,); above 1 they do not.

        Parameters
        ----------
        others : of the whole trial, which show its motion; those that share a frame with a window do not count.
        around : range of places that these must not share, instead of the window's own.

        """
        found = self.angle_deg / MAX_ROTATION_DEG
        sizes = np.linalg.norm(self.differences, axis=2) / self.weights[:, None] / (MIN_MM, MIN_DEG)
        for order in ORDERS:
            of, against = self.order == order, others.order == order
            ranges = self.places[of] if around is None else np.broadcast_to(around, (of.sum(), 2))
            start, stop = others.places[against].T
            apart = (start >= ranges[:, 1:]) | (stop <= ranges[:, :1])
            counts = apart.sum(axis=1)
            if not (known := counts >= _FEWEST).any():
                continue
            metric = np.linalg.inv(self.variances[of])  # of a window's own deviations, in which all are compared
            own, other = self.differences[of], others.differences[against]
            squares = np.einsum("wki,wkij,wkj->wk", own, metric, own)
            usual = np.einsum("vki,wkij,vkj->wvk", other, metric, other)
            noise = np.einsum("wkij,vkji->wvk", metric, others.variances[against]) / 3
            usual = np.maximum(usual - _NOISE * noise, _LEAST)
            usual = np.sort(np.where(apart[..., None], usual, np.inf), axis=1)
            rank = np.ceil(_QUANTILE * (counts - 1)).astype(int).clip(0)
            motion = (_TIMES + _TIMES_FEW / counts.clip(1))[:, None] ** 2 * usual[np.arange(len(rank)), rank]
            unexplained = np.sqrt(squares / (_DEVIATIONS**2 + motion))
            found[of] = np.where(known, np.minimum(unexplained, sizes[of]).max(axis=1), 0)
        return found


def _windows(track: Track, kept: IndexArray, near: slice = slice(None)) -> _Windows:
    """Windows of these frames, of places in a range if given."""
    first = range(len(kept))[near].start
    parts = []
    for order in (1, *ORDERS):
        if len(kept[near]) <= order:
            continue
        frames = np.lib.stride_tricks.sliding_window_view(kept[near], order + 1)
        time = track.time[frames]
        gaps = time[:, :, None] - time[:, None] + np.eye(order + 1)
        weights = 1 / gaps.prod(axis=2)
        central = track.rotation[frames[:, (order + 1) // 2]]
        vectors = _vectors_deg(track.rotation[frames], central[:, None])
        both = np.stack([track.center_mm[frames], vectors], axis=2)
        covariances = track.covariance[frames]
        blocks = np.stack([covariances[..., :3, :3], covariances[..., 3:, 3:]], axis=2)
        blocks += _SMALLEST_MM_DEG**2 * np.eye(3)
        places = first + np.arange(len(frames))
        parts.append(
            (
                np.full(len(frames), order),
                np.stack([places, places + order + 1], axis=1),
                np.einsum("wn,wnki->wki", weights, both),
                np.einsum("wn,wnkij->wkij", weights**2, blocks),
                np.abs(weights).max(axis=1),
                np.linalg.norm(vectors, axis=2).max(axis=1) * (order == 1),
            )
        )
    if not parts:
        nothing = np.empty(0, dtype=np.intp)
        return _Windows(nothing, nothing.reshape(0, 2), *(np.empty((0, *of)) for of in ((2, 3), (2, 3, 3), (), ())))
    orders, places, *values = (np.concatenate(each) for each in zip(*parts, strict=True))
    return _Windows(orders.astype(np.intp), places.astype(np.intp), *values)


def _shortest_explanation(track: Track, kept: IndexArray, worst: IndexArray) -> list[int]:
    """Places of the shortest run without which the frames about a window are consistent.

    If there is none, of the run that removes most of what is unexplained; empty where none removes half of it, or a
    lasting jump explains it all. Runs that cannot be distinguished, as of two frames alone, are all returned.
    """
    margin = max(ORDERS) + LONGEST_RUN
    whole = _windows(track, kept)
    around = np.array([worst[0] - 1, worst[1] + 1])
    near = slice(max(worst[0] - margin, 0), worst[1] + margin)

    def misfit(run: Sequence[int]) -> tuple[float, float]:
        left = _windows(track, np.delete(kept, run), slice(near.start, near.stop - len(run)))
        ratios = left.ratios(whole, around)
        return float(np.log(np.maximum(ratios, 1)).sum()), float((ratios**2).sum())

    most = misfit(())[0] * (1 - _EXPLAINED)
    best: list[tuple[tuple[float, float], range]] = []
    crossing = _windows(track, kept, near)
    violated = crossing.places[crossing.ratios(whole, around) > 1]
    for length in range(1, min(LONGEST_RUN, len(kept) - 1) + 1):
        if length > 2 and len(violated) and violated[:, 0].max() + 1 < violated[:, 1].min():
            return []  # one jump, from one frame to the next, is the simpler explanation
        firsts = range(max(worst[0] - length + 1, 0), min(worst[1], len(kept) - length + 1))
        runs = [(misfit(run), run) for run in (range(first, first + length) for first in firsts)]
        best += [(cost, run) for cost, run in runs if cost[0] <= most]
        if any(cost[0] == 0 for cost, _ in runs):
            break
    least = min((cost for cost, _ in best), default=None)
    return sorted({place for cost, run in best if cost == least for place in run})


def _largest_step(track: Track, frames: IndexArray) -> int:
    """Place of the frame before the largest difference of consecutive frames, mm and degrees counting the same."""
    steps = np.linalg.norm(np.diff(track.center_mm[frames], axis=0), axis=1)
    steps += np.linalg.norm(_vectors_deg(track.rotation[frames[1:]], track.rotation[frames[:-1]]), axis=1)
    return int(steps.argmax())


def _predicting(index: int, good: Sequence[int]) -> list[int]:
    """Frames that predict another: two before and two after it, or as many as there are of both."""
    before, after = [other for other in good if other < index], [other for other in good if other > index]
    each = min(len(before), len(after), 2)
    return before[-each:] + after[:each] if each else (before[-2:] or after[:2])


def _jump(track: Track, index: int, neighbours: Sequence[int]) -> Jump:
    """Difference of a pose from that which its neighbours predict: the polynomial through them."""
    time = track.time[list(neighbours)]
    gaps = time[:, None] - time[None] + np.eye(len(time))
    left = track.time[index] - time
    weights = np.array([np.delete(left, n).prod() / gaps[n].prod() for n in range(len(time))])
    shift_mm = track.center_mm[index] - weights @ track.center_mm[list(neighbours)]
    vectors = _vectors_deg(track.rotation[list(neighbours)], track.rotation[index])
    return Jump(
        float(np.linalg.norm(shift_mm)),
        float(np.linalg.norm(weights @ vectors)),
        tuple(int(n) for n in neighbours),
    )


def _vectors_deg(rotation: FloatArray, reference: FloatArray) -> FloatArray:
    """Rotation vectors (..., 3) about the world's axes, in degrees, from references (..., 3, 3)."""
    relative = rotation @ reference.swapaxes(-1, -2)
    vectors: FloatArray = Rotation.from_matrix(relative.reshape(-1, 3, 3)).as_rotvec(degrees=True)
    return vectors.reshape(*relative.shape[:-2], 3)
