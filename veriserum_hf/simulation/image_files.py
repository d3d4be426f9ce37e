"""The image files of a simulated archive, as jobs for one process or several."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from veriserum_hf.core import PLANES, Grey, PlaneName
from veriserum_hf.jobs import single_threaded_opencv, write_listed
from veriserum_hf.simulation.poses import pose_ids
from veriserum_hf.simulation.scenario import draw_frame, draw_grid, draw_marker_frame, trial
from veriserum_hf.simulation.settings import Settings

_FRAMES_PER_JOB = 10


@dataclass(frozen=True)
class FrameJob:
    """A few frames of a trial, both planes of each; ``numbers`` are those in their files' names, by frame.

    As for all jobs here, ``unfinished`` is the folder above that lists finished files.
    """

    settings: Settings
    trial_index: int
    numbers: dict[int, tuple[int, ...]]
    folder: Path
    unfinished: Path

    @property
    def units(self) -> int:
        """Dual-plane frames."""
        return len(self.numbers)

    @property
    def done(self) -> bool:
        """Whether every file is there."""
        return all(path.exists() for frame in self.numbers for plane in PLANES for path in self._paths(frame, plane))

    def run(self, advance: Callable[[int], None]) -> None:
        """Draw the frames that are missing."""
        for frame in self.numbers:
            for plane in PLANES:
                if not all(path.exists() for path in self._paths(frame, plane)):
                    data = self._drawn(frame, plane)
                    for path in self._paths(frame, plane):
                        write_listed(self.unfinished, path, data)
            advance(1)

    def _drawn(self, frame: int, plane: PlaneName) -> bytes:
        with single_threaded_opencv():
            image = draw_frame(self.settings, self.trial_index, frame, plane)
            if self.settings.bit_depth == 16:
                return _as_tiff(image)
            quality = trial(self.settings, self.trial_index).imaging[plane].jpeg_quality
            return bytes(cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1])

    def _paths(self, frame: int, plane: PlaneName) -> list[Path]:
        ending = "jpg" if self.settings.bit_depth == 8 else "tif"
        return [self.folder / f"{plane}_{n:06d}.{ending}" for n in self.numbers[frame]]


@dataclass(frozen=True)
class GridJob:
    """One frame of the bead grid."""

    settings: Settings
    session_index: int
    number: int
    plane: PlaneName
    folder: Path
    unfinished: Path

    units = 1

    @property
    def done(self) -> bool:
        """Whether the file is there."""
        return _phantom_path(self.folder, self.plane, self.number).exists()

    def run(self, advance: Callable[[int], None]) -> None:
        """Draw it."""
        with single_threaded_opencv():
            data = _as_tiff(draw_grid(self.settings, self.session_index, self.plane))
        write_listed(self.unfinished, _phantom_path(self.folder, self.plane, self.number), data)
        advance(1)


@dataclass(frozen=True)
class MarkerJob:
    """One dual-plane frame of the marker phantom; ``number`` is that in the names of both files."""

    settings: Settings
    session_index: int
    frame: int
    number: int
    folder: Path
    unfinished: Path

    units = 1

    @property
    def done(self) -> bool:
        """Whether both files are there."""
        return all(_phantom_path(self.folder, plane, self.number).exists() for plane in PLANES)

    def run(self, advance: Callable[[int], None]) -> None:
        """Draw what is missing."""
        for plane in PLANES:
            path = _phantom_path(self.folder, plane, self.number)
            if not path.exists():
                with single_threaded_opencv():
                    data = _as_tiff(draw_marker_frame(self.settings, self.session_index, self.frame, plane))
                write_listed(self.unfinished, path, data)
        advance(1)


def _phantom_path(folder: Path, plane: PlaneName, number: int) -> Path:
    return folder / f"cal_{plane}_{number:06d}.tif"


def _as_tiff(image: Grey) -> bytes:
    """Content of a plain TIFF file, as the lab's originals."""
    # Deflate would save a third of it, and cost half as much time as drawing the frame.
    return bytes(cv2.imencode(".tif", image, (cv2.IMWRITE_TIFF_COMPRESSION, 1))[1])


def frame_jobs(settings: Settings, folder: Path, unfinished: Path) -> Iterator[FrameJob]:
    """Every frame of every trial, a few at a time."""
    numbers: dict[tuple[int, int], tuple[int, ...]] = {
        (index, frame): (id, id + 1) if settings.ids == "pose" else (settings.measurement_id(index, frame),)
        for index, frame, kind, id in pose_ids(settings)
        if kind == "REFINED"
    }
    for index in range(settings.trials):
        for first in range(0, settings.frames_per_trial, _FRAMES_PER_JOB):
            frames = range(first, min(first + _FRAMES_PER_JOB, settings.frames_per_trial))
            yield FrameJob(settings, index, {frame: numbers[index, frame] for frame in frames}, folder, unfinished)
