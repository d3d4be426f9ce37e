from .animation import check_output as check_output, draw_trial as draw_trial, write_animation as write_animation
from .outline_image import draw_outlines as draw_outlines
from .outlines import COLORS as COLORS, PoseSet as PoseSet, check_pose_sets as check_pose_sets, label_of as label_of
from .overlay import draw_axes as draw_axes
from .recording import check_recording as check_recording, write_recording as write_recording
from .views import View as View, grey_of as grey_of, views_of as views_of
