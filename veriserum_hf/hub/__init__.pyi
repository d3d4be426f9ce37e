from .datasets import ConvertedFolder as ConvertedFolder, push_dataset as push_dataset, what_stays as what_stays
from .matched_poses import MatchedPoses as MatchedPoses
from .models import MODEL_VERSION as MODEL_VERSION, push_model as push_model
from .push import Pushed as Pushed, prepare_repository as prepare_repository
