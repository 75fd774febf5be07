"""Put a learning rate into a Lightning module: its attributes, its optimizers and schedulers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from lrsearch.errors import InvalidArgument, NoLearningRateFound, Words
from lrsearch.integrations.lightning.package import package_of
from lrsearch.integrations.lightning.plan import planned_run
from lrsearch.result import Result

__all__ = ["apply_result", "attributes_of"]

_NAMES = ("lr", "learning_rate")
_PEAKS = ("lr", "initial_lr", "max_lr", "min_lr")  # what schedulers keep in a group


def apply_result(result: Result, module: Any, name: str | None = None) -> None:
    """Set the learning rate everywhere in a module; ``result.apply(module)`` calls this.

    These are the attribute and the hyperparameter ``lr`` or ``learning_rate``, from which
    ``configure_optimizers`` makes the next optimizer, and, where the module is in a trainer
    that has made its optimizers, their groups and the base learning rates of their schedulers,
    which keep their place.

    Args:
        result: of :func:`find_lr_for`.
        module: the module that was searched, or one like it.
        name: the attribute or hyperparameter, where it has another name.

    Raises:
        InvalidArgument: this is no module, it has no such attribute and no optimizer yet, or
            its optimizer has another number of groups than the one searched.
        NoLearningRateFound: there is no learning rate to apply.
    """
    package = package_of(module)
    if package is None or not isinstance(module, package.LightningModule):
        raise InvalidArgument.of(
            "module", Words(f"a {type(module).__name__}"), "a LightningModule, or its optimizer"
        )
    if not result.status.found:
        raise NoLearningRateFound(f"There is no learning rate to use: {result.why}", result)
    told: Any = result.settings.get("lightning", {})
    shares: Mapping[str, float] = told.get("attributes", {})
    names = _NAMES if name is None else (name,)
    places = [(*place, shares.get(one, 1.0)) for one in names for place in _places(module, one)]
    optimizers = _optimizers(module)
    if not places and (name is not None or not optimizers):
        raise InvalidArgument.of(
            "module",
            Words(f"a {type(module).__name__} without {' or '.join(names)}"),
            "an attribute or hyperparameter that configure_optimizers reads",
            "Name it: lrsearch.integrations.lightning.apply_result(result, module, name=...); "
            "or use result.lr yourself.",
        )
    if optimizers:
        _set_optimizer(result, module.trainer, optimizers[told.get("optimizer", 0)])
    for place, key, share in places:
        place[key] = result.lr * share


def attributes_of(module: Any, peak: float) -> dict[str, float]:
    """Return which of the usual names the module has, each with its value over ``peak``.

    ``peak`` is the highest learning rate that the first group is going to have, so that what
    ``configure_optimizers`` makes of the value is taken into account.
    """
    found: dict[str, float] = {}
    for name in _NAMES:
        for place, key in _places(module, name):
            value = place[key]
            known = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
            found[name] = float(value) / peak if known else 1.0
    return found


def _places(module: Any, name: str) -> list[tuple[Any, str]]:
    """Where the module keeps a value of this name: its attributes, its hyperparameters."""
    found: list[tuple[Any, str]] = []
    if name in vars(module):
        found.append((vars(module), name))
    hparams = getattr(module, "hparams", None)
    if isinstance(hparams, dict) and name in hparams:
        found.append((hparams, name))
    return found


def _optimizers(module: Any) -> list[torch.optim.Optimizer]:
    """The optimizers that a trainer has made for this module."""
    trainer = getattr(module, "_trainer", None)
    if trainer is None or trainer.lightning_module is not module:
        return []
    return list(trainer.optimizers)


def _set_optimizer(result: Result, trainer: Any, optimizer: torch.optim.Optimizer) -> None:
    """Scale all that the optimizer and its schedulers keep to the new peak."""
    configs = [c for c in trainer.lr_scheduler_configs if c.scheduler.optimizer is optimizer]
    if not configs:
        result.apply(optimizer)
        return
    factor = result.lr / planned_run(trainer, optimizer).lr
    for group in optimizer.param_groups:
        for key in _PEAKS:
            if key in group:
                _scale(group, key, factor)
    for config in configs:
        _scale_scheduler(config.scheduler, factor)


def _scale(holder: Any, key: str, factor: float) -> None:
    if isinstance(holder[key], torch.Tensor):
        holder[key].mul_(factor)
    elif isinstance(holder[key], (int, float)) and math.isfinite(holder[key]):
        holder[key] *= factor


def _scale_scheduler(scheduler: Any, factor: float) -> None:
    """Scale the absolute learning rates that a scheduler, or one inside it, keeps."""
    for name in ("base_lrs", "max_lrs", "_last_lr"):
        values = getattr(scheduler, name, None)
        if isinstance(values, list):
            setattr(scheduler, name, [value * factor for value in values])
    for inner in getattr(scheduler, "_schedulers", ()):
        _scale_scheduler(inner, factor)
