"""Settings of a simulated archive, and the random numbers that it is made from."""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, get_args

import numpy as np

from veriserum_hf.calibration import RAW_HEIGHT_PX, RAW_WIDTH_PX, frame_width_px
from veriserum_hf.core import DistortionFields, FrameIds, Rotations
from veriserum_hf.errors import SimulationError

# What shapes the frames of a simulated archive, in addition to its settings; see `veriserum_hf.jobs.source_hash`.
SOURCES_OF_FRAMES = (
    "core.domain",
    "geometry.camera",
    "geometry.camera_rows",
    "geometry.grid",
    "geometry.plane",
    "geometry.pose",
    "geometry.rig",
    "calibration.distortion",
    "calibration.distortion_map",
    "calibration.observations",
    "calibration.phantom_data",
    "calibration.phantom_fields",
    "calibration.phantom_files",
    "calibration.phantoms",
    "calibration.poses",
    "calibration.polynomial_distortion",
    "calibration.symmetry",
    "poses.schema",
    "rendering.compilation",
    "rendering.rasteriser",
    "simulation.activities",
    "simulation.calibrations",
    "simulation.femoral",
    "simulation.image_files",
    "simulation.imaging",
    "simulation.implants",
    "simulation.intensifier",
    "simulation.marker_phantom",
    "simulation.phantom",
    "simulation.poses",
    "simulation.real_distortions",
    "simulation.scenario",
    "simulation.settings",
    "simulation.solids",
    "simulation.tables",
    "simulation.tibial",
    "simulation.transmission",
    "simulation.wrong_cameras",
    "simulation.write",
)
LIBRARIES_OF_FRAMES = ("manifold3d", "numba", "trimesh")
PAIRS = 10  # two femoral by five tibial components
# Options and largest values of errors of the stored cameras.
_ERRORS = {
    "fs_translation_mm": ("--fs-shift-mm", 50.0),
    "fs_rotation_deg": ("--fs-turn-deg", 10.0),
    "principal_point_sd_mm": ("--principal-point-sd-mm", 10.0),
    "sid_sd_mm": ("--sid-sd-mm", 50.0),
    "async_ms": ("--async-ms", 33.0),  # less than the time between frames
}


class Stream(IntEnum):
    """What random numbers are drawn for: an independent stream each, under the seed."""

    SESSION = 0
    TRIAL = 1
    HOLDERS = 2
    NOISE = 3
    GRID_NOISE = 4
    POSES = 5
    IDS = 6
    MARKER_POSES = 7
    MARKER_NOISE = 8
    FS_POSE = 9
    DISTORTION = 10
    SOURCE_ERRORS = 11
    LATE = 12


@dataclass(frozen=True)
class Settings:
    """What is simulated.

    Attributes
    ----------
    trials, frames_per_trial : how many; trials go through the activities and the implant pairs in sequence.
    pairs : how many of the ten implant pairs are used.
    seed : other seeds give other motions, calibrations and images.
    height_px : rows of the raw frames; the width is 1.04 times as much.
    ids : what the number in a frame's name is, ``"measurement"`` or ``"pose"``.
    rotation : how the pose table stores it, ``"quaternion"`` or ``"euler"``.
    csv : the authors' three CSV files instead of the database; rotations are Euler angles in them.
    bit_depth : 8 for JPEG frames, 16 for TIFF frames with 12-bit grey levels.
    nifti : also the implants as volumes.
    marker_frames : dual-plane frames of the marker phantom for each of the sessions' calibrations.
    fs_translation_mm, fs_rotation_deg : how far the true pose of the ``fs`` intensifier is from the nominal one: a
        shift of this length, and a rotation by this angle about its centre. In each session the directions are
        random. Frames are drawn with the true cameras; the tables hold the others, and the refined poses that a
        registration with those gives.
    principal_point_sd_mm, sid_sd_mm : standard deviations of the errors of the stored principal points, along each
        axis, and of the stored source-to-intensifier distances, drawn for each plane and session.
    async_ms : time between the exposures of the planes; at random, ``fs`` is exposed later or earlier in a session.
    distortion : ``"lab"`` for fields that the lab's stored form holds exactly; ``"real"`` for fields like those of
        real intensifiers, which it misses by 0.1 to 0.5 mm RMS. The tables hold the stored form nearest to the
        field, as the lab's would, and ``simulation.json`` the field itself.

    """

    trials: int = 20
    frames_per_trial: int = 30
    pairs: int = PAIRS
    seed: int = 0
    height_px: int = 1600
    ids: FrameIds = "measurement"
    rotation: Rotations = "quaternion"
    csv: bool = False
    bit_depth: Literal[8, 16] = 8
    nifti: bool = False
    marker_frames: int = 4
    fs_translation_mm: float = 0.0
    fs_rotation_deg: float = 0.0
    principal_point_sd_mm: float = 0.0
    sid_sd_mm: float = 0.0
    async_ms: float = 0.0
    distortion: DistortionFields = "lab"

    def __post_init__(self) -> None:
        whole = {
            "trials": (1, 100_000),
            "frames_per_trial": (1, 10_000),
            "pairs": (1, PAIRS),
            "seed": (0, 2**63 - 1),
            "height_px": (100, 3200),
            "marker_frames": (0, 10_000),
        }
        for name, (low, high) in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
                option = f"{name} (--size)" if name == "height_px" else name
                raise SimulationError(f"{option} must be a whole number from {low} to {high}, got {value!r}")
        for name, (option, highest) in _ERRORS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
                raise SimulationError(
                    f"{name} must be a number from 0 to {highest:g}, got {value!r}; omit {option} for no such error"
                )
        choices = {
            "ids": ("measurement", "pose"),
            "rotation": ("quaternion", "euler"),
            "bit_depth": (8, 16),
            "distortion": get_args(DistortionFields),
        }
        for name, expected in choices.items():
            if isinstance(getattr(self, name), float) or getattr(self, name) not in expected:
                raise SimulationError(
                    f"{name} must be {' or '.join(map(repr, expected))}, got {getattr(self, name)!r}"
                )
        if self.csv and self.rotation != "euler":
            raise SimulationError(
                "the CSV files of the download hold Euler angles and no quaternions: set rotation 'euler' too, "
                "or omit csv"
            )

    def measurement_id(self, trial_index: int, frame: int) -> int:
        """Return the id of a frame of a trial, both counted from 0; ids are counted from 1."""
        return 1 + trial_index * self.frames_per_trial + frame

    def place_of(self, measurement_id: int) -> tuple[int, int]:
        """Trial and frame of a measurement id, both from 0."""
        return divmod(measurement_id - 1, self.frames_per_trial)

    def rng(self, stream: Stream, *index: int) -> np.random.Generator:
        """Random numbers for one purpose, such as the noise of one frame."""
        return np.random.default_rng((self.seed, stream, *index))


def parse_height(text: str) -> int:
    """Rows of a raw frame of a size such as ``1600`` or ``1664x1600``.

    Raises
    ------
    SimulationError
        If it is not a size, or does not have the shape of a raw frame.

    """
    match = re.fullmatch(r"(?:(\d{1,6})\s*[xX]\s*)?(\d{1,6})", text.strip())
    if not match:
        raise SimulationError(f"size must be the rows of a raw frame, such as 1600, or 1664x1600; got {text!r}")
    height = int(match[2])
    width = frame_width_px(height)
    if match[1] and int(match[1]) != width:
        raise SimulationError(
            f"raw frames have the shape of {RAW_WIDTH_PX}x{RAW_HEIGHT_PX}: {height} rows go with {width} columns, "
            f"got {text}"
        )
    return height
