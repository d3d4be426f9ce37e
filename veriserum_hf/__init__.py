"""Veriserum, dual-plane fluoroscopy of knee implants, as Hugging Face datasets.

Importing this package registers the builder: ``load_dataset("veriserum", data_files="PATH/....db")``.
"""

from importlib import import_module
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
    "VeriserumPoseModel",
    "path_length",
    "register",
]

from veriserum_hf.dataset.builder import register as register_builder

if TYPE_CHECKING:
    from veriserum_hf.modeling import VeriserumPoseModel
    from veriserum_hf.registration.refine import register
    from veriserum_hf.rendering.path_length import path_length

register_builder()


_LAZY = {  # what takes longer to import than everything else together
    "VeriserumPoseModel": "veriserum_hf.modeling",
    "path_length": "veriserum_hf.rendering.path_length",
    "register": "veriserum_hf.registration.refine",
}


def __getattr__(name: str) -> Any:
    """Import the renderer and the model on first use."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
