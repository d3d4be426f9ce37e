from .bead_grid import GridFit as GridFit, fit_bead_grid as fit_bead_grid
from .distortion import Distortion as Distortion
from .distortion_files import read_distortion as read_distortion, text_of_entry as text_of_entry
from .distortion_forms import STORED as STORED, FormFit as FormFit
from .distortion_map import (
    RAW_HEIGHT_PX as RAW_HEIGHT_PX,
    RAW_WIDTH_PX as RAW_WIDTH_PX,
    DistortionMap as DistortionMap,
    frame_width_px as frame_width_px,
    text_hash as text_hash,
)
from .image_map import ImageMap as ImageMap, read_image_map as read_image_map
from .markers import find_markers as find_markers
from .observations import DualObservation as DualObservation, Observation as Observation
from .phantom_files import (
    CYLINDER as CYLINDER,
    SIPLA_GRID as SIPLA_GRID,
    load_grid_phantom as load_grid_phantom,
    load_marker_phantom as load_marker_phantom,
)
from .phantoms import GridPhantom as GridPhantom, MarkerPhantom as MarkerPhantom
from .polynomial_distortion import PolynomialDistortion as PolynomialDistortion, powers_of as powers_of
from .refined_cameras import (
    Per as Per,
    RefinedCameras as RefinedCameras,
    RefinedRig as RefinedRig,
    RigVerdict as RigVerdict,
)
from .refined_cameras_file import (
    read_refined_cameras as read_refined_cameras,
    refined_cameras_json as refined_cameras_json,
    refined_cameras_sha256 as refined_cameras_sha256,
)
from .rig_details import (
    MOST_TOLERANCES as MOST_TOLERANCES,
    BeforeAfter as BeforeAfter,
    Cells as Cells,
    ResidualField as ResidualField,
    RigDetails as RigDetails,
)
from .sized_camera import SizedCamera as SizedCamera
from .source import RigFit as RigFit, SourceFit as SourceFit, fit_rig as fit_rig, fit_source as fit_source
from .summary import (
    grid_lines as grid_lines,
    grid_numbers as grid_numbers,
    source_lines as source_lines,
    source_numbers as source_numbers,
    translation_and_rotation as translation_and_rotation,
)
