"""Veriserum, dual-plane fluoroscopy of knee implants, as Hugging Face datasets.

Importing this package registers the builder: ``load_dataset("veriserum", data_files="PATH/....db")``.
"""

from typing import TYPE_CHECKING, Any

from veriserum_hf.archive.archive import VeriserumArchive
from veriserum_hf.calibration.distortion import Distortion
from veriserum_hf.errors import ArchiveError, CalibrationError, ConversionError, FrameError, VeriserumError
from veriserum_hf.geometry.rig import DualPlaneRig, Plane

__version__ = "0.1.0"
__all__ = [
    "ArchiveError",
    "CalibrationError",
    "ConversionError",
    "Distortion",
    "DualPlaneRig",
    "FrameError",
    "Plane",
    "VeriserumArchive",
    "VeriserumError",
    "path_length",
]

from veriserum_hf.dataset.builder import register

if TYPE_CHECKING:
    from veriserum_hf.rendering.path_length import path_length

register()


def __getattr__(name: str) -> Any:
    """Import the renderer on first use: its compiler takes as long as everything else together."""
    if name == "path_length":
        from veriserum_hf.rendering.path_length import path_length

        return path_length
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
