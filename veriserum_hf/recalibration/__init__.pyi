from .audit import CalibrationAudit as CalibrationAudit, audit_calibrations as audit_calibrations
from .cameras_in_archive import NewCameras as NewCameras, new_cameras as new_cameras, write_cameras as write_cameras
from .inputs import (
    chosen_frames as chosen_frames,
    distortions_of as distortions_of,
    initial_rig as initial_rig,
    open_archive as open_archive,
)
from .phantom_frames import (
    PhantomFrame as PhantomFrame,
    Seen as Seen,
    find_in_frames as find_in_frames,
    fit_grid as fit_grid,
    plane_and_number as plane_and_number,
)
from .refit import Refit as Refit
from .write_calibration import write_distortion as write_distortion, write_source as write_source
