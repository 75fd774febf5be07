"""What a search measures on held-out data: how much of it, by what loss, in which mode.

One evaluation reads the same batches at every learning rate. When there are many it reads a part
of them, spread evenly, since data are often sorted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lrsearch.errors import InvalidArgument
from lrsearch.pytorch.batches import BatchStream
from lrsearch.pytorch.loss import batch_size, number_of

__all__ = ["Evaluate", "GradMode", "Portion", "Work", "gradients_apart"]

Evaluate = Callable[[nn.Module], Any]  # model -> a number, lower is better

_SHARE = 0.25  # of the work of a search that evaluations may take, by default
_FORWARD = 1 / 3  # work of evaluating a batch over that of training on it
_ALWAYS = 512  # examples that an evaluation may always read
_ALWAYS_BATCHES = 2


@dataclass(frozen=True)
class Work:
    """What a search is expected to do: the measure of what its evaluations may cost.

    Attributes:
        steps: optimizer steps, over all trials.
        evaluations: evaluations, over all trials.
    """

    steps: float
    evaluations: int

    def examples(self, per_step: int) -> int:
        """Return how many examples an evaluation may read, given how many a step trains on.

        So many that all evaluations together take a quarter of the search's work at most, and
        512 always: with fewer the answer would get noisier to save little.

        Example:
            >>> Work(steps=1000, evaluations=20).examples(64), Work(10, 20).examples(64)
            (3200, 512)
        """
        training = self.steps * per_step
        most = _SHARE / (1.0 - _SHARE) * training / (self.evaluations * _FORWARD)
        return max(_ALWAYS, int(most))


class Portion:
    """Chooses the batches of an evaluation: all, or so many, evenly spread.

    Args:
        batches: how many; or ``None``: as many as have ``examples()`` examples.
        examples: is asked when that is needed; returns ``None`` for all.

    Attributes:
        stream: the batches that are chosen from, when it is known.
    """

    def __init__(self, batches: int | None, examples: Callable[[], int | None]) -> None:
        self._batches = batches
        self._examples = examples
        self.stream: BatchStream | None = None

    def __call__(self, every: Iterator[Any]) -> Iterator[Any]:
        """Yield the chosen ones of ``every`` batch of a pass."""
        first = next(every, _NOTHING)
        if first is _NOTHING:
            return
        every = itertools.chain([first], every)
        length = None if self.stream is None else self.stream.length
        most = self._most(first, length)
        if most is None or (length is not None and most >= length):
            yield from every
        elif length is None:
            yield from itertools.islice(every, most)
        else:
            places = [int((number + 0.5) * length / most) for number in range(most)]
            wanted = set(places)
            numbered = enumerate(itertools.islice(every, places[-1] + 1))
            yield from (batch for place, batch in numbered if place in wanted)

    def _most(self, first: Any, length: int | None) -> int | None:
        if self._batches is not None:
            return self._batches
        always = max(_ALWAYS_BATCHES, _ALWAYS // batch_size(first))
        if length is not None and length <= always:
            return length
        examples = self._examples()
        if examples is not None:
            return max(always, math.ceil(examples / batch_size(first)))
        if self.stream is not None and self.stream.endless:
            raise InvalidArgument.of(
                "val_batches", None, "a number, as a function that returns one batch has no end"
            )
        return None


class GradMode:
    """Whether a held-out loss needs gradients, found when it is computed for the first time.

    Forces are slopes of an energy: such a loss cannot be computed under ``no_grad``, which
    most can, with less memory.

    Args:
        name: what computes the loss, for errors.
        of_training: whether that is the loss of the training, which was not made for eval mode.
    """

    def __init__(self, name: str, of_training: bool) -> None:
        self._name = name
        self._of_training = of_training
        self._needs: bool | None = None

    @property
    def needs_gradients(self) -> bool:
        """Whether it has been found to need them."""
        return self._needs is True

    def __call__(self, compute: Callable[[], Any], model: nn.Module) -> float | None:
        """Return the loss, ``None`` when the batch is passed over.

        Raises:
            InvalidArgument: the training's loss exists in training mode only.
        """
        if self._needs is not None:
            with torch.set_grad_enabled(self._needs):
                return self._number(compute())
        try:
            with torch.no_grad():
                loss = self._number(compute())
        except Exception as error:
            if isinstance(error, RuntimeError) and "grad" in str(error):
                return self._with_gradients(compute, model)
            self._check_mode(error, compute, model)
            raise
        self._needs = False
        return loss

    def _with_gradients(self, compute: Callable[[], Any], model: nn.Module) -> float | None:
        try:
            with torch.enable_grad():
                loss = self._number(compute())
        except Exception as error:
            self._check_mode(error, compute, model)
            raise
        self._needs = True
        return loss

    def _check_mode(self, error: Exception, compute: Callable[[], Any], model: nn.Module) -> None:
        """Raise if the loss of the training always fails in eval mode, and never in training."""
        if not self._of_training:
            return
        again = self._error_of(compute)
        model.train()
        try:
            # What training mode changes is put back with everything else.
            in_training = self._error_of(compute)
        finally:
            model.eval()
        if type(again) is type(error) and in_training is None:
            raise InvalidArgument(
                "val_loss: the loss of the training cannot be computed in eval mode, where the "
                f"model's output is another ({type(error).__name__}: {error}). Pass val_loss=..., "
                "a function (model, batch) -> loss for held-out batches, or evaluate=..., a "
                "function (model) -> number, lower is better."
            ) from error

    def _error_of(self, compute: Callable[[], Any]) -> Exception | None:
        try:
            with torch.enable_grad():
                self._number(compute())
        except Exception as error:
            return error
        return None

    def _number(self, loss: Any) -> float | None:
        return None if loss is None else number_of(self._name, loss)


@contextmanager
def gradients_apart(parameters: Callable[[], Iterator[torch.Tensor]]) -> Iterator[None]:
    """Take the gradients away for a while, so that an evaluation adds nothing to them."""
    kept = [(parameter, parameter.grad) for parameter in parameters()]
    try:
        for parameter, _ in kept:
            parameter.grad = None
        yield
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient


_NOTHING = object()
