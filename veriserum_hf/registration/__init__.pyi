from .cameras.refine import refine_cameras as refine_cameras
from .cameras.unknowns import FREE as FREE, Tolerances as Tolerances
from .data_sets import Registrations as Registrations, register_dataset as register_dataset
from .deviations import Deviations as Deviations
from .from_images.found_poses import find_poses as find_poses, ranked_poses as ranked_poses
from .from_images.pose_search import candidate_poses as candidate_poses
from .inputs import implants_of as implants_of
from .labels.check import LabelCheck as LabelCheck, check_labels as check_labels
from .labels.common_offset import CommonOffset as CommonOffset
from .moved_poses import move_poses as move_poses
from .refine import register as register
from .trials.trial import register_trial as register_trial
