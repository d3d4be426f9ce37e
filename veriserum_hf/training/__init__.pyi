from .collator import PoseCollator as PoseCollator
from .train import run_training as run_training
