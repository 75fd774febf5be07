"""One optimizer update: the gradient of its micro-batches, clipped, scaled, and the step."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.core.validation import positive, whole
from lrsearch.errors import During, InvalidArgument, Words
from lrsearch.pytorch.batches import BatchStream
from lrsearch.pytorch.distributed import ALONE, Ranks
from lrsearch.pytorch.loss import checked_loss

__all__ = ["Clipping", "Updater", "needs_closure"]

_log = logging.getLogger(__name__)

_LARGEST = 3e38  # bound of a gradient that single precision can hold
_SKIPS = 32  # in a row: a loss scale that is 2^32 too large is not the reason
_LOSS = During("computing the loss")
_BACKWARD = During("computing the gradients")
_STEP = During("stepping the optimizer")


@dataclass(frozen=True)
class Clipping:
    """Bounds of the gradient, each as torch's function of that name applies it.

    Args:
        value: the largest size of an element (``clip_grad_value_``), or ``None``.
        norm: the largest norm of the whole, after that (``clip_grad_norm_``), or ``None``.
    """

    value: float | None = None
    norm: float | None = None

    def __post_init__(self) -> None:
        for name in ("value", "norm"):
            bound = getattr(self, name)
            if bound is not None:
                bound = positive(f"clip_grad_{name}", bound, most=_LARGEST)
            object.__setattr__(self, name, bound)

    def __bool__(self) -> bool:
        return self.value is not None or self.norm is not None

    def __call__(self, parameters: Sequence[Tensor]) -> None:
        """Clip the gradients of ``parameters`` in place."""
        if self.value is not None:
            nn.utils.clip_grad_value_(parameters, self.value)
        if self.norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.norm)


class Updater:
    """Makes updates of one optimizer, as the planned run will make them.

    Args:
        optimizer: what steps.
        loss_of: the loss of a batch.
        beside: parameters outside the optimizer that get gradients too.
        accumulate: micro-batches per update; fewer at the end of a pass over the data.
        clipping: bounds of the gradient.
        scaler: the loss scaler, if there is one.
        ranks: the processes that train together.

    Raises:
        InvalidArgument: ``accumulate`` is no number from 1, or the optimizer needs a closure
            and there is a loss scaler, which torch cannot combine.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        loss_of: Callable[[Any], Tensor],
        *,
        beside: Iterable[Tensor] = (),
        accumulate: int = 1,
        clipping: Clipping = Clipping(),
        scaler: torch.amp.GradScaler | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._optimizer = optimizer
        self._loss_of = loss_of
        self._accumulate = whole("accumulate", accumulate, 1)
        self._clipping = clipping
        self._scaler = scaler
        self._ranks = ranks
        self._closure = needs_closure(optimizer)
        if self._closure and scaler is not None and scaler.is_enabled():
            raise InvalidArgument.of(
                "grad_scaler",
                Words(f"a scaler with {type(optimizer).__name__}, which needs a closure"),
                "None",
                "Train in bfloat16 or float32, which need no scaler.",
            )
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._graded = list({id(p): p for p in (*self._parameters, *beside)}.values())

    def __call__(self, batches: BatchStream) -> float:
        """Make one update on the next batches; return their mean loss before it.

        An update that the loss scaler skips is tried again on the batches after them, at the
        same learning rate: the loss is that of the batches the update was made on.
        """
        for _ in range(_SKIPS):
            with _uncompiled_step(self._optimizer):
                loss, made = self._attempt(batches.group(self._accumulate))
            # Dropped at once: a snapshot taken now should not hold gradients.
            self._drop_gradients()
            if made or not math.isfinite(loss):
                return loss
        _log.warning("the loss scaler skipped %d updates in a row", _SKIPS)
        return math.nan

    def _attempt(self, group: Iterable[tuple[Any, bool]]) -> tuple[float, bool]:
        """Return the loss, and whether there was an update."""
        if self._closure:
            return self._with_closure(list(group)), True
        loss = self._gradients(group)
        if self._scaler is None:
            self._clipping(self._parameters)
            with _STEP:
                self._optimizer.step()
            return loss, True
        scale = self._scaler.get_scale()
        if self._clipping:
            self._scaler.unscale_(self._optimizer)
            self._clipping(self._parameters)
        with _STEP:
            self._scaler.step(self._optimizer)
        self._scaler.update()
        # The scale falls when gradients overflowed and never otherwise.
        return loss, self._scaler.get_scale() >= scale

    def _with_closure(self, group: Sequence[tuple[Any, bool]]) -> float:
        """Let the optimizer evaluate the same batches as often as it wants."""
        losses: list[float] = []

        def closure() -> Tensor:
            losses.append(self._gradients(group))
            self._clipping(self._parameters)
            return torch.tensor(losses[-1])

        with _STEP:
            self._optimizer.step(closure)  # type: ignore[arg-type]
        return losses[0]

    def _gradients(self, group: Iterable[tuple[Any, bool]]) -> float:
        """Set the gradients to those of the mean loss of the group, and return that loss."""
        losses: list[float] = []
        with torch.enable_grad():
            self._drop_gradients()
            for batch, last in self._ranks.group(group):
                with self._ranks.micro_batch(last):
                    with _LOSS:
                        loss = checked_loss(self._loss_of(batch))
                    share = loss / self._accumulate if self._accumulate > 1 else loss
                    self._ranks.ready(last)
                    scaled = share if self._scaler is None else self._scaler.scale(share)
                    with _BACKWARD:
                        scaled.backward()  # type: ignore[no-untyped-call]
                losses.append(loss.item())
        if len(losses) < self._accumulate:
            grads = [p.grad for p in self._graded if p.grad is not None]
            torch._foreach_mul_(grads, self._accumulate / len(losses))
        return self._ranks.mean(sum(losses) / len(losses))

    def _drop_gradients(self) -> None:
        for parameter in self._graded:
            parameter.grad = None


@contextmanager
def _uncompiled_step(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let a step that the user gave to ``torch.compile`` run as it is.

    Compiled code is bound to the very tensors of the optimizer's state, and to a learning rate
    that is a float: it would be compiled anew for every lane.
    """
    compiled = vars(optimizer).get("step")
    plain = getattr(compiled, "_torchdynamo_orig_callable", None)
    if plain is None:
        yield
        return
    vars(optimizer)["step"] = plain
    try:
        yield
    finally:
        vars(optimizer)["step"] = compiled


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer's step must be given a function that evaluates the loss again."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
