"""One update exactly as Lightning makes it: its hooks, its precision plugin, its strategy."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from lrsearch.errors import InvalidArgument, Words
from lrsearch.integrations.lightning.data import Item
from lrsearch.pytorch.batches import BatchStream

__all__ = ["Steps", "loss_of", "overridden"]

_log = logging.getLogger(__name__)

_MOST = 100  # batches in a row from which no update came
_SKIPS = 32  # updates in a row that the loss scaler skipped


class Steps:
    """Makes updates with one optimizer of the module, in a trainer that is set up.

    Args:
        trainer: set up for ``fit``.
        optimizer: the optimizer, as ``configure_optimizers`` returned it.
        accumulate: batches per update; fewer at the end of a pass.
    """

    def __init__(self, trainer: Any, optimizer: torch.optim.Optimizer, accumulate: int) -> None:
        self._trainer = trainer
        self._module = trainer.lightning_module
        self._strategy = trainer.strategy
        self._optimizer = optimizer
        self._accumulate = accumulate
        self._scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._wants_index = _wants_index(self._module.training_step)
        hooks = ("on_train_batch_start", "on_train_batch_end")
        self._around = any(overridden(self._module, hook) for hook in hooks)

    def __call__(self, batches: BatchStream) -> float:
        """Make one update at the optimizer's learning rate; return its mean loss before it.

        Batches for which ``training_step`` returns ``None`` are passed over, and an update that
        the loss scaler skips is tried again on the next batches.

        Raises:
            InvalidArgument: the module sets another learning rate, or makes no update.
        """
        make = self._automatic if self._module.automatic_optimization else self._manual
        lr = float(self._optimizer.param_groups[0]["lr"])
        for _ in range(_SKIPS):
            scale = self._scale()
            losses = make(batches, lr)
            # The scale falls when gradients overflowed and never otherwise.
            if self._scale() >= scale:
                return sum(float(loss) for loss in losses) / len(losses)
        _log.warning("the loss scaler skipped %d updates in a row", _SKIPS)
        return math.nan

    def arguments(self, item: Item) -> tuple[Any, ...]:
        """Return what ``training_step`` is called with."""
        return (item.batch, item.index) if self._wants_index else (item.batch,)

    def _scale(self) -> float:
        return 1.0 if self._scaler is None else float(self._scaler.get_scale())

    def _automatic(self, batches: BatchStream, lr: float) -> list[Tensor]:
        for _ in range(_MOST):
            losses: list[Tensor] = []
            first = True
            for item, last in batches.group(self._accumulate):
                losses += self._batch(item, lr, first=first, last=last)
                first = False
            if losses:
                return losses
        raise _no_update("training_step returned None every time")

    def _batch(self, item: Item, lr: float, *, first: bool, last: bool) -> Sequence[Tensor]:
        """Run one batch; return its loss, or nothing when ``training_step`` has none."""
        module, epoch = self._module, self._trainer.current_epoch
        outputs: list[Any] = []

        def closure() -> Tensor | None:
            with torch.enable_grad():
                output = self._strategy.training_step(*self.arguments(item))
                outputs.append(output)
                loss = loss_of(output, self._trainer)
                share = loss / self._accumulate if loss is not None else None
                if first:
                    module.on_before_zero_grad(self._optimizer)
                    module.optimizer_zero_grad(epoch, item.index, self._optimizer)
                if share is not None:
                    self._strategy.backward(share, self._optimizer)
            self._check(lr)
            return None if share is None else share.detach().clone()

        with self._hooks_around(item, outputs):
            if last:
                optimizer = module.optimizers()
                module.optimizer_step(epoch, item.index, optimizer, closure)
            else:
                with _unsynchronised(self._strategy):
                    closure()
        loss = loss_of(outputs[0], self._trainer) if outputs else None
        return () if loss is None else (loss.detach(),)

    def _manual(self, batches: BatchStream, lr: float) -> list[Tensor]:
        """Run ``training_step``, which makes the updates itself, until one was made."""
        made: list[bool] = []
        counting = self._optimizer.register_step_post_hook(lambda *_: made.append(True))
        losses: list[Tensor] = []
        try:
            for _ in range(_MOST):
                item = batches.next()
                outputs: list[Any] = []
                with self._hooks_around(item, outputs), torch.enable_grad():
                    outputs.append(self._strategy.training_step(*self.arguments(item)))
                loss = loss_of(outputs[0], self._trainer)
                losses += [] if loss is None else [loss.detach()]
                if made:
                    return self._told(losses)
        finally:
            counting.remove()
        raise _no_update(f"training_step never stepped this {type(self._optimizer).__name__}")

    def _told(self, losses: list[Tensor]) -> list[Tensor]:
        if losses:
            return losses
        raise InvalidArgument.of(
            "module.training_step",
            Words("an update without a loss (manual optimization)"),
            "the loss of the optimizer searched, as its return value",
            "Return it, or a dictionary with it under 'loss'.",
        )

    def _check(self, lr: float) -> None:
        """The learning rate of the curve must be the one in the optimizer."""
        there = float(self._optimizer.param_groups[0]["lr"])
        if abs(there - lr) > 1e-6 * lr:
            raise InvalidArgument.of(
                "module.optimizer_step",
                Words(f"a hook that sets the learning rate ({lr:.4g} became {there:.4g})"),
                "hooks that leave it alone",
                "Return a scheduler from configure_optimizers instead: it is read as the "
                "schedule of the planned run.",
            )

    @contextmanager
    def _hooks_around(self, item: Item, outputs: list[Any]) -> Iterator[None]:
        """Call the module's own hooks around a batch."""
        if self._around:
            self._module.on_train_batch_start(item.batch, item.index)
        yield
        if self._around:
            output = outputs[0] if outputs else None
            told = {"loss": output.detach()} if isinstance(output, Tensor) else output or {}
            self._module.on_train_batch_end(told, item.batch, item.index)


def loss_of(output: Any, trainer: Any) -> Tensor | None:
    """Return the loss in what ``training_step`` returned.

    Raises:
        InvalidArgument: there is none, it is no scalar, or a process of several has none.
    """
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if loss is None and not isinstance(output, Mapping) and trainer.world_size == 1:
        return None
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        kind = type(loss).__name__
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {kind}"
        raise InvalidArgument.of(
            "module.training_step", Words(got), "a scalar tensor, or a dictionary with 'loss'"
        )
    return loss


def overridden(module: Any, hook: str) -> bool:
    """Whether the module has its own version of a hook of Lightning."""
    if hook in vars(module):
        return True
    for kind in type(module).__mro__:
        if hook in vars(kind):
            return kind.__module__.partition(".")[0] not in ("pytorch_lightning", "lightning")
    return False


def _wants_index(training_step: Callable[..., Any]) -> bool:
    """As Lightning: the second argument, whatever its name, is the number of the batch."""
    parameters = inspect.signature(training_step).parameters.values()
    kinds = [parameter.kind for parameter in parameters]
    return len(kinds) >= 2 or inspect.Parameter.VAR_POSITIONAL in kinds


def _unsynchronised(strategy: Any) -> AbstractContextManager[Any]:
    """Gradients of all but the last batch of an update stay in their process."""
    context = getattr(strategy, "block_backward_sync", None)
    return nullcontext() if context is None else context()


def _no_update(reason: str) -> InvalidArgument:
    return InvalidArgument.of(
        "module.training_step", Words(f"{_MOST} batches without an update"), "an update", reason
    )
