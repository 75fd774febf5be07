"""What must be true of a model and its optimizer before anything is trained."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from lrsearch.core.validation import can_take, function, maybe
from lrsearch.errors import InvalidArgument, Words
from lrsearch.pytorch.snapshot import Stateful

__all__ = [
    "check_loader",
    "check_loss",
    "check_model_and_optimizer",
    "check_outside_inference_mode",
    "check_scaler",
    "check_stateful",
    "multipliers_of",
]

# Their ``lr`` multiplies a step size that they find themselves: searching it answers nothing.
_FREE = ("prodigy", "dadapt", "dog", "ldog", "mechanic", "cocob")


def check_model_and_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise if the two cannot be trained together.

    Raises:
        InvalidArgument: not a module or an optimizer, no trainable parameter, an optimizer
            that holds none of the model's parameters, or one that needs no learning rate.
    """
    check_outside_inference_mode()
    if not isinstance(model, nn.Module):
        raise InvalidArgument.of("model", model, "a torch.nn.Module")
    if not _is_optimizer(optimizer):
        raise InvalidArgument.of("optimizer", optimizer, "a torch.optim.Optimizer")
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
