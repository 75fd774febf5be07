"""Train and eval modes, of modules and of the optimizers that have them too.

Schedule-Free optimizers keep two sets of weights, one for training and one for evaluation,
and change between them by ``train()`` and ``eval()``: A. Defazio et al., "The Road Less
Scheduled", arXiv 2405.15682.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from lrsearch.core.interrupt import uninterrupted
from lrsearch.pytorch.snapshot import restore, take

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
def evaluating(
    model: nn.Module,
    *optimizers: torch.optim.Optimizer,
    others: Iterable[object] = (),
    apart: Iterable[object] = (),
) -> Iterator[None]:
    """Put all into eval mode for a while; everything is the same afterwards.

    A plain loop that does not evaluate goes on in the same way: with the hidden state that
    training left, and no statistics of held-out batches.

    Args:
        model: what is evaluated.
        optimizers: its optimizers. ``train()`` of one that has modes undoes ``eval()`` up to
            rounding only, so its state is put back too.
        others, apart: what else an evaluation may change, as for :func:`~.snapshot.take`.
    """
    with_modes = [optimizer for optimizer in optimizers if isinstance(optimizer, _HasModes)]
    beside = [one for one in others if not isinstance(one, torch.optim.Optimizer)]
    before = take(model, with_modes, others=beside, apart=apart)
    try:
        model.eval()
        for optimizer in with_modes:
            optimizer.eval()
        yield
    finally:
        with uninterrupted():
            restore(before)
