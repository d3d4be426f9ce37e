"""Disagreement of the two planes at registered poses, summed up by session.

Where the planes of a session disagree by the same amount in all frames, one camera is not where the data set states
it to be: images of two moments, or single wrong poses, scatter.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from scipy.stats import median_abs_deviation

from veriserum_hf.core import CAMERA_OF, FloatArray, LabelRow, PoseRow, Poses, Table, listed
from veriserum_hf.geometry import invert_transform, session_numbers

SHOWN = 20  # sessions in a table
_NOTE = (
    "Planes apart: the implant's centre where fs alone sees it, less that where bs alone does, along the direction "
    "that both see without depth (of the world, mean of the session); median and scatter (1.4826 MAD) over all "
    "registered implants in two planes, and median of the stated standard deviations (SD). Beyond 0.5 mm the median "
    "is a lower bound. A session is all trials with the same stored cameras."
)


class SessionPlanesDocument(TypedDict):
    """Disagreement of the planes in a session, in JSON."""

    trials: list[int]
    frames: int
    poses: int
    median_mm: float
    scatter_mm: float | None
    stated_sd_mm: float | None
    direction: list[float]


@dataclass(frozen=True, eq=False)
class SessionPlanes:
    """Disagreement of the planes in one session.

    Attributes
    ----------
    trials : ids of the registered ones.
    frames, poses : number of frames and of poses with a disagreement.
    median_mm : of fs alone less bs alone.
    scatter_mm : robust standard deviation over the poses; None for one pose.
    stated_sd_mm : median of the standard deviations that the poses state; None where they state none.
    direction : (3,) unit vector in the world, mean of cross(ray of bs, ray of fs).

    """

    trials: tuple[int, ...]
    frames: int
    poses: int
    median_mm: float
    scatter_mm: float | None
    stated_sd_mm: float | None
    direction: FloatArray

    def document(self) -> SessionPlanesDocument:
        """The disagreement in JSON."""
        return {
            "trials": list(self.trials),
            "frames": self.frames,
            "poses": self.poses,
            "median_mm": self.median_mm,
            "scatter_mm": self.scatter_mm,
            "stated_sd_mm": self.stated_sd_mm,
            "direction": self.direction.tolist(),
        }


def planes_by_session(rows: Iterable[LabelRow], poses: Mapping[int, Poses]) -> list[SessionPlanes]:
    """Sum up the disagreement of the planes by session.

    Parameters
    ----------
    rows : of the data set; ``measurement_id``, ``trial_id`` and cameras are used.
    poses : registered ones by measurement id and component; those without a disagreement are skipped.

    Returns
    -------
    Sessions with at least one pose that states a disagreement, in the order of their first rows.

    """
    two_planes = [
        row for row in rows if row["measurement_id"] in poses and all(row[name] for name in CAMERA_OF.values())
    ]
    seen: dict[int, list[tuple[LabelRow, PoseRow]]] = defaultdict(list)
    for row, session in zip(two_planes, session_numbers(two_planes).tolist(), strict=True):
        stating = (pose for pose in poses[row["measurement_id"]].values() if pose.get("planes_apart_mm") is not None)
        seen[session] += [(row, pose) for pose in stating]
    return [_of_session(pairs) for pairs in seen.values() if pairs]


def planes_table(sessions: Sequence[SessionPlanes]) -> Table:
    """Sessions as a table, the largest disagreement first."""
    header = ("trials", "frames", "poses", "planes apart mm", "scatter mm", "stated SD mm", "along x", "y", "z")
    rows = [
        (
            listed(each.trials),
            each.frames,
            each.poses,
            f"{each.median_mm:+.2f}",
            *("-" if value is None else f"{value:.2f}" for value in (each.scatter_mm, each.stated_sd_mm)),
            *(f"{value:+.2f}" for value in each.direction),
        )
        for each in sorted(sessions, key=lambda each: -abs(each.median_mm))[:SHOWN]
    ]
    left = f"{len(sessions) - SHOWN} more sessions, with less, are not shown. " if len(sessions) > SHOWN else ""
    return Table(header, rows, note=left + _NOTE)


def _of_session(pairs: Sequence[tuple[LabelRow, PoseRow]]) -> SessionPlanes:
    apart_mm = np.array([pose.get("planes_apart_mm") for _, pose in pairs], dtype=float)
    stated = [sd for _, pose in pairs if (sd := pose.get("planes_apart_sd_mm")) is not None]
    at_mm = np.mean([pose["translation_mm"] for _, pose in pairs], axis=0)
    return SessionPlanes(
        trials=tuple(sorted({row["trial_id"] for row, _ in pairs})),
        frames=len({row["measurement_id"] for row, _ in pairs}),
        poses=len(pairs),
        median_mm=float(np.median(apart_mm)),
        scatter_mm=float(median_abs_deviation(apart_mm, scale="normal")) if len(pairs) > 1 else None,
        stated_sd_mm=float(np.median(stated)) if stated else None,
        direction=common_direction(pairs[0][0], at_mm),
    )


def common_direction(row: LabelRow, at_mm: FloatArray) -> FloatArray:
    """Unit vector along cross(ray of bs, ray of fs) at a point (3,) of the world, mm; zero for parallel rays."""
    rays = [
        at_mm - invert_transform(np.asarray(camera["world_to_camera"], dtype=float))[:3, 3]
        for name in CAMERA_OF.values()
        if (camera := row[name]) is not None
    ]
    of_bs, of_fs = (ray / np.linalg.norm(ray) for ray in rays)
    normal = np.cross(of_bs, of_fs)
    direction: FloatArray = normal / max(float(np.linalg.norm(normal)), 1e-12)
    return direction
