"""Short pretraining of a backbone without labels: it fills in patches of frames that are hidden from it.

Masked image modelling in its simplest form (SimMIM, Xie et al. 2022): a linear layer predicts grey levels of the
hidden patches from the backbone's map. Frames are those of a training split; no pose is read.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_dataset
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig

from veriserum_hf.core import IMAGE_OF
from veriserum_hf.modeling.backbone_veriserum import FeatureMap
from veriserum_hf.modeling.heads_veriserum import standardised

_PATCH_PX = 16  # that is hidden or not, and what one place of the map predicts
_HIDDEN = 0.6
_BATCH, _WARMUP = 64, 50
_LEARNING_RATE, _WEIGHT_DECAY = 1e-3, 0.05


def pretrained(folder: Path, config: dict[str, Any], dataset: Path, *, steps: int, crop_px: int) -> None:
    """Put a pretrained backbone into ``folder``, as the hub has them.

    Parameters
    ----------
    folder : for its weights and configuration; it must not be there.
    config : ``model_type`` and the other fields of a configuration of transformers, of a map with a place for every
        patch.
    dataset : converted, whose training split is shown.
    steps : of training.
    crop_px : edge of the parts of frames that are shown, a multiple of the patch.

    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    backbone = FeatureMap(AutoConfig.for_model(**config))
    decoder = nn.Conv2d(backbone.channels, _PATCH_PX**2, 1)
    weights = [*backbone.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LEARNING_RATE, total_steps=steps, pct_start=_WARMUP / steps
    )
    frames = load_dataset(str(dataset), "calibrated", split="train").with_format(
        "numpy", columns=[*IMAGE_OF.values()]
    )
    for _ in range(steps):
        shown = standardised(_crops(frames, crop_px, rng))
        loss = _error(backbone, decoder, shown, rng)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
    backbone.model.save_pretrained(folder)


def _crops(frames: Dataset, crop_px: int, rng: np.random.Generator) -> Tensor:
    """Parts (B, 1, crop, crop) of random frames, at random places within their middle, where knees are."""
    crops = []
    for row in frames.select(rng.integers(len(frames), size=_BATCH // len(IMAGE_OF))):
        for name in IMAGE_OF.values():
            image = row[name]
            top, left = (rng.integers(size // 8, size - crop_px - size // 8) for size in image.shape)
            crops.append(torch.tensor(image[top : top + crop_px, left : left + crop_px], dtype=torch.float32))
    return torch.stack(crops)[:, None]


def _error(backbone: FeatureMap, decoder: nn.Module, shown: Tensor, rng: np.random.Generator) -> Tensor:
    """Mean absolute error of grey levels in the hidden patches."""
    places = shown.shape[-1] // _PATCH_PX
    hidden = torch.from_numpy(rng.random((len(shown), 1, places, places)) < _HIDDEN).float()
    hidden_px = hidden.repeat_interleave(_PATCH_PX, -2).repeat_interleave(_PATCH_PX, -1)
    features = backbone(shown * (1 - hidden_px))
    predicted = functional.pixel_shuffle(decoder(features), _PATCH_PX)
    return ((predicted - shown).abs() * hidden_px).sum() / hidden_px.sum()
