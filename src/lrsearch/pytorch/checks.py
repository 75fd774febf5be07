"""What must be true of a model and its optimizer before anything is trained."""

from __future__ import annotations

import torch
from torch import nn

from lrsearch.errors import InvalidArgument, Words
from lrsearch.pytorch.snapshot import Stateful

__all__ = ["check_model_and_optimizer", "check_stateful", "multipliers_of"]

# Their ``lr`` multiplies a step size that they find themselves: searching it answers nothing.
_FREE = ("prodigy", "dadapt", "dog", "ldog", "mechanic", "cocob")


def check_model_and_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise if the two cannot be trained together.

    Raises:
        InvalidArgument: not a module or an optimizer, no trainable parameter, an optimizer
            that holds none of the model's parameters, or one that needs no learning rate.
    """
    if not isinstance(model, nn.Module):
        raise InvalidArgument.of("model", model, "a torch.nn.Module")
    if not isinstance(getattr(optimizer, "param_groups", None), list):
        raise InvalidArgument.of("optimizer", optimizer, "a torch.optim.Optimizer")
    uninitialised = [name for name, p in model.named_parameters() if nn.parameter.is_lazy(p)]
    if uninitialised:
        raise InvalidArgument.of(
            "model",
            Words(f"uninitialised parameters {uninitialised[:3]}"),
            "initialised ones",
            "Run one batch through the lazy modules first.",
        )
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    if not trainable:
        raise InvalidArgument.of(
            "model",
            Words(f"{type(model).__name__} without trainable parameters"),
            "at least one",
            "Is everything frozen?",
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not held & trainable:
        raise InvalidArgument.of(
            "optimizer",
            Words(
                f"{type(optimizer).__name__} that holds none of the model's trainable parameters"
            ),
            "the optimizer of this model",
            "Was the model rebuilt or moved after the optimizer was made?",
        )
    _check_has_learning_rate(optimizer)


def check_stateful(objects: object) -> None:
    """Raise unless all can be put back.

    Raises:
        InvalidArgument: not a list, or one is neither a module nor
            :class:`~lrsearch.pytorch.snapshot.Stateful`.
    """
    if not isinstance(objects, (list, tuple)):
        raise InvalidArgument.of("stateful", objects, "a list of objects that training changes")
    for other in objects:
        if not isinstance(other, (nn.Module, Stateful)):
            raise InvalidArgument.of(
                "stateful", other, "modules, or objects with state_dict and load_state_dict"
            )


def multipliers_of(optimizer: torch.optim.Optimizer) -> tuple[float, ...]:
    """Return each group's learning rate divided by the first group's.

    With a scheduler attached the base rates count (``initial_lr``), since the current ones
    may be zero during a warmup.

    Raises:
        InvalidArgument: a learning rate is missing, negative or not finite, or the first is 0.
    """
    lrs = []
    for index, group in enumerate(optimizer.param_groups):
        lr = float(group.get("initial_lr", group.get("lr", float("nan"))))
        if not 0.0 <= lr < float("inf"):
            raise InvalidArgument.of(f"optimizer.param_groups[{index}]['lr']", lr, "a number >= 0")
        lrs.append(lr)
    if lrs[0] == 0.0:
        raise InvalidArgument.of(
            "optimizer.param_groups[0]['lr']",
            0.0,
            "a positive number",
            "The ratios between groups are taken against the first one.",
        )
    return tuple(lr / lrs[0] for lr in lrs)


def _check_has_learning_rate(optimizer: torch.optim.Optimizer) -> None:
    name = type(optimizer).__name__
    adapts = any("d_coef" in group or "d0" in group for group in optimizer.param_groups)
    if adapts or name.lower().startswith(_FREE):
        raise InvalidArgument.of(
            "optimizer",
            Words(name),
            "one that takes a learning rate",
            f"{name} finds its own step size and its lr only multiplies it: leave lr at 1 and "
            "scale with its own knob (d_coef, where it has one).",
        )
