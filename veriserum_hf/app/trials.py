"""Trials of a data set, their frames in order, and one frame with its images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2

from veriserum_hf.app.shapes import Shapes
from veriserum_hf.core import (
    CAMERA_OF,
    COMPONENTS,
    IMAGE_OF,
    PLANES,
    ByteImage,
    Component,
    FrameRow,
    LabelRow,
    PlaneName,
    Poses,
)
from veriserum_hf.dataset import Frames, Rows, open_rows
from veriserum_hf.errors import FrameError, MatchError, VeriserumError
from veriserum_hf.viewer import View, grey_of, views_of

_CONFIGS = ("calibrated", "target", "manual")  # the best first
_ARCHIVE_PX = 512  # edge of the corrected images of an archive's frames


class Place(NamedTuple):
    """Where a frame is in a data set.

    Attributes
    ----------
    measurement_id, trial_id, frame_index : of the frame.
    split, row : its place in the data set.

    """

    measurement_id: int
    trial_id: int
    frame_index: int
    split: str
    row: int

    def ids(self) -> dict[str, int]:
        """Ids of a row of poses."""
        return {
            "measurement_id": self.measurement_id,
            "trial_id": self.trial_id,
            "frame_index": self.frame_index,
        }


@dataclass(frozen=True, eq=False)
class OpenFrame:
    """One frame, to look at.

    Attributes
    ----------
    place : in the data set.
    views : planes that can be shown.
    grey : their images, (rows, columns) uint8.
    problem : why planes cannot be shown, or empty.

    """

    place: Place
    views: Mapping[PlaneName, View]
    grey: Mapping[PlaneName, ByteImage]
    problem: str = ""

    @classmethod
    def of_row(cls, place: Place, row: FrameRow) -> "OpenFrame":
        """Frame of a row; planes without image or camera are left out."""
        views, grey, problems = dict[PlaneName, View](), dict[PlaneName, ByteImage](), []
        for plane in PLANES:
            alone = row.copy()
            for other in PLANES:
                if other != plane:
                    alone[CAMERA_OF[other]] = alone[IMAGE_OF[other]] = None
            if row[CAMERA_OF[plane]] is None and row[IMAGE_OF[plane]] is None:
                continue
            try:
                views |= views_of(alone)
                grey[plane] = grey_of(row, plane)
            except VeriserumError as error:
                problems.append(str(error))
        if not views and not problems:
            problems.append(f"measurement {place.measurement_id} has no image")
        return cls(place, views, grey, "; ".join(problems))

    def png(self, plane: PlaneName) -> bytes:
        """Image of a plane as PNG."""
        _, encoded = cv2.imencode(".png", self.grey[plane], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return encoded.tobytes()


class Trials:
    """Frames of a data set by trial, and its implants.

    Raises
    ------
    MatchError
        If there is no frame.

    """

    def __init__(self, source: Rows[Frames]) -> None:
        self.source, self.shapes = source, Shapes(source.meshes)
        self.of_trial: dict[int, list[Place]] = {}
        self.labels: dict[int, LabelRow] = {}
        names = ("measurement_id", "trial_id", "frame_index", "task", "subject", *COMPONENTS)
        for split, frames in source.splits.items():
            for row, label in enumerate(frames.table(*names).to_pylist()):
                place = Place(label["measurement_id"], label["trial_id"], label["frame_index"], split, row)
                self.of_trial.setdefault(place.trial_id, []).append(place)
                self.labels[place.measurement_id] = label
        if not self.of_trial:
            raise MatchError(f"{source.name} has no frame; expected at least one to match")
        for places in self.of_trial.values():
            places.sort(key=lambda place: (place.frame_index, place.measurement_id))

    @classmethod
    def open(cls, dataset: str) -> "Trials":
        """Frames with images of a data set or an archive; see `veriserum_hf.dataset.open_rows` for what is raised."""
        return cls(open_rows(dataset, _CONFIGS, archive_px=_ARCHIVE_PX))

    def ids(self) -> list[int]:
        """Trials, in order."""
        return sorted(self.of_trial)

    @cached_property
    def places(self) -> dict[int, Place]:
        """Every frame by measurement id."""
        return {place.measurement_id: place for places in self.of_trial.values() for place in places}

    def poses(self, measurement_id: int) -> Poses:
        """The data set's own poses of a frame."""
        label = self.labels[measurement_id]
        return {component: pose for component in COMPONENTS if (pose := label[component])}

    def open_frame(self, place: Place) -> OpenFrame:
        """Read a frame; one that cannot be read has a problem instead of planes."""
        row = next(self.frames([place]).read())
        if isinstance(row, FrameError):
            return OpenFrame(place, {}, {}, f"measurement {place.measurement_id} cannot be read: {row.detail}")
        return OpenFrame.of_row(place, row)

    def frames(self, places: list[Place]) -> Frames:
        """Rows of frames of one split, in this order."""
        return self.source.splits[places[0].split].taken([place.row for place in places])

    def anatomies(self, component: Component) -> Iterator[int]:
        """Implants of the data set that may be placed as a component, and have a mesh."""
        known = self.source.components
        return (id for id in sorted(self.source.meshes) if known.get(id) == component)
