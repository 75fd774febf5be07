"""Whether training is to blame for an error: divergence that raises.

Some losses check their arguments: ``binary_cross_entropy`` wants numbers from 0 to 1, a normal
distribution a positive scale. Where training diverges they raise in the place of returning a loss
that is not finite. Such an error belongs to the learning rate, any other to the user.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.errors import LRSearchError

__all__ = ["Attempt", "all_finite", "attempt", "may_be_divergence", "trained_into"]

_GROWN = 10.0  # times: what outputs are to have grown by, besides the error itself
_USUAL = 1.0  # size from which growth counts: layers may begin at 0


@dataclass(frozen=True)
class Attempt:
    """What came of doing something again.

    Attributes:
        error: what it raised, if anything.
        sizes: the largest magnitude of every module's output, and of the parameters.
    """

    error: Exception | None
    sizes: dict[str, float]


def may_be_divergence(error: Exception) -> bool:
    """Whether an error is of a kind that can come from weights: not ours, not of memory."""
    memory = (MemoryError, torch.OutOfMemoryError)
    return not isinstance(error, (LRSearchError, *memory))


def all_finite(model: nn.Module) -> bool:
    """Whether every weight of the model is finite."""
    return all(math.isfinite(_size(parameter)) for parameter in model.parameters())


def attempt(model: nn.Module, action: Callable[[], object]) -> Attempt:
    """Do something with ``model`` and note how large its outputs become."""
    sizes = {"parameters": max(map(_size, model.parameters()), default=0.0)}
    error: Exception | None = None
    with _watched(model, sizes):
        try:
            action()
        except Exception as raised:
            error = raised
    return Attempt(error, sizes)


def trained_into(now: Attempt, start: Attempt) -> bool:
    """Whether an error came from training: not with the weights at the start, and outputs have
    grown out of proportion since.

    Args:
        now: with the weights as they are, where it was raised.
        start: the same with the weights that the trial began with.
    """
    return start.error is None and any(
        not size <= _GROWN * max(start.sizes[name], _USUAL)
        for name, size in now.sizes.items()
        if math.isfinite(start.sizes.get(name, math.inf))
    )


@contextmanager
def _watched(model: nn.Module, sizes: dict[str, float]) -> Iterator[None]:
    """Note the sizes of all modules' outputs, also of those before an error."""

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            largest = max((_size(tensor) for tensor in _tensors(output)), default=0.0)
            sizes[name] = max(sizes.get(name, 0.0), largest)

        return note

    hooks = [
        module.register_forward_hook(hook(f"output of {name or 'the model'}"))
        for name, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _size(tensor: Tensor) -> float:
    """Return the largest magnitude, infinite where an element is not finite."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
        return 0.0
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    size = float(local.detach().abs().max())
    return size if math.isfinite(size) else math.inf
