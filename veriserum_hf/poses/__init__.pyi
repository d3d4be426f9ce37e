from .conversion import (
    FrameIds as FrameIds,
    poses_of_implant as poses_of_implant,
    poses_of_trajectory as poses_of_trajectory,
    trajectory_of_poses as trajectory_of_poses,
)
from .differences import (
    DEGREES_OF_FREEDOM as DEGREES_OF_FREEDOM,
    DEVIATIONS_95 as DEVIATIONS_95,
    pose_differences as pose_differences,
)
from .estimates import Estimates as Estimates
from .files import (
    check_poses as check_poses,
    check_same_frame as check_same_frame,
    estimates_of as estimates_of,
    poses_by_frame as poses_by_frame,
    read_poses as read_poses,
    transforms as transforms,
)
from .formats import is_csv as is_csv, write_poses as write_poses
from .schema import (
    JOINT_MOTION as JOINT_MOTION,
    JOINTTRACK_SUFFIXES as JOINTTRACK_SUFFIXES,
    MANUAL_SCHEMA as MANUAL_SCHEMA,
    PREDICTED_SCHEMA as PREDICTED_SCHEMA,
    REGISTERED_SCHEMA as REGISTERED_SCHEMA,
    TABLE_SUFFIXES as TABLE_SUFFIXES,
    TRAJECTORY_SUFFIXES as TRAJECTORY_SUFFIXES,
    TRUTH_SCHEMA as TRUTH_SCHEMA,
)
from .session_planes import (
    SessionPlanes as SessionPlanes,
    common_direction as common_direction,
    planes_by_session as planes_by_session,
    planes_table as planes_table,
)
from .trajectories import read_trajectory as read_trajectory, write_trajectory as write_trajectory
