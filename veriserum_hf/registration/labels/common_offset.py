"""A common offset of labels and registrations: how large it is, and whether labels or cameras may be its cause."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
import pyarrow as pa

from veriserum_hf.core import CAMERA_OF, Component, PoseFileRow, PoseRow, listed
from veriserum_hf.dataset import Frames, Rows
from veriserum_hf.errors import FrameError
from veriserum_hf.registration.labels.differences import DIFFERENCES, Differences, Label
from veriserum_hf.registration.labels.offsets import ENOUGH, MIN_DEG, MIN_MM, Offset, OffsetDocument
from veriserum_hf.registration.labels.planes_apart import PlanesApart, planes_apart
from veriserum_hf.registration.labels.readings import spread_over_trials
from veriserum_hf.registration.labels.rows import Spread
from veriserum_hf.registration.labels.session_offsets import SessionOffset, SessionOffsetDocument

Cause = Literal["cameras", "labels"]
_FRAMES = 12  # registered with each plane alone
_SUSPICIOUS = 0.1  # share of labels flagged or not assessed
_WIDE_MM = 0.3  # spread: with wrong cameras, some registrations follow one plane, and some the other


class CommonOffsetDocument(TypedDict):
    """A common offset in JSON."""

    looks_like: Cause | None
    reasons: list[str]
    offsets: list[OffsetDocument]
    planes: dict[str, float | bool | int | list[float]] | None
    sessions: list[SessionOffsetDocument]


@dataclass(frozen=True, eq=False)
class CommonOffset:
    """Offset that labels have in common, or cameras that do not fit each other.

    Attributes
    ----------
    offsets : of components, and of implants and calibrations that differ from their component; there are none where
        the planes disagree, and the labels agree with the registrations of both.
    planes : disagreement of the planes at some registered poses; None where it cannot be determined.
    change : of the offset over the positions of the implants, mm, and over how many mm; None where there is none.
    sessions : those whose planes disagree at the registered poses, and the offset of their labels.
    of_others : whether offsets, planes and change are those of labels of other sessions alone.

    """

    offsets: Sequence[Offset]
    planes: PlanesApart | None
    change: tuple[float, float] | None
    sessions: Sequence[SessionOffset] = ()
    of_others: bool = False

    @property
    def looks_like(self) -> Cause | None:
        """The likely cause; None where the images do not determine it."""
        if not all(session.fits_cameras for session in self.sessions):
            return None
        if self._is_of_sessions or self._of_cameras():
            return "cameras"
        return "labels" if self._of_labels() else None

    @property
    def reasons(self) -> list[str]:
        """What sessions have, and what supports the likely cause."""
        found = [session.text for session in self.sessions]
        of_cameras = self._of_cameras()
        if self._is_of_sessions or of_cameras:
            return found + of_cameras
        if not (of_labels := self._of_labels()):
            too_few = "the planes cannot be compared, since too few implants can be registered in each plane alone"
            return [*found, too_few]
        if not self._of_implants():
            of_labels.append("a shift of one camera perpendicular to that direction would have the same effect")
        return found + of_labels

    def document(self) -> CommonOffsetDocument:
        """The offset in JSON."""
        return {
            "looks_like": self.looks_like,
            "reasons": self.reasons,
            "offsets": [offset.document() for offset in self.offsets],
            "planes": None if self.planes is None else self.planes.document(),
            "sessions": [session.document() for session in self.sessions],
        }

    @property
    def _is_of_sessions(self) -> bool:
        """Whether the planes of sessions show the cause: an offset of other labels has its own."""
        return bool(self.sessions) and not (self.offsets and self.of_others)

    def _of_cameras(self) -> list[str]:
        found = []
        if self.planes is not None and self.planes.disagree:
            found.append(
                f"the planes disagree at the registered poses: each alone, fs minus bs is {_apart(self.planes)}"
            )
        if any(offset.calibration is not None for offset in self.offsets):
            found.append("the offset changes with the calibration")
        if self.change is not None:
            found.append(f"the offset changes by {self.change[0]:.2f} mm over {self.change[1]:.0f} mm of the volume")
        return found

    def _of_labels(self) -> list[str]:
        agree = (
            [f"the planes agree at the registered poses: fs minus bs is {_apart(self.planes)}"] if self.planes else []
        )
        return [*self._of_implants(), *agree]

    def _of_implants(self) -> list[str]:
        found = []
        if fixed := sorted({offset.component for offset in self.offsets if offset.frame == "implant"}):
            found.append(f"the offset is constant in the implant's frame ({listed(fixed)})")
        if ids := sorted({offset.implant for offset in self.offsets if offset.implant is not None}):
            found.append(f"the offset changes with the implant ({listed(ids)})")
        return found


def is_suspicious(spread: Spread, rows: pa.Table) -> bool:
    """Whether to compare the planes: offset or spread are large, or many labels are flagged or not assessed."""
    flagged = rows["flagged"].to_pylist()
    if len(flagged) < ENOUGH:
        return False
    if sum(each is not False for each in flagged) > _SUSPICIOUS * len(flagged):
        return True
    medians, spreads = (
        np.array([[of_component[name][of] for name in DIFFERENCES] for of_component in spread.values()])
        for of in ("median", "spread")
    )
    offsets = np.abs(medians).max(axis=0) / np.repeat((MIN_MM, MIN_DEG), 3)
    return bool(offsets.max() > 1 or spreads[:, :3].max() > _WIDE_MM)


def planes_of(source: Rows[Frames], split: str, differences: Differences) -> PlanesApart | None:
    """Disagreement of the planes at registered poses of some frames, of as many trials as possible."""
    poses: dict[int, dict[Component, PoseRow]] = {}
    labels: dict[int, Label] = {}
    for row, pose in differences.pairs:
        if pose["verdict"] != "failed" and all(row[name] is not None for name in CAMERA_OF.values()):
            labels[row["measurement_id"]] = row
            poses.setdefault(row["measurement_id"], {})[pose["component"]] = _start(pose)
    if not labels:
        return None
    of = list(labels.values())
    chosen = [of[n] for n in spread_over_trials(np.array([row["trial_id"] for row in of]), _FRAMES)]
    rows = [
        row
        for name, frames in source.of_split(split).items()
        for row in frames.taken([row["row"] for row in chosen if row["split"] == name]).read()
        if not isinstance(row, FrameError)
    ]
    return planes_apart(rows, [poses[row["measurement_id"]] for row in rows], source.meshes)


def _start(pose: PoseFileRow) -> PoseRow:
    return {
        "anatomy_id": pose["anatomy_id"],
        "translation_mm": pose["translation_mm"],
        "quaternion_xyzw": pose["quaternion_xyzw"],
    }


def _apart(planes: PlanesApart) -> str:
    along = ", ".join(f"{value:+.2f}" for value in planes.direction)
    return (
        f"{planes.shift.value[0]:+.2f} +- {planes.shift.deviation[0]:.2f} mm along ({along}), the direction that "
        f"both planes see, and {np.linalg.norm(planes.rotation.value):.2f} deg, in {planes.implants} implants"
    )
