"""Vision backbones of transformers with one interface: a grey image in, a spatial map of features out."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

# Pretraining with hidden patches, and vectors of whole images: no feature map depends on their weights.
_OF_OTHER_TASKS = ("mask_token", "pooler.", "swin.layernorm.")


class FeatureMap(nn.Module):
    """A backbone whose features are a spatial map.

    Parameters
    ----------
    config : of any vision backbone of transformers.
    channels : of the images.
    model : the backbone itself; without it, one with random weights is made.

    """

    def __init__(self, config: Any, channels: int = 1, model: Any = None) -> None:
        super().__init__()
        if model is None:
            config = copy.deepcopy(config)
            config.num_channels = channels
            model = _class_of(config)._from_config(config)
        self.model = model
        self.has_maps = type(model.config) in MODEL_FOR_BACKBONE_MAPPING
        self.channels = int(model.channels[-1] if self.has_maps else model.config.hidden_size)
        for name, parameter in model.named_parameters():
            if any(part in name for part in _OF_OTHER_TASKS):  # several processes would wait for their gradients
                parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, channels, rows, columns) of images (B, C, size, size), in the type of the weights."""
        images = images.to(self.model.dtype)
        if self.has_maps:
            features: Tensor = self.model(images).feature_maps[-1]
            return features
        # Plain transformers give tokens: a class token first, then patches row by row.
        tokens = self.model(images, interpolate_pos_encoding=True).last_hidden_state
        patch = self.model.config.patch_size
        rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
        patches: Tensor = tokens[:, -rows * columns :].mT.unflatten(-1, (rows, columns))
        return patches


def load_backbone(name_or_path: str, channels: int = 1) -> PreTrainedModel:
    """Load a pretrained backbone from the hub or a folder, in float32, with its stem converted to grey channels.

    A stem of three channels is given the sum of its weights: a grey image then has the features of the same image
    in red, green and blue. Several channels share it, so that the same image in all of them has these features too.

    Raises
    ------
    ValueError
        If there is no such backbone, or transformers has no vision backbone of its type.

    """
    model: PreTrainedModel
    try:
        config = AutoConfig.from_pretrained(name_or_path)
        model, info = _class_of(config).from_pretrained(
            name_or_path, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except OSError as error:
        raise ValueError(
            f"no backbone {name_or_path!r}: {str(error).splitlines()[0]} Expected the id of a vision model on the "
            "hub, such as facebook/convnextv2-tiny-22k-224, a folder with one, or a configuration with its model_type"
        ) from error
    # A norm after the last stage is the backbone's own: models of other tasks have another, or none.
    fresh = ("hidden_states_norms.", *_OF_OTHER_TASKS)
    missing = sorted(key for key in info["missing_keys"] if not any(part in key for part in fresh))
    if missing:
        raise ValueError(
            f"{name_or_path!r} does not hold the weights of a {config.model_type}: {', '.join(missing[:5])} "
            f"({len(missing)} in all) are missing"
        )
    grey_stem(model, channels)
    return model


def grey_stem(model: PreTrainedModel, channels: int) -> None:
    """Convert the stem of three channels into one of ``channels``, with the same sum of weights."""
    module: Any
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and module.groups == 1:
            summed = module.weight.detach().sum(1, keepdim=True).expand(-1, channels, -1, -1)
            module.weight, module.in_channels = nn.Parameter(summed / channels), channels
        if hasattr(module, "num_channels"):
            module.num_channels = channels
    config: Any = model.config
    config.num_channels = channels


def _class_of(config: PreTrainedConfig) -> Any:
    if type(config) in MODEL_FOR_BACKBONE_MAPPING:
        return MODEL_FOR_BACKBONE_MAPPING[type(config)]
    if not hasattr(config, "num_channels") or not hasattr(config, "patch_size"):
        raise ValueError(
            f"{config.model_type!r} is not a vision backbone: expected convnext, convnextv2, vit, dinov2, "
            "dinov3_vit, swin, resnet or another that transformers' AutoBackbone knows"
        )
    return AutoModel._model_mapping[type(config)]
