"""Frames of the calibration phantoms as files: which plane and number, and what is seen in them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from veriserum_hf.archive import read_frame
from veriserum_hf.calibration import (
    DistortionMap,
    DualObservation,
    GridFit,
    GridPhantom,
    MarkerPhantom,
    Observation,
    find_markers,
    fit_bead_grid,
)
from veriserum_hf.core import PLANES, Grey, PlaneName, listed
from veriserum_hf.errors import CalibrationError, FrameError
from veriserum_hf.geometry import DualPlaneRig

Progress = Callable[[int, int], None]
_NAME = re.compile(r"(?:cal_)?(bs|fs)_(\d+)", re.IGNORECASE)


def plane_and_number(path: Path) -> tuple[PlaneName, int] | None:
    """Plane and number that the name of a frame's file states, as ``cal_bs_000159.tif`` does; None if it does not."""
    match = _NAME.fullmatch(path.stem)
    return None if match is None else ("bs" if match[1].lower() == "bs" else "fs", int(match[2]))


@dataclass(frozen=True)
class PhantomFrame:
    """The file of one frame of a phantom.

    Attributes
    ----------
    path : as it was given.
    plane : the intensifier that took it.
    number : in its name, or None; both planes' frames of one moment have the same.

    """

    path: Path
    plane: PlaneName
    number: int | None

    @classmethod
    def from_path(cls, path: Path, plane: PlaneName | None = None) -> "PhantomFrame":
        """Frame whose name states the plane, or does not contradict it.

        Raises
        ------
        CalibrationError
            If there is no such file, or the plane is unknown or contradicted.

        """
        if path.is_dir():
            raise CalibrationError(f"{path}: this is a folder; give the frames that are in it")
        if not path.is_file():
            raise CalibrationError(f"{path}: there is no such file")
        in_name = plane_and_number(path)
        if in_name is None:
            if plane is None:
                raise CalibrationError(
                    f"{path}: its name does not state the plane, expected one like cal_bs_000159.tif or "
                    "fs_000159.jpg; give it with --plane bs or --plane fs"
                )
            return cls(path, plane, None)
        named, number = in_name
        if plane not in (None, named):
            raise CalibrationError(f"{path}: its name states {named}, but {plane} was requested")
        return cls(path, named, number)

    def read(self) -> Grey:
        """Grey levels; see `read_frame`."""
        return read_frame(self.path)


def fit_grid(frame: PhantomFrame, phantom: GridPhantom | None = None) -> GridFit:
    """Fit the distortion to a file with a frame of a grid phantom; the lab's if none is given.

    Raises
    ------
    CalibrationError
        If the file is not a complete image, or `fit_bead_grid` refuses it; the message names it.

    """
    try:
        return fit_bead_grid(frame.read(), phantom)
    except (FrameError, CalibrationError) as error:
        raise CalibrationError(f"{frame.path}: {error}") from error


@dataclass
class Seen:
    """What is seen of the marker phantom in many frames.

    Attributes
    ----------
    observations : markers of the frames in which it was recognised.
    left_out : why each of the others was not used.

    """

    observations: dict[PhantomFrame, Observation] = field(default_factory=dict)
    left_out: dict[PhantomFrame, str] = field(default_factory=dict)

    def of(self, plane: PlaneName) -> list[Observation]:
        """What one plane saw, in the order of the frames.

        Raises
        ------
        CalibrationError
            If it saw nothing; the message gives the reasons.

        """
        seen = [observation for frame, observation in self.observations.items() if frame.plane == plane]
        if not seen:
            raise self._nothing([frame for frame in self.left_out if frame.plane == plane])
        return seen

    def pairs(self) -> list[DualObservation]:
        """What both planes saw at once: frames with the same number. Those without a partner are excluded.

        Raises
        ------
        CalibrationError
            If there is no pair; the message gives the reasons.

        """
        by_number = {(frame.plane, frame.number): frame for frame in self.observations}
        pairs = []
        for frame in list(self.observations):
            partner = by_number.get(("fs" if frame.plane == "bs" else "bs", frame.number))
            if frame.number is None or partner is None:
                del self.observations[frame]
                self.left_out[frame] = "there is no usable frame of the other plane with the same number"
            elif frame.plane == "bs":
                pairs.append(DualObservation(self.observations[frame], self.observations[partner]))
        if not pairs:
            raise self._nothing(list(self.left_out))
        return pairs

    def _nothing(self, frames: Sequence[PhantomFrame]) -> CalibrationError:
        reasons = "".join(f"\n  {frame.path}: {self.left_out[frame]}" for frame in frames[:5])
        more = f"\n  and {len(frames) - 5} more" if len(frames) > 5 else ""
        return CalibrationError(f"no frame can be used, of {len(frames)} in all:{reasons}{more}")


def find_in_frames(
    frames: Sequence[PhantomFrame],
    distortions: Mapping[PlaneName, DistortionMap],
    rig_start: DualPlaneRig,
    progress: Progress | None = None,
    phantom: MarkerPhantom | None = None,
) -> Seen:
    """Find the marker phantom in frames of one plane or both; those that show none are excluded with their reason.

    Parameters
    ----------
    frames : in any order.
    distortions : of the planes that there are frames of.
    rig_start : the rough rig, see `find_markers`.
    progress : called with the number of frames done and of all.
    phantom : in the frames; if None, this package's own.

    Raises
    ------
    CalibrationError
        If two frames of a plane have the same number: which of them belongs to the other plane's is unknown.

    """
    _check_numbers(frames)
    seen = Seen()
    for done, frame in enumerate(frames, start=1):
        try:
            found = find_markers(frame.read(), distortions[frame.plane], rig_start[frame.plane], phantom)
        except (FrameError, CalibrationError) as error:
            seen.left_out[frame] = str(error)
        else:
            seen.observations[frame] = found
        if progress:
            progress(done, len(frames))
    return seen


def _check_numbers(frames: Sequence[PhantomFrame]) -> None:
    for plane in PLANES:
        by_number: dict[int | None, list[Path]] = {}
        for frame in frames:
            if frame.plane == plane and frame.number is not None:
                by_number.setdefault(frame.number, []).append(frame.path)
        for number, paths in by_number.items():
            if len(paths) > 1:
                raise CalibrationError(f"{len(paths)} frames of {plane} have the number {number}: {listed(paths)}")
