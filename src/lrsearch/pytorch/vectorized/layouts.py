"""Layers and losses written so that batched trials fill the kernels they run in.

``vmap`` puts the trials in front of whatever a layer does for one model. For a dense layer that
means ``(trials, examples, features)`` and products whose narrow side is the number of features.
Feature-major, ``(trials, features, examples)``, the same products run up to twice as fast, one
input shared by all trials becomes a single large product, and a softmax over ten classes works
along memory instead of in a thousand rows of ten. The results differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["Layouts"]

_CLASSES = 64  # above it a softmax over the last axis is fast enough as it is


class Layouts(TorchFunctionMode):
    """While active, ``linear`` and ``cross_entropy`` on matrices use the layout above.

    Random numbers come in the order in which one model would draw them, and no check reads
    numbers out of tensors. Anything else, and these with arguments that are not listed here,
    runs as it is.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        ours = _OURS.get(func)
        result = None if ours is None else ours(*args, **kwargs)
        return func(*args, **kwargs) if result is None else result


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    if x.ndim != 2 or weight.ndim != 2 or torch.is_autocast_enabled(x.device.type):
        return None
    turned = weight @ x.t()  # (features out, examples)
    return (turned if bias is None else turned + bias.unsqueeze(1)).t()


def _cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, **options: Any
) -> Tensor | None:
    if weight is not None or {**_DEFAULT, **options} != _DEFAULT:
        return None
    if logits.ndim != 2 or target.ndim != 1 or target.dtype != torch.int64:
        return None
    if logits.shape[1] > _CLASSES or logits.dtype not in (torch.float32, torch.float64):
        return None
    counted = target.ne(-100)
    logp = torch.log_softmax(logits.t(), 0)  # (classes, examples)
    # Taken out rather than multiplied out: elsewhere logp may be -inf.
    right = logp.gather(0, torch.where(counted, target, 0).unsqueeze(0)).squeeze(0)
    return torch.where(counted, right, 0.0).sum() / -counted.sum()


def _like(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Fill in the order that one model would: a turned layout must not turn random numbers."""

    def contiguous(x: Tensor, **options: Any) -> Tensor:
        return function(x, **{"memory_format": torch.contiguous_format, **options})

    return contiguous


def _one_hot(labels: Tensor, num_classes: int = -1) -> Tensor | None:
    """Without reading the labels' range, as ``one_hot`` does to check it."""
    if num_classes < 1 or labels.dtype != torch.int64:
        return None
    zeros = torch.zeros(*labels.shape, num_classes, dtype=labels.dtype, device=labels.device)
    return zeros.scatter(-1, labels.unsqueeze(-1), 1)


_DEFAULT = {
    "size_average": None,
    "ignore_index": -100,
    "reduce": None,
    "reduction": "mean",
    "label_smoothing": 0.0,
}

_OURS: dict[Any, Callable[..., Tensor | None]] = {
    F.linear: _linear,
    F.cross_entropy: _cross_entropy,
    F.one_hot: _one_hot,
    torch.rand_like: _like(torch.rand_like),
    torch.randn_like: _like(torch.randn_like),
    torch.empty_like: _like(torch.empty_like),
}
