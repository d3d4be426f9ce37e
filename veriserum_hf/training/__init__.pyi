from .collator import PoseCollator as PoseCollator
from .train import run_training as run_training
from .worlds import WorldBatches as WorldBatches, validation_worlds as validation_worlds
