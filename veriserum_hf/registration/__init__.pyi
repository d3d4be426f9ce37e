from .common_offset import CommonOffset as CommonOffset
from .data_sets import Registrations as Registrations, register_dataset as register_dataset
from .deviations import Deviations as Deviations
from .inputs import implants_of as implants_of
from .labels import LabelCheck as LabelCheck, check_labels as check_labels
from .pose_search import candidate_poses as candidate_poses, find_poses as find_poses
from .refine import register as register
