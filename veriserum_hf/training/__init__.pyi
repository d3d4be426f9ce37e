from .batches import FrameSamples as FrameSamples, collate as collate
from .build import (
    load_anatomies as load_anatomies,
    make_model as make_model,
    model_inputs as model_inputs,
    training_batches as training_batches,
    validation_loader as validation_loader,
)
from .checkpoints import (
    CHECKPOINTS as CHECKPOINTS,
    latest_checkpoint as latest_checkpoint,
    load_checkpoint as load_checkpoint,
    save_checkpoint as save_checkpoint,
    seed_step as seed_step,
)
from .optimization import averaged as averaged, parameter_groups as parameter_groups
from .settings import TrainingSettings as TrainingSettings, parse_settings as parse_settings
