from .autoscoper import (
    AutoscoperTrial as AutoscoperTrial,
    AutoscoperVolume as AutoscoperVolume,
    read_autoscoper as read_autoscoper,
    write_autoscoper as write_autoscoper,
)
from .camera import (
    Camera as Camera,
    Size as Size,
    project as project,
    rows_columns as rows_columns,
    viewing_axes as viewing_axes,
)
from .camera_files import (
    JOINTTRACK_AXES as JOINTTRACK_AXES,
    read_jointtrack as read_jointtrack,
    read_mayacam as read_mayacam,
    write_jointtrack as write_jointtrack,
    write_mayacam as write_mayacam,
)
from .camera_rows import detector_mm as detector_mm, first_px_of_whole as first_px_of_whole
from .femoral_component import Condyles as Condyles, shown_side as shown_side
from .grid import (
    FIELD_MM as FIELD_MM,
    NATIVE_SIZE as NATIVE_SIZE,
    mm_to_px as mm_to_px,
    pixel_size_mm as pixel_size_mm,
    px_to_mm as px_to_mm,
)
from .implant_axes import axes_in_mesh as axes_in_mesh, mesh_axes as mesh_axes
from .joint import (
    KNEE_ANGLES as KNEE_ANGLES,
    angle_errors_deg as angle_errors_deg,
    knee_angles_deg as knee_angles_deg,
)
from .plane import Plane as Plane
from .pose import (
    angle_between_deg as angle_between_deg,
    canonical_quaternion as canonical_quaternion,
    euler_zxy_to_matrix as euler_zxy_to_matrix,
    invert_transform as invert_transform,
    make_transform as make_transform,
    matrix_to_euler_zxy as matrix_to_euler_zxy,
    matrix_to_quaternion as matrix_to_quaternion,
    mirror_pose as mirror_pose,
    quaternion_to_matrix as quaternion_to_matrix,
    transform_points as transform_points,
)
from .rig import NOMINAL_T_WORLD_FS as NOMINAL_T_WORLD_FS, DualPlaneRig as DualPlaneRig
from .sessions import session_numbers as session_numbers
from .tibial_component import Tray as Tray
