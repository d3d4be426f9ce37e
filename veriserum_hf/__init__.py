"""Veriserum, dual-plane fluoroscopy of knee implants, as Hugging Face datasets.

Importing this package registers the builder: ``load_dataset("veriserum", data_files="PATH/....db")``.
"""

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
]

from veriserum_hf.dataset.builder import register

register()
