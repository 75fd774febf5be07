"""What must be true of a model and its optimizer before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence, ValuesView
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from lrsearch.core.validation import can_take, function, maybe
from lrsearch.errors import InvalidArgument, Words
from lrsearch.pytorch.prepared import optimizers_of
from lrsearch.pytorch.snapshot import Stateful

__all__ = [
    "check_loader",
    "check_loss",
    "check_model_and_optimizer",
    "check_outside_inference_mode",
    "check_scaler",
    "check_stateful",
    "inner_optimizers",
    "multipliers_of",
]

# Their ``lr`` multiplies a step size that they find themselves: searching it answers nothing.
_FREE = ("prodigy", "dadapt", "dog", "ldog", "mechanic", "cocob")


def check_model_and_optimizer(model: nn.Module, optimizer: Any) -> None:
    """Raise if the two cannot be trained together.

    Args:
        model: what is to be trained.
        optimizer: one optimizer, or a list of them.

    Raises:
        InvalidArgument: not a module or an optimizer, no trainable parameter, an optimizer
            that holds none of the model's parameters, or one that needs no learning rate.
    """
    check_outside_inference_mode()
    if not isinstance(model, nn.Module):
        raise InvalidArgument.of("model", model, "a torch.nn.Module")
    optimizers = optimizers_of(optimizer)
    for one in optimizers or (optimizer,):
        if not _is_optimizer(one):
            raise InvalidArgument.of("optimizer", one, "a torch.optim.Optimizer, or a list of them")
    uninitialised = [name for name, p in model.named_parameters() if nn.parameter.is_lazy(p)]
    if uninitialised:
        raise InvalidArgument.of(
            "model",
            Words(f"uninitialised parameters {uninitialised[:3]}"),
            "initialised ones",
            "Run one batch through the lazy modules first.",
        )
    _check_parameters(model)
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    if not trainable:
        raise InvalidArgument.of(
            "model",
            Words(f"{type(model).__name__} without trainable parameters"),
            "at least one",
            "Is everything frozen?",
        )
    held = {id(p) for one in optimizers for group in one.param_groups for p in group["params"]}
    if not held & trainable:
        names = " and ".join(type(one).__name__ for one in optimizers)
        raise InvalidArgument.of(
            "optimizer",
            Words(f"{names} that holds none of the model's trainable parameters"),
            "the optimizer of this model",
            "Was the model rebuilt or moved after the optimizer was made?",
        )
    for one in optimizers:
        _check_has_learning_rate(one)


def check_outside_inference_mode() -> None:
    """Raise inside of ``torch.inference_mode()``, where no gradient can be had.

    Raises:
        InvalidArgument: it is on.
    """
    if torch.is_inference_mode_enabled():
        raise InvalidArgument(
            "torch.inference_mode() is on, and nothing can be trained in it. Search outside of it."
        )


def check_loss(loss_fn: object, compute_loss: object, train_loader: object) -> None:
    """Raise unless the loss can be a loss.

    Raises:
        InvalidArgument: one of them is no function, or is a class; or loss and loader have
            changed places.
    """
    swapped = not callable(loss_fn) and hasattr(loss_fn, "__iter__")
    if swapped and callable(train_loader) and not isinstance(loss_fn, (str, bytes)):
        raise InvalidArgument.of(
            "loss_fn",
            Words(f"a {type(loss_fn).__name__}"),
            "a function",
            "Have loss_fn and train_loader changed places? The loss comes first.",
        )
    for name, given in (("loss_fn", loss_fn), ("compute_loss", compute_loss)):
        maybe(function)(name, given)


def check_loader(name: str, loader: object) -> None:
    """Raise if ``loader`` cannot be one, or is a data set of single examples.

    Raises:
        InvalidArgument: it is no loader.
    """
    kind = type(loader)
    single = isinstance(loader, Dataset) and not isinstance(loader, IterableDataset)
    if single or (kind.__module__.partition(".")[0], kind.__name__) == ("datasets", "Dataset"):
        raise InvalidArgument.of(
            name,
            Words(f"a {kind.__name__}, which gives single examples"),
            "batches",
            "Pass DataLoader(data_set, batch_size=..., shuffle=True); with batch_size=None if "
            "its items are batches already.",
        )
    makes = callable(loader) and can_take(loader) and not isinstance(loader, nn.Module)
    read = not isinstance(loader, type) and hasattr(loader, "__iter__")
    if not (makes or read or hasattr(loader, "__getitem__")):
        raise InvalidArgument.of(name, loader, "an iterable of batches, or a function making one")


def check_scaler(scaler: object) -> None:
    """Raise unless ``scaler`` is ``None`` or scales losses.

    Raises:
        InvalidArgument: it does not.
    """
    needed = ("scale", "unscale_", "step", "update", "get_scale", "is_enabled", "state_dict")
    able = all(callable(getattr(scaler, name, None)) for name in needed)
    if scaler is not None and (isinstance(scaler, type) or not able):
        raise InvalidArgument.of("grad_scaler", scaler, "None or a torch.amp.GradScaler")


def check_stateful(objects: object) -> None:
    """Raise unless all can be put back.

    Raises:
        InvalidArgument: not a list, or one is neither a module nor
            :class:`~lrsearch.pytorch.snapshot.Stateful`.
    """
    if not isinstance(objects, (list, tuple)):
        raise InvalidArgument.of("stateful", objects, "a list of objects that training changes")
    for other in objects:
        if isinstance(other, type) or not isinstance(other, (nn.Module, Stateful)):
            raise InvalidArgument.of(
                "stateful", other, "modules, or objects with state_dict and load_state_dict"
            )


def multipliers_of(groups: Sequence[dict[str, Any]]) -> tuple[float, ...]:
    """Return each group's learning rate divided by that of the first group that is not at 0.

    With a scheduler attached the base rates count (``initial_lr``), since the current ones
    may be zero during a warmup. A group at 0 stays there.

    Raises:
        InvalidArgument: a learning rate is missing, negative or not finite, or all are 0.
    """
    lrs = []
    for index, group in enumerate(groups):
        given = group.get("initial_lr", group.get("lr"))
        if given is None:
            raise InvalidArgument.of(
                f"optimizer.param_groups[{index}]['lr']",
                None,
                "a number >= 0",
                "An optimizer without a learning rate finds its own step size, as Adafactor does "
                "with relative_step=True: make it with a learning rate to search for one, "
                "Adafactor(..., lr=1e-3, relative_step=False, warmup_init=False).",
            )
        lr = float(given)
        if not 0.0 <= lr < float("inf"):
            raise InvalidArgument.of(f"optimizer.param_groups[{index}]['lr']", lr, "a number >= 0")
        lrs.append(lr)
    first = next((lr for lr in lrs if lr > 0.0), None)
    if first is None:
        raise InvalidArgument.of(
            "optimizer.param_groups[0]['lr']",
            0.0,
            "a positive number in one group at least",
            "The ratios between groups are taken against the first one that is not at 0.",
        )
    return tuple(lr / first for lr in lrs)


def inner_optimizers(optimizer: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    """Return optimizers that this one keeps, and that have parameter groups of their own.

    Those that share its groups, as in SAM and Lookahead, follow its learning rates.
    """
    own = {id(group) for group in optimizer.param_groups}
    found: dict[int, torch.optim.Optimizer] = {}
    for value in vars(optimizer).values():
        items = value.values() if isinstance(value, dict) else value
        for item in items if isinstance(items, (list, tuple, ValuesView)) else [value]:
            if isinstance(item, torch.optim.Optimizer) and item is not optimizer:
                found[id(item)] = item
    return [one for one in found.values() if any(id(g) not in own for g in one.param_groups)]


def _is_optimizer(optimizer: object) -> bool:
    groups = getattr(optimizer, "param_groups", None)
    able = all(callable(getattr(optimizer, name, None)) for name in ("step", "state_dict"))
    return (
        able
        and isinstance(groups, list)
        and all(isinstance(group, dict) and "params" in group for group in groups)
    )


def _check_parameters(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        kind = "on the meta device" if parameter.is_meta else "made in torch.inference_mode()"
        if parameter.is_meta or parameter.is_inference():
            raise InvalidArgument.of(
                "model", Words(f"the parameter {name!r} {kind}"), "parameters that can be trained"
            )


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
