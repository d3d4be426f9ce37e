"""Optimiser, schedule and averaged weights."""

import re
from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]

# Such as encoder.stages.1.layers.0, or encoder.layer.5.
_LAYER = re.compile(r"^.*?\.\d+(?:\.(?:layers|blocks)\.\d+)?")


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, float | list[Tensor]]]:
    """Parameters by learning rate and weight decay.

    The head learns at ``learning_rate``. Each layer of ``model.backbone`` learns at ``layer_decay`` times the rate of
    the layer above it: the first layers of a pretrained backbone are the most general. Biases and norms do not decay.
    """
    below_head = _below_head([name for name, _ in model.named_parameters() if name.startswith("backbone.")])
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            lr = learning_rate * layer_decay ** below_head.get(name, 0)
            groups.setdefault((lr, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    # The schedule of a resumed run needs the rate that it began with.
    return [
        {"params": tensors, "lr": lr, "initial_lr": lr, "weight_decay": decay}
        for (lr, decay), tensors in groups.items()
    ]


def _below_head(names: Sequence[str]) -> dict[str, int]:
    """How many layers below the head each parameter of a backbone is, from their names in the backbone's order.

    What is in no numbered layer, such as patch embeddings or a last norm, is before or after them all.
    """
    found = [_LAYER.match(name) for name in names]
    last = max((index for index, match in enumerate(found) if match), default=0)
    layer = [match[0] if match else "stem" if index < last else "end" for index, match in enumerate(found)]
    layers = list(dict.fromkeys(layer))
    return {name: len(layers) - layers.index(of_it) for name, of_it in zip(names, layer, strict=True)}


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a model's weights and buffers.

    The average follows quickly at first, ``min(decay, (1 + n) / (10 + n))`` after n steps, so that random weights are
    soon forgotten.
    """

    def average(ones: Tensors, others: Tensors, updates: Tensor | int) -> None:
        n = float(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(ones, others, updates)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
