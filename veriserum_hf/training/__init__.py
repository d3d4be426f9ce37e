"""Training of the pose model: settings, batches, augmentation, checkpoints."""

import lazy_loader

try:
    import accelerate  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401
except ImportError as error:
    raise ImportError(
        'training needs torch, accelerate and transformers: pip install "veriserum-hf[train]"'
    ) from error

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
