"""Offset of the labels of a session whose planes disagree, and whether another ``fs`` pose explains it.

At an implant, let b and f be the rays from the sources of ``bs`` and ``fs``, c the direction of cross(b, f), which
both planes see, and u = cross(b, c), which is sideways in ``bs``. The world is that of ``bs``. Cameras that state
another ``fs`` pose than the true one make ``fs`` alone see the implant off by some e, while ``bs`` sees it right:

- u and c are seen by ``bs``, the direction sideways in ``fs`` by ``fs``. In the plane of both rays, the two sideways
  directions determine the position: a registration is right along u, and off along b by what e demands.
- Along c, the planes contradict each other by e.c. A registration that weights both as the same is half-way, off by
  e.c / 2; one that follows ``bs`` is right, one that follows ``fs`` is off by e.c.

So labels that fit another ``fs`` pose have an offset d, label minus registration, with d.u = 0, any d.b, and -d.c
between 0 (labels of the stored cameras) and the disagreement e.c, usually half of it. An error of the labels alone
leaves the planes in agreement, or is off along u.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation

from veriserum_hf.core import PLANES, FloatArray, cameras_of, listed
from veriserum_hf.geometry import session_numbers, viewing_axes
from veriserum_hf.registration.labels.differences import Differences, Label
from veriserum_hf.registration.labels.offsets import ENOUGH, MIN_MM, Estimate, resampled_median

_MIN_APART_MM = 0.15
_SAME_SD = 5.0  # robust standard deviations: planes that are apart by the same amount
_RIGHT_MM, _MAX_DEG = 0.2, 0.5  # off along u, or beyond what the planes' disagreement explains; rotated
_WIDEST = 2.0  # standard deviations
_LEAST_ANGLE = 0.2  # sine of that between the rays


class SessionOffsetDocument(TypedDict):
    """Offset of a session in JSON."""

    session: int
    trials: list[int]
    labels: int
    shift_mm: list[float]
    shift_sd_mm: list[float]
    rotation_deg: list[float]
    rotation_sd_deg: list[float]
    sideways_in_bs_mm: float
    seen_by_both_mm: float
    planes_apart_mm: float
    planes_apart_sd_mm: float
    significant: bool
    explained_by_fs_pose: bool


@dataclass(frozen=True, eq=False)
class SessionOffset:
    """Median of label minus registration in a session whose planes disagree.

    Attributes
    ----------
    number : of the session, from 1 in the order of the data set's rows, as ``refine-cameras`` counts.
    trials : their ids.
    members : (n,) indices of its labels that are compared: those whose registration has converged, or whose planes
        are apart by as much as is usual in the session.
    shift : (3,) mm along the world's axes.
    rotation : (3,) rotation vector, degrees.
    along : (2,) mm of the shift along u and c; see above.
    apart : (1,) mm, disagreement of the planes along c: ``fs`` alone less ``bs`` alone.

    """

    number: int
    trials: tuple[int, ...]
    members: NDArray[np.intp]
    shift: Estimate
    rotation: Estimate
    along: Estimate
    apart: Estimate

    @property
    def disagrees(self) -> bool:
        """Whether the planes do, by more than 0.15 mm and than the uncertainty."""
        return self.apart.exceeds(_MIN_APART_MM)

    @property
    def significant(self) -> bool:
        """Whether the labels have an offset."""
        return self.shift.exceeds(MIN_MM)

    @property
    def explained(self) -> bool:
        """Whether another ``fs`` pose explains disagreement and offset."""
        sideways, with_both = self.along.value
        slack_mm = max(_RIGHT_MM, _WIDEST * float(np.hypot(self.along.deviation[1], self.apart.deviation[0])))
        apart = float(self.apart.value[0])
        half_way = -with_both * np.sign(apart)
        rotated = np.linalg.norm(self.rotation.value) - _WIDEST * np.linalg.norm(self.rotation.deviation)
        return bool(
            self.disagrees
            and abs(sideways) <= _RIGHT_MM
            and -slack_mm <= half_way <= abs(apart) + slack_mm
            and rotated <= _MAX_DEG
        )

    @property
    def fits_cameras(self) -> bool:
        """Whether nothing but another ``fs`` pose is needed."""
        return self.explained or not self.significant

    @property
    def name(self) -> str:
        """Session and its trials."""
        return f"session {self.number} (trials {listed(self.trials, 12)})"

    @property
    def text(self) -> str:
        """What was found, in words."""
        apart = f"its planes are {self.apart.value[0]:+.2f} +- {self.apart.deviation[0]:.2f} mm apart"
        if not self.significant:
            return f"the labels of {self.name} agree with registrations in both planes, but {apart}"
        mm = ", ".join(f"{value:+.2f}" for value in self.shift.value)
        off = f"all labels of {self.name} are off by ({mm}) mm"
        if self.explained:
            return f"{off} in a way that another fs pose explains: {apart}"
        return f"{off}; another fs pose does not explain that, although {apart}"

    def document(self) -> SessionOffsetDocument:
        """The offset in JSON."""
        return {
            "session": self.number,
            "trials": list(self.trials),
            "labels": len(self.members),
            "shift_mm": self.shift.value.tolist(),
            "shift_sd_mm": self.shift.deviation.tolist(),
            "rotation_deg": self.rotation.value.tolist(),
            "rotation_sd_deg": self.rotation.deviation.tolist(),
            "sideways_in_bs_mm": float(self.along.value[0]),
            "seen_by_both_mm": float(self.along.value[1]),
            "planes_apart_mm": float(self.apart.value[0]),
            "planes_apart_sd_mm": float(self.apart.deviation[0]),
            "significant": self.significant,
            "explained_by_fs_pose": self.explained,
        }


def session_offsets(labels: Sequence[Label], differences: Differences) -> list[SessionOffset]:
    """Sessions with at least 20 labels whose planes disagree, with the offset of their labels.

    Registrations count that have converged, or whose planes contradict each other. ``labels`` are all rows of the
    data set, whose order numbers the sessions that have registrations.
    """
    pairs = differences.pairs
    of_pair = [row["measurement_id"] for row, _ in pairs]
    registered = set(of_pair)
    rows = [row for row in labels if row["measurement_id"] in registered]
    number_of = dict(zip((row["measurement_id"] for row in rows), session_numbers(rows), strict=True))
    sessions = np.array([number_of[id] for id in of_pair], dtype=np.intp)
    frame = _frame(differences)
    stated = [pose.get("planes_apart_mm") for _, pose in pairs]
    apart = np.array([np.nan if value is None else value for value in stated], dtype=float)
    usable = (differences.assessed | differences.contradictory) & np.isfinite(apart) & np.isfinite(frame[:, 0, 0])
    found = []
    for number in np.unique(sessions):
        of = np.flatnonzero(usable & (sessions == number))
        if len(of) < ENOUGH:
            continue
        values, trials = differences.values[of], differences.trials[of]
        along = np.einsum("nij,nj->ni", frame[of], values[:, :3])
        shift, rotation, local, disagreement = (
            resampled_median(each, trials) for each in (values[:, :3], values[:, 3:], along, apart[of, None])
        )
        ids = tuple(np.unique(trials).tolist())
        limit_mm = max(_SAME_SD * median_abs_deviation(apart[of], scale="normal"), _MIN_APART_MM)
        same = np.abs(apart[of] - disagreement.value) <= limit_mm
        members = of[same | differences.assessed[of]]
        offset = SessionOffset(int(number) + 1, ids, members, shift, rotation, local, disagreement)
        found += [offset] if offset.disagrees else []
    return found


def with_sessions(differences: Differences, sessions: Sequence[SessionOffset]) -> tuple[Differences, FloatArray]:
    """Differences that also count the registrations of these sessions, and the offset that is explained, (n, 6).

    It is 0 in sessions without significant offset, and NaN where nothing is explained.
    """
    assessed, explained = differences.assessed.copy(), np.full_like(differences.values, np.nan)
    for each in sessions:
        assessed[each.members] = True
        if each.fits_cameras:
            offset = np.concatenate([each.shift.value, each.rotation.value])
            explained[each.members] = offset if each.significant else 0
    return replace(differences, assessed=assessed), explained


def _frame(differences: Differences) -> FloatArray:
    """Directions u and c at each implant, (n, 2, 3); NaN where it has one plane, or its rays are nearly parallel."""
    frame = np.full((len(differences.pairs), 2, 3), np.nan)
    cameras = [cameras_of(row) for row, _ in differences.pairs]
    both = [n for n, each in enumerate(cameras) if len(each) == len(PLANES)]
    if not both:
        return frame
    at = differences.T_world_implant[both, :3, 3]
    b, f = (
        viewing_axes(np.array([cameras[n][plane]["world_to_camera"] for n in both], dtype=np.float64), at)[:, 2]
        for plane in PLANES
    )
    c = np.cross(b, f)
    sine = np.linalg.norm(c, axis=1, keepdims=True)
    c = np.where(sine < _LEAST_ANGLE, np.nan, c) / np.maximum(sine, _LEAST_ANGLE)
    frame[both] = np.stack([np.cross(b, c), c], axis=1)
    return frame
