"""What a search may change on a trainer, kept and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import Trainer

from lrsearch.core.interrupt import uninterrupted
from lrsearch.pytorch.object_state import capture
from lrsearch.pytorch.random_state import read_random_state

__all__ = ["left_as_it_was", "unwrapped"]


@contextmanager
def left_as_it_was(trainer: Trainer) -> Iterator[None]:
    """Put back the trainer and all it holds in the end, whatever happens, to the bit.

    The search itself puts back weights, optimizer state and random states as they are when it
    begins; here it is what making ready for it changes: attributes, wrappers, hooks, gradients.
    """
    random = read_random_state()
    modules = _modules(trainer)
    objects = [*_objects(trainer), *modules]
    # Only which objects there are: their values are the search's to put back.
    attributes = capture(
        [(type(one).__name__, one) for one in objects], copied=lambda *_: False, longest=1000
    )
    gradients = [(p, p.grad) for p in trainer.model.parameters()]
    weights = _weights(trainer)
    trainer.callback_handler.callbacks = []
    # A lane that diverges must not be ranked by the examples on which it did not.
    trainer.args.logging_nan_inf_filter = False
    try:
        yield
    finally:
        with uninterrupted(), torch.no_grad():
            random.restore()
            for tensor, values in weights:
                tensor.copy_(values)
            for parameter, gradient in gradients:
                parameter.grad = gradient
            attributes.restore()


def unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """Return the optimizer inside Accelerate's."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def _modules(trainer: Trainer) -> list[nn.Module]:
    found = {id(m): m for root in (trainer.model, trainer.model_wrapped) for m in root.modules()}
    return list(found.values())


def _objects(trainer: Trainer) -> list[object]:
    model, optimizer, accelerator = trainer.model, trainer.optimizer, trainer.accelerator
    inner = unwrapped(optimizer)
    maybe = (
        getattr(model, "config", None),
        getattr(model, "generation_config", None),
        optimizer,
        inner,
        trainer.lr_scheduler,
        *([] if inner is None else inner.param_groups),
    )
    # Arguments, state, control, callbacks, accelerator, trackers, and whatever comes to be there.
    theirs = [thing for thing in vars(trainer).values() if _is_theirs(thing)]
    present = [thing for thing in maybe if thing is not None]
    return [trainer, *theirs, accelerator.gradient_state, *present]


def _is_theirs(thing: object) -> bool:
    packages = {kind.__module__.partition(".")[0] for kind in type(thing).__mro__}
    return hasattr(thing, "__dict__") and not packages.isdisjoint({"transformers", "accelerate"})


def _weights(trainer: Trainer) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Copies of the weights where making ready changes them: processes take over the first's."""
    if trainer.accelerator.num_processes == 1:
        return []
    tensors = [*trainer.model.parameters(), *trainer.model.buffers()]
    return [(tensor, tensor.detach().clone()) for tensor in tensors]
