"""Whether implants move as implants do: from frame to frame of a trial, and in relation to each other.

A knee moves smoothly at the frame rate of a fluoroscope: between frames of the simulated activities, at 30 Hz,
implants move by at most 8 mm and rotate by at most 12 deg, and by four times the median of their trial. A pose is
compared with those of up to four frames around it, by the lower median of its distances to them: one wrong neighbour
does not count. What is far from them, in absolute terms and by the trial's own, is reported, and never excluded.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from veriserum_hf.archive.problems import Findings
from veriserum_hf.core import COMPONENTS, BoolArray, FloatArray, listed

_FLOORS = {"mm": 15.0, "deg": 25.0}  # of a distance to the frames around that is looked at
_TIMES_USUAL = 6.0  # the median distance of the trial
_ENOUGH_FRAMES = 5  # to know what is usual in a trial; in a shorter one, twice the floor and what is usual elsewhere
_NEIGHBOURS = (-2, -1, 1, 2)
_LONGEST_GAP = 2  # measurement ids between neighbours, for each place
_JUMP = 2.0  # times the limit, from one frame to the next where both fit the frames on their own side
_ABOVE = 0.75  # part of all frames with the femur above the tibia that makes it a rule
_BELOW_MM = 10.0
# Of the distance between the origins from its median, and of its median deviation.
_APART_MM, _TIMES_APART = 30.0, 8.0
_ENOUGH_PAIRS = 5
_CHECK = (
    "Check these poses, and the ids of their anatomies and measurements; mark wrong ones obsolete. They are kept."
)


@dataclass(frozen=True, eq=False)
class _Track:
    """Current poses of one kind and component, by trial and measurement: (n,), (n, 3) mm, (n, 4)."""

    kind: str
    component: str
    trials: NDArray[np.int64]
    measurements: NDArray[np.int64]
    anatomies: NDArray[np.int64]
    translation_mm: FloatArray
    quaternion_xyzw: FloatArray


def check_motion(
    poses: pa.Table, outside: NDArray[np.int64], frames: pa.Table, where: str, findings: Findings
) -> None:
    """Report current poses that do not fit those of the frames around them, or of their partner.

    Parameters
    ----------
    poses : by ``POSE_SCHEMA``, in the world frame.
    outside : ids of poses that lie in neither plane's field: they are reported for that, and omitted here.
    frames : by ``FRAME_SCHEMA``; gives the trial of each measurement.
    where : the table of the poses, for messages.
    findings : takes the problems.

    """
    tracks = list(_tracks(poses, outside, frames))
    with np.errstate(over="ignore"):  # of a pose that lies in neither field, and is reported for that
        for track in tracks:
            _check_track(track, where, findings)
        for femur in (track for track in tracks if track.component == "femur"):
            for tibia in (track for track in tracks if (track.component, track.kind) == ("tibia", femur.kind)):
                _check_pair(femur, tibia, where, findings)


def _tracks(poses: pa.Table, outside: NDArray[np.int64], frames: pa.Table) -> Iterator[_Track]:
    measurements = np.asarray(poses["measurement_id"])
    ids, trials = np.asarray(frames["measurement_id"]), np.asarray(frames["trial_id"])
    current = ~np.asarray(poses["obsolete"]) & np.isin(measurements, ids) & ~np.isin(poses["pose_id"], outside)
    translation_mm, quaternion = (
        np.asarray(pc.list_flatten(poses[name])).reshape(-1, width)
        for name, width in (("translation_mm", 3), ("quaternion_xyzw", 4))
    )
    anatomies = np.asarray(poses["anatomy_id"])
    for kind in pc.unique(poses["kind"]).to_pylist():
        for component in COMPONENTS:
            of_both = pc.and_(pc.equal(poses["kind"], kind), pc.equal(poses["component"], component))
            chosen = np.flatnonzero(np.asarray(of_both) & current)
            trial_of = trials[np.searchsorted(ids, measurements[chosen])]
            order = np.lexsort((measurements[chosen], trial_of))
            rows = chosen[order]
            yield _Track(
                kind,
                component,
                trial_of[order],
                measurements[rows],
                anatomies[rows],
                translation_mm[rows],
                quaternion[rows],
            )


def _distances(track: _Track, unit: str, shift: int) -> FloatArray:
    """Distance of every pose to that ``shift`` places on, in mm or degrees, (n,); inf where there is none near."""
    count = len(track.measurements)
    result = np.full(count, np.inf)
    places = np.arange(max(0, -shift), count - max(0, shift))
    others = places + shift
    gaps = np.abs(track.measurements[others] - track.measurements[places])
    near = (track.trials[places] == track.trials[others]) & (gaps <= _LONGEST_GAP * abs(shift))
    places, others = places[near], others[near]
    if unit == "mm":
        result[places] = np.linalg.norm(track.translation_mm[places] - track.translation_mm[others], axis=1)
    else:
        cosines = np.abs((track.quaternion_xyzw[places] * track.quaternion_xyzw[others]).sum(axis=1))
        result[places] = np.degrees(2 * np.arccos(np.minimum(cosines, 1)))
    return result


def _usual(track: _Track, distances: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Median distance in the trial of each pose, (n,), and where the trial is long enough to know it."""
    known = np.isfinite(distances)
    elsewhere = float(np.median(distances[known])) if known.any() else 0.0
    _, number_of, places = np.unique(track.trials, return_inverse=True, return_counts=True)
    starts = np.cumsum(places) - places
    counts = np.bincount(number_of, known, len(places)).astype(np.intp)
    ascending = distances[np.lexsort((distances, track.trials))]  # those that are not known come last in their trial
    enough = counts >= _ENOUGH_FRAMES
    median = np.full(len(places), elsewhere)
    median[enough] = ascending[(starts + counts // 2)[enough]]
    return median[number_of], enough[number_of]


def _check_track(track: _Track, where: str, findings: Findings) -> None:
    off = np.zeros(len(track.measurements), dtype=bool)
    jumps = off.copy()
    seen: dict[str, tuple[FloatArray, FloatArray]] = {}
    for unit, floor in _FLOORS.items():
        around = np.sort([_distances(track, unit, shift) for shift in _NEIGHBOURS], axis=0)
        count = np.isfinite(around).sum(axis=0)
        nearby = np.where(
            count > 0, np.take_along_axis(around, np.maximum(count - 1, 0)[None] // 2, axis=0)[0], np.inf
        )
        usual, long = _usual(track, nearby)
        limit = np.maximum(np.where(long, floor, 2 * floor), _TIMES_USUAL * usual)
        step = _distances(track, unit, 1)
        off |= np.isfinite(nearby) & (nearby > limit)
        jumps |= np.isfinite(step) & (step > _JUMP * limit)
        seen[unit] = nearby, usual
    jumps &= ~off & ~np.append(off[1:], False)
    for trial, rows in _by_trial(track.trials, off):
        worst = rows[np.argmax(seen["mm"][0][rows] / _FLOORS["mm"] + seen["deg"][0][rows] / _FLOORS["deg"])]
        _report(
            findings,
            where,
            trial,
            f"the {track.kind} poses of the {track.component} in measurements {_ids(track, rows)} do not fit those "
            f"of the frames around them: measurement {track.measurements[worst]} is {seen['mm'][0][worst]:.1f} mm "
            f"and {seen['deg'][0][worst]:.1f} deg from them; usual are {seen['mm'][1][worst]:.1f} mm and "
            f"{seen['deg'][1][worst]:.1f} deg",
        )
    for trial, rows in _by_trial(track.trials, jumps):
        first = rows[0]
        _report(
            findings,
            where,
            trial,
            f"the {track.kind} pose of the {track.component} jumps after measurements {_ids(track, rows)}: by "
            f"{_distances(track, 'mm', 1)[first]:.1f} mm and {_distances(track, 'deg', 1)[first]:.1f} deg from "
            f"{track.measurements[first]} to {track.measurements[first + 1]}",
        )


def _check_pair(femur: _Track, tibia: _Track, where: str, findings: Findings) -> None:
    """Report frames with the femur below the tibia, or at another distance from it than in other frames."""
    shared, in_femur, in_tibia = np.intersect1d(femur.measurements, tibia.measurements, return_indices=True)
    if not len(shared):
        return
    between_mm = femur.translation_mm[in_femur] - tibia.translation_mm[in_tibia]
    trials = femur.trials[in_femur]
    above = float((between_mm[:, 1] > 0).mean())
    if above <= 1 - _ABOVE and len(shared) >= _ENOUGH_PAIRS:
        findings.problem(
            "femur below tibia",
            where,
            f"the {femur.kind} pose of the femoral component lies below that of the tibial one (+y is up) in "
            f"{round((1 - above) * len(shared))} of {len(shared)} frames, expected above",
            "Check the categories in anatomies, and whether the poses are upside down. They are kept.",
        )
    apart_mm = np.linalg.norm(between_mm, axis=1)
    low = (above >= _ABOVE) & (between_mm[:, 1] < -_BELOW_MM)
    for trial, rows in _by_trial(trials, low):
        _report(
            findings,
            where,
            trial,
            f"the {femur.kind} pose of the femur lies below that of the tibia (+y is up) in measurements "
            f"{listed(shared[rows].tolist())}, above it in {above:.0%} of all frames; their ids may be exchanged",
        )
    far = np.zeros(len(shared), dtype=bool)
    pairs = np.stack([femur.anatomies[in_femur], tibia.anatomies[in_tibia]], axis=1)
    _, number_of, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    number_of = number_of.reshape(-1)
    number_of = np.where(counts[number_of] >= _ENOUGH_PAIRS, number_of, -1)  # -1: rare pairs, with all others
    usual_mm = np.full(len(shared), np.median(apart_mm))
    for number in np.unique(number_of).tolist():
        of_pair = number_of == number
        compared_mm = apart_mm if number < 0 else apart_mm[of_pair]
        median_mm = np.median(compared_mm)
        limit_mm = max(_APART_MM, _TIMES_APART * float(np.median(np.abs(compared_mm - median_mm))))
        usual_mm[of_pair] = median_mm
        far[of_pair] = np.abs(apart_mm[of_pair] - median_mm) > limit_mm
    for trial, rows in _by_trial(trials, far & (len(shared) >= _ENOUGH_PAIRS)):
        _report(
            findings,
            where,
            trial,
            f"the {femur.kind} poses of femur and tibia lie {apart_mm[rows[0]]:.1f} mm apart in measurement "
            f"{shared[rows[0]]}, {usual_mm[rows[0]]:.1f} mm in other frames; far from usual are measurements "
            f"{listed(shared[rows].tolist())}",
        )


def _by_trial(trials: NDArray[np.int64], found: BoolArray) -> Iterator[tuple[int, NDArray[np.intp]]]:
    rows = np.flatnonzero(found)
    for trial in np.unique(trials[rows]).tolist():
        yield trial, rows[trials[rows] == trial]


def _ids(track: _Track, rows: NDArray[np.intp]) -> str:
    return listed(track.measurements[rows].tolist())


def _report(findings: Findings, where: str, trial: int, what: str) -> None:
    findings.problem("implausible motion", f"{where}, trial {trial}", what, _CHECK)
