"""How far refitted sources and poses are from the stored ones, and whether that is more than chance."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from veriserum_hf.calibration import RigFit, translation_and_rotation
from veriserum_hf.core import BoolArray, FloatArray
from veriserum_hf.geometry import Plane

MOST_SOURCE_MM, MOST_ROTATION_DEG = 1.0, 0.15  # 0.15 degrees are 1 mm where the central rays cross
CERTAIN = 4.0  # standard deviations


@dataclass(frozen=True)
class Difference:
    """Three refitted numbers minus the stored ones, and their standard deviations."""

    names: tuple[str, str, str]
    values: FloatArray
    std: FloatArray
    unit: Literal["mm", "deg"]
    most: float

    @property
    def certain(self) -> BoolArray:
        """Which of them differ by more than chance and by enough to matter."""
        return np.asarray(np.abs(self.values) > np.maximum(CERTAIN * self.std, self.most))

    def stated(self, which: BoolArray) -> str:
        """Return some of them as text."""
        off = zip(self.names, self.values, self.std, which, strict=True)
        unit = "mm" if self.unit == "mm" else "degrees"
        return ", ".join(f"{name} {value:+.3f} +- {std:.3f}" for name, value, std, shown in off if shown) + f" {unit}"


def source_difference(found: Plane, stored: Plane, std_mm: FloatArray) -> Difference:
    """Refitted source of a plane minus the stored one, with standard deviations (3,) mm."""
    off_mm = np.append(found.principal_point_mm - stored.principal_point_mm, found.sid_mm - stored.sid_mm)
    return Difference(("principal point h", "principal point v", "SID"), off_mm, std_mm, "mm", MOST_SOURCE_MM)


def inter_plane_differences(fit: RigFit, stored: FloatArray) -> dict[str, Difference]:
    """Shift and rotation of the refitted ``fs`` intensifier from the stored one, along and about the world's axes."""
    translation_mm, rotation_deg = translation_and_rotation(fit.T_world_fs, stored)
    std = fit.standard_deviations
    return {
        # Keys of the JSON document, which scripts read.
        "fs_shift": Difference(
            ("fs centre x", "fs centre y", "fs centre z"), translation_mm, std[6:9], "mm", MOST_SOURCE_MM
        ),
        "fs_turn": Difference(
            ("fs rotation about x", "about y", "about z"), rotation_deg, std[9:12], "deg", MOST_ROTATION_DEG
        ),
    }
