"""Train and eval modes, of modules and of the optimizers that have them too.

Schedule-Free optimizers keep two sets of weights, one for training and one for evaluation,
and change between them by ``train()`` and ``eval()``: A. Defazio et al., "The Road Less
Scheduled", arXiv 2405.15682.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lrsearch.pytorch.contents import Contents, is_plain
from lrsearch.pytorch.store import put_back

__all__ = ["evaluating", "start_training"]


@runtime_checkable
class _HasModes(Protocol):
    def train(self) -> None: ...
    def eval(self) -> None: ...


def start_training(model: nn.Module, *optimizers: torch.optim.Optimizer) -> None:
    """Put all into training mode. Parts of a model that trains already keep their own modes."""
    if not model.training:
        model.train()
    for optimizer in optimizers:
        if isinstance(optimizer, _HasModes):
            optimizer.train()


@contextmanager
def evaluating(model: nn.Module, *optimizers: torch.optim.Optimizer) -> Iterator[None]:
    """Put all into eval mode for a while; every weight and mode is the same afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with ExitStack() as eval_modes:
            for optimizer in optimizers:
                eval_modes.enter_context(_eval_mode_of(optimizer))
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _eval_mode_of(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    if not isinstance(optimizer, _HasModes):
        yield
        return
    # train() undoes eval() up to rounding only, so the weights themselves are put back.
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    values = [weight.detach().clone() for weight in weights]
    tensors: dict[int, Tensor] = {}
    owners = (*optimizer.param_groups, vars(optimizer))
    flags = [Contents.of(owner, tensors, lambda _, value: is_plain(value)) for owner in owners]
    try:
        optimizer.eval()
        yield
    finally:
        for contents in flags:
            contents.put_back()
        put_back(weights, values)
