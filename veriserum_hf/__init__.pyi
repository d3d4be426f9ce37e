from .archive import VeriserumArchive as VeriserumArchive
from .calibration import Distortion as Distortion
from .core import __version__ as __version__
from .errors import (
    ArchiveError as ArchiveError,
    CalibrationError as CalibrationError,
    ConversionError as ConversionError,
    FrameError as FrameError,
    VeriserumError as VeriserumError,
)
from .geometry import Camera as Camera, DualPlaneRig as DualPlaneRig, Plane as Plane
from .knee import kinematics as kinematics
from .modeling import VeriserumPoseModel as VeriserumPoseModel
from .registration import Deviations as Deviations, register as register
from .rendering import path_length as path_length
from .training import PoseCollator as PoseCollator
