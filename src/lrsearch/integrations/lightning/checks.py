"""What must be true of a trainer before anything is trained."""

from __future__ import annotations

from typing import Any

import torch

from lrsearch.core.search import Method
from lrsearch.errors import InvalidArgument, Words
from lrsearch.integrations.lightning.package import check_package
from lrsearch.integrations.lightning.plan import Planned
from lrsearch.integrations.lightning.steps import overridden

__all__ = ["check_length", "check_strategy", "check_trainer", "chosen_optimizer"]

_REFUSED = {
    "DeepSpeed": "partitions the optimizer's state",
    "FSDP": "shards the parameters",
    "ModelParallel": "shards the parameters",
    "XLA": "runs on devices whose state cannot be copied step by step",
    "HPU": "runs on devices whose state cannot be copied step by step",
}
_LONG = ("auto", "race", "sweep")  # methods that need the planned length


def check_trainer(trainer: Any, module: Any) -> None:
    """Raise if ``find_lr_for`` cannot search this trainer and module.

    Raises:
        InvalidArgument: with the reason and the way out.
    """
    check_package(trainer, module)
    check_strategy(trainer)
    module = getattr(module, "_orig_mod", module)
    if not overridden(module, "configure_optimizers"):
        raise _no_optimizer(module)
    if getattr(trainer.strategy.launcher, "_start_method", None) is not None:
        raise InvalidArgument.of(
            "trainer.strategy",
            Words(f"{type(trainer.strategy).__name__} that starts its processes in fit"),
            "a strategy whose processes find_lr_for can return from",
            "Use strategy='ddp', or the callback LearningRateSearch, which searches in there.",
        )


def check_strategy(trainer: Any) -> None:
    """Raise if the trainer's strategy keeps the training in a way that cannot be restored."""
    name = " ".join(kind.__name__ for kind in type(trainer.strategy).__mro__)
    for word, reason in _REFUSED.items():
        if word in name:
            raise InvalidArgument.of(
                "trainer.strategy",
                Words(type(trainer.strategy).__name__),
                "a strategy of one device, or DDP",
                f"It {reason}. Search with a smaller model or on one device, and use the answer "
                "here: Trainer(devices=1) with the same batch size in all.",
            )


def check_length(plan: Planned, method: str | Method) -> None:
    """Raise when a method needs the length of the planned run and nothing tells it."""
    if plan.endless and plan.steps is None and method in _LONG:
        raise InvalidArgument.of(
            "train_dataloaders",
            Words("data of unknown length, in epochs"),
            "a planned run of known length",
            "Pass train_steps=..., set Trainer(max_steps=...), or use method='range'.",
        )


def chosen_optimizer(trainer: Any, wanted: int | str | None) -> tuple[int, torch.optim.Optimizer]:
    """Return the optimizer that was named, and its place.

    Args:
        trainer: with its optimizers made.
        wanted: its place, or the name of its class; ``None`` where there is only one.

    Raises:
        InvalidArgument: there is none, or it is not clear which one.
    """
    optimizers = list(trainer.optimizers)
    names = [type(one).__name__ for one in optimizers]
    if not optimizers or names == ["_MockOptimizer"]:
        raise _no_optimizer(trainer.lightning_module)
    places = ", ".join(f"{place} ({name})" for place, name in enumerate(names))
    if wanted is None and len(optimizers) == 1:
        return 0, optimizers[0]
    if isinstance(wanted, int) and not isinstance(wanted, bool) and -1 < wanted < len(optimizers):
        return wanted, optimizers[wanted]
    if isinstance(wanted, str) and names.count(wanted) == 1:
        return names.index(wanted), optimizers[names.index(wanted)]
    raise InvalidArgument.of(
        "optimizer",
        wanted,
        f"one of those that configure_optimizers returned: {places}",
        "Pass its place or, where it is the only one of it, the name of its class.",
    )


def _no_optimizer(module: Any) -> InvalidArgument:
    return InvalidArgument.of(
        "module.configure_optimizers",
        Words(f"no optimizer from {type(module).__name__}"),
        "one that returns an optimizer",
        "Its learning rate is what is searched.",
    )
