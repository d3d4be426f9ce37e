"""Parts of the pose model that stay in single precision, whatever the type of the other weights.

Half precision would round a rotation to a fifth of a degree, and a point of an implant to a quarter of a millimetre.
"""

from collections.abc import Callable

from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


def keeping_type(change: Change) -> Change:
    """The same change of a tensor, such as to another device or type, but of its device and layout alone."""

    def changed(tensor: Tensor) -> Tensor:
        found = change(tensor)
        return found if found.dtype == tensor.dtype else tensor.to(found.device)

    return changed


class SinglePrecision(nn.Module):
    """A module that ``half()``, ``bfloat16()`` and ``to(dtype)`` of the model around it leave in float32.

    ``from_pretrained(dtype=...)`` does not call these: the model names such modules in
    ``_keep_in_fp32_modules_strict``.
    """

    def _apply(self, fn: Change, recurse: bool = True) -> "SinglePrecision":
        super()._apply(keeping_type(fn), recurse)  # type: ignore[no-untyped-call]
        return self


class SingleLinear(SinglePrecision, nn.Linear):
    """A linear layer in float32."""
