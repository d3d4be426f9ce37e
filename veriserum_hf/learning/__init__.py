"""Batches, augmentation and what a training run keeps."""

try:
    import accelerate  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401
except ImportError as error:
    raise ImportError(
        'training needs torch, accelerate and transformers: pip install "veriserum-hf[train]"'
    ) from error
