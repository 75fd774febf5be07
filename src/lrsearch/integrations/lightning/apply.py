"""Put a learning rate into a Lightning module: its attributes, its optimizers and schedulers."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch

from lrsearch.errors import InvalidArgument, NoLearningRateFound, Words
from lrsearch.integrations.lightning.package import made_anew, made_without_trainer, package_of
from lrsearch.integrations.lightning.plan import planned_run
from lrsearch.integrations.source import line_that_sets
from lrsearch.pytorch.schedulers import follows, peak_of
from lrsearch.result import Result

__all__ = ["apply_result", "attributes_of", "run_after_applying"]

_log = logging.getLogger(__name__)

_NAMES = ("lr", "learning_rate")
_Place: TypeAlias = tuple[Any, str, float]  # a dictionary, its key, the value over the peak


def apply_result(result: Result, module: Any, name: str | None = None) -> None:
    """Set the learning rate everywhere in a module; ``result.apply(module)`` calls this.

    These are the attribute and the hyperparameter ``lr`` or ``learning_rate``, from which
    ``configure_optimizers`` makes the next optimizer, and, where the module is in a trainer
    that has made its optimizers, their groups and all that their schedulers keep, which stay
    at their place. What ``configure_optimizers`` makes of the attribute was read at the end of
    the search: the run must peak at the answer.

    Args:
        result: of :func:`find_lr_for`.
        module: the module that was searched, or one like it.
        name: the attribute or hyperparameter, where it has another name.

    Raises:
        InvalidArgument: this is no module, it has no such attribute and no optimizer yet, its
            optimizer has another number of groups than the one searched, or the run would not
            use the learning rate; the message names the line that sets it. Nothing was set.
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
    place = told.get("optimizer", 0)
    if places and not getattr(getattr(module, "_trainer", None), "training", False):
        after = told.get("after_applying")
        if name is not None:
            steps = result.settings.get("train_steps")
            after = _run_now(module, place, result.lr, places, steps)
        _check_run(result, after, " or ".join(names))
    if optimizers:
        optimizer = optimizers[place]
        configs = module.trainer.lr_scheduler_configs
        result.apply(
            optimizer, [c.scheduler for c in configs if c.scheduler.optimizer is optimizer]
        )
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


def run_after_applying(
    trainer: Any, place: int, lr: float, shares: Mapping[str, float]
) -> dict[str, Any] | None:
    """Return what the next run would be after :func:`apply_result`, read from new optimizers.

    Args:
        trainer: set up for ``fit``.
        place: which of its optimizers.
        lr: what would be applied.
        shares: of :func:`attributes_of`.

    Returns:
        Its ``peak``, and the line that it is ``set_by`` where the peak is not ``lr``; ``None``
        where nothing would be set, or the optimizers cannot be made again.
    """
    module = trainer.lightning_module
    places = [(*at, share) for name, share in shares.items() for at in _places(module, name)]
    if not places:
        return None
    try:
        with _trying(places, lr):
            optimizers, configs = made_anew(module)
            peak = planned_run(trainer, optimizers[place], configs=configs).lr
    except Exception as error:  # the user's code may be meant to run once
        _log.debug("configure_optimizers cannot be called again: %s", error)
        return None
    return _said(module, lr, peak, optimizers[place], [c.scheduler for c in configs])


def _run_now(
    module: Any, place: int, lr: float, places: list[_Place], steps: Any
) -> dict[str, Any] | None:
    """The same after the search, for an attribute that it did not know of."""
    try:
        with _trying(places, lr):
            optimizers, schedulers = made_without_trainer(module)
        optimizer = optimizers[place]
        mine = [one for one in schedulers if one.optimizer is optimizer]
        first = optimizer.param_groups[0]["lr"]
        peak = peak_of(mine, steps if isinstance(steps, int) else None) if mine else float(first)
    except Exception as error:  # it may need its trainer
        _log.debug("configure_optimizers cannot be called here: %s", error)
        return None
    return _said(module, lr, peak, optimizer, mine)


@contextmanager
def _trying(places: list[_Place], lr: float) -> Iterator[None]:
    """Let the attributes have the learning rate for a moment."""
    before = [holder[key] for holder, key, _ in places]
    try:
        for holder, key, share in places:
            holder[key] = lr * share
        yield
    finally:
        for (holder, key, _), value in zip(places, before, strict=True):
            holder[key] = value


def _said(
    module: Any, lr: float, peak: float, optimizer: torch.optim.Optimizer, schedulers: list[Any]
) -> dict[str, Any]:
    if math.isclose(peak, lr, rel_tol=1e-3):
        return {"peak": peak}
    mine = [one for one in schedulers if one.optimizer is optimizer]
    own = tuple(scheduler for scheduler in mine if not follows(scheduler))
    return {"peak": peak, "set_by": line_that_sets(type(module).configure_optimizers, own)}


def _check_run(result: Result, after: Mapping[str, Any] | None, names: str) -> None:
    """Raise if the next run, as it was read, does not use the answer."""
    if after is not None and "set_by" in after:
        raise InvalidArgument(
            f"apply: the run would peak at a learning rate of {after['peak']:.3g}, not at the "
            f"{result.lr:.3g} that was found, since it does not come from the module's "
            f"{names}. It is set in {after['set_by']}. Let it use the module's attribute, or write "
            "result.lr there. Nothing was set."
        )
