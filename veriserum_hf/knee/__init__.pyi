from .axes import (
    AxesFile as AxesFile,
    ImplantAxes as ImplantAxes,
    KneeAxes as KneeAxes,
    knee_axes as knee_axes,
    read_axes as read_axes,
    side_of as side_of,
)
from .coordinates import (
    COORDINATE_NAMES as COORDINATE_NAMES,
    COORDINATES as COORDINATES,
    coordinate_derivatives as coordinate_derivatives,
    joint_coordinates as joint_coordinates,
)
from .cycles import (
    EVENTS as EVENTS,
    Event as Event,
    cycles_of as cycles_of,
    mean_cycle as mean_cycle,
    read_events as read_events,
)
from .figure_files import draw_all as draw_all, save_figure as save_figure
from .figures import (
    draw_axes as draw_axes,
    draw_contact as draw_contact,
    draw_cycles as draw_cycles,
    draw_trial as draw_trial,
    draw_trials as draw_trials,
)
from .files import (
    TABLE_SUFFIXES as TABLE_SUFFIXES,
    check_suffix as check_suffix,
    write_kinematics as write_kinematics,
)
from .frames import counted as counted
from .joint_kinematics import LOWEST as LOWEST, Kinematics as Kinematics, kinematics as kinematics
from .pairs import JointPairs as JointPairs, joint_pairs as joint_pairs
from .smoothing import Noise as Noise, Smoothed as Smoothed, smooth as smooth
