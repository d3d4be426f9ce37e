from .train import run_training as run_training
