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
from .phantoms import (
    BEAD_DIAMETER_MM as BEAD_DIAMETER_MM,
    BEAD_PITCH_MM as BEAD_PITCH_MM,
    BEADS_PER_SIDE as BEADS_PER_SIDE,
    CYLINDER_HEIGHT_MM as CYLINDER_HEIGHT_MM,
    CYLINDER_RADIUS_MM as CYLINDER_RADIUS_MM,
    CYLINDER_WALL_MM as CYLINDER_WALL_MM,
    cylinder_bead_diameters_mm as cylinder_bead_diameters_mm,
    cylinder_beads_mm as cylinder_beads_mm,
    grid_beads_mm as grid_beads_mm,
)
from .polynomial_distortion import PolynomialDistortion as PolynomialDistortion, powers_of as powers_of
from .source import RigFit as RigFit, SourceFit as SourceFit, fit_rig as fit_rig, fit_source as fit_source
from .summary import (
    grid_lines as grid_lines,
    grid_numbers as grid_numbers,
    source_lines as source_lines,
    source_numbers as source_numbers,
    translation_and_rotation as translation_and_rotation,
)
