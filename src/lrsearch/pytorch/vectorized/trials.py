"""Several copies of one training, stepped together, each at its own learning rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.core.trainable import LanesFailed, TooManyLanes
from lrsearch.pytorch.batches import BatchStream
from lrsearch.pytorch.loss import ComputeLoss, batch_size, to_device
from lrsearch.pytorch.modes import evaluating, start_training
from lrsearch.pytorch.random_state import read_random_state, seed_everything
from lrsearch.pytorch.vectorized.gradients import Gradients, GradientSource, Objective
from lrsearch.pytorch.vectorized.state import StackedState, stacked

__all__ = ["BatchedTrials", "Recipe", "failure", "failures"]

_QUICK = 2e-3  # seconds for one trial's batch below which the time may go into calling kernels
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
_SAME = 1e-3  # of a held-out loss: what may lie between one trial evaluated alone and with others


@dataclass(frozen=True)
class Recipe:
    """What a trainable is made of, as far as batched trials need it.

    Attributes:
        model: lends its code; its weights are where the trials begin.
        optimizer: its options, and the state the trials begin with.
        compute_loss: ``compute_loss(model, batch)`` on the model's device.
        ratios: learning rate of each parameter group over that of the first.
        batches: the training data, at the place where the trials begin.
        held_out: the held-out data, if there is any.
        accumulate: batches per step; fewer at the end of a pass.
        clip_grad_norm: the largest norm of a trial's gradient, or ``None``.
        clip_grad_value: the largest size of an element of the gradient, or ``None``.
        seed: what a run that has made no step yet seeds everything with.
        steps: steps made before.
        remember: returns a function that brings back the present state of everything.
        autocast: whether ``compute_loss`` runs under autocast.
        grad_scaler: the loss scaler, if there is one.
        beside: what else the loss uses.
        moving: names of the buffers that training changes.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    compute_loss: ComputeLoss
    ratios: tuple[float, ...]
    batches: BatchStream
    held_out: BatchStream | None
    accumulate: int
    clip_grad_norm: float | None
    clip_grad_value: float | None
    seed: int
    steps: int
    remember: Callable[[], Callable[[], None]]
    autocast: bool = False
    grad_scaler: torch.amp.GradScaler | None = None
    beside: tuple[object, ...] = ()
    moving: frozenset[str] = frozenset()


class BatchedTrials:
    """Trials that begin at the recipe's present state, on common batches and random draws.

    The model lends its code only; :meth:`close` brings everything back to where it was.
    Whatever goes wrong, in a loader too, is raised as ``LanesFailed``: trained sequentially,
    the same trials may work, and if not, they raise the error itself.

    Args:
        recipe: what to train.
        count: how many trials.

    Raises:
        LanesFailed: they cannot be made.
        TooManyLanes: fewer may be.
    """

    def __init__(self, recipe: Recipe, count: int) -> None:
        self._recipe = recipe
        self._count = count
        self._live: list[int] = []  # places of the live trials in the state
        self._device = next(recipe.model.parameters()).device
        self._undo = recipe.remember()
        with failures():
            self._objective = Objective(recipe.model, recipe.compute_loss, recipe.beside)
            self._held_out = _HeldOut(self._objective, recipe, self._device)
            self._adopt(self._fresh())
            self._begin()

    def __enter__(self) -> BatchedTrials:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def settled(self) -> bool:
        """Whether the next step takes as long as those after it."""
        return self._source.settled

    def step(self, lrs: Sequence[float]) -> list[float]:
        """Make a step of every live trial at its learning rate; return the losses before it.

        Args:
            lrs: learning rates of the first parameter group, in the order of the live trials.

        Raises:
            LanesFailed: the trials cannot go on together.
            TooManyLanes: fewer of them may.
        """
        began = time.perf_counter()
        with failures():
            if len(self._live) < self._state.count and self._idle > self._seconds:
                # Trials that ended have cost as much by now as tracing without them will.
                self._adopt(self._state.selected(self._live))
            settled = self._source.settled
            group = self._recipe.batches.group(self._recipe.accumulate)
            results = [self._source(to_device(batch, self._device)) for batch, _ in group]
            losses = self._update(results, lrs)
        seconds = time.perf_counter() - began
        if not (settled and self._source.settled):
            self._seconds += seconds
        self._idle += (1.0 - len(self._live) / self._state.count) * seconds
        return [losses[trial] for trial in self._live]

    def rehearse(self) -> list[float]:
        """Return the losses on the next batch, with gradients by ``vmap`` but without a step.

        Raises:
            LanesFailed: the model cannot be batched over trials.
        """
        with failures():
            batch = to_device(self._recipe.batches.next(), self._device)
            losses: list[float] = self._source.by_vmap(batch).losses.tolist()
        return losses

    def drop(self, lanes: Sequence[int]) -> None:
        """Take live trials out, by their places among the live ones."""
        gone = set(lanes)
        self._live = [trial for place, trial in enumerate(self._live) if place not in gone]

    def evaluate(self, lanes: Sequence[int] | None = None) -> list[float]:
        """Return held-out losses in eval mode, every example weighing the same.

        Args:
            lanes: places among the live trials; all of them when not given.

        Raises:
            LanesFailed: there is no held-out data, or the trials cannot be evaluated.
        """
        chosen = self._live if lanes is None else [self._live[place] for place in lanes]
        with failures():
            return self._held_out.losses(self._state.selected(chosen))

    def reset(self) -> None:
        """Return every trial, dropped ones too, to where the trials began."""
        self._undo()
        if self._state.count == self._count:
            self._state.copy_(self._fresh())
            self._live = list(range(self._count))
        else:
            self._adopt(self._fresh())
        self._begin()

    def close(self) -> None:
        """Bring everything back to where it was. Further calls do nothing."""
        undo, self._undo = self._undo, _nothing
        undo()

    def _fresh(self) -> StackedState:
        recipe = self._recipe
        return stacked(recipe.model, recipe.optimizer, recipe.ratios, self._count, recipe.moving)

    def _begin(self) -> None:
        """Seed and set the mode as the first step of a single run does."""
        if self._recipe.steps == 0:
            seed_everything(self._recipe.seed, self._recipe.batches.generators)
            start_training(self._recipe.model, self._recipe.optimizer)

    def _adopt(self, state: StackedState) -> None:
        self._state = state
        self._live = list(range(state.count))
        parts = (state.parameters, state.buffers, state.shared)
        self._source = GradientSource(self._objective, *parts)
        self._seconds = 0.0  # what tracing took
        self._idle = 0.0  # time spent on trials that have ended since

    def _update(self, results: list[Gradients], lrs: Sequence[float]) -> list[float]:
        """Move the trials by the mean gradient of the batches; return the mean losses."""
        spread = [0.0] * self._state.count  # trials that have ended stay where they are
        for trial, lr in zip(self._live, lrs, strict=True):
            spread[trial] = lr
        with torch.inference_mode():
            losses, gradients = results[0].losses, results[0].gradients
            if len(results) > 1:
                losses = torch.stack([result.losses for result in results]).mean(0)
                rows = zip(*(result.gradients for result in results), strict=True)
                gradients = tuple(_mean(row, len(results)) for row in rows)
            if self._recipe.clip_grad_norm is not None:
                gradients = _clipped(gradients, self._recipe.clip_grad_norm)
            self._state.step(gradients, spread)
            found: list[float] = losses.tolist()
        return found


def _nothing() -> None:
    pass


def _mean(gradients: Sequence[Tensor | None], count: int) -> Tensor | None:
    given = [gradient for gradient in gradients if gradient is not None]
    total = sum(given[1:], given[0]) if given else None
    return None if total is None else total / count


def _clipped(gradients: Sequence[Tensor | None], largest: float) -> tuple[Tensor | None, ...]:
    """Scale each trial's gradients to a joint norm of at most ``largest``, as torch does."""
    norms = [
        torch.linalg.vector_norm(gradient.reshape(len(gradient), -1), dim=1)
        for gradient in gradients
        if gradient is not None
    ]
    total = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # (trials,)
    scale = (largest / (total + 1e-6)).clamp(max=1.0)
    return tuple(
        None if gradient is None else gradient * scale.view(-1, *[1] * (gradient.ndim - 1))
        for gradient in gradients
    )


class _HeldOut:
    """The mean loss of every trial over the held-out batches, every example weighing the same.

    Large batches keep a processor busy with a single model already, so the first batch is
    timed: one trial, and all of them batched where one is quick.
    """

    def __init__(self, objective: Objective, recipe: Recipe, device: torch.device) -> None:
        self._objective = objective
        self._recipe = recipe
        self._device = device
        self._batched: bool | None = None

    def losses(self, state: StackedState) -> list[float]:
        """Return a loss per trial, leaving modes and random states as they are."""
        batches = self._recipe.held_out
        if batches is None:
            raise LanesFailed("there is no held-out data")
        random = read_random_state(batches.generators)
        total, weight = torch.zeros(state.count, dtype=torch.float64), 0
        try:
            with evaluating(self._recipe.model, self._recipe.optimizer):
                for batch in batches.one_pass():
                    size = batch_size(batch)
                    found = self._of(state, to_device(batch, self._device))
                    total, weight = total.to(found.device) + found.double() * size, weight + size
        finally:
            random.restore()
        if not weight:
            raise LanesFailed("val_loader gave no batches")
        means: list[float] = (total / weight).tolist()
        return means

    def _of(self, state: StackedState, batch: Any) -> Tensor:
        if self._batched is None:
            self._batched = self._is_faster(state, batch)
        return self._together(state, batch) if self._batched else self._one_by_one(state, batch)

    def _is_faster(self, state: StackedState, batch: Any) -> bool:
        """Whether the batched loss is that of single trials, and comes sooner."""
        random = read_random_state()
        try:
            alone, seconds = _timed(lambda: self._one_by_one(state.selected([0]), batch))
            if seconds > _QUICK:
                return False
            random.restore()
            copy = state.selected(range(state.count))
            together, of_all = _timed(lambda: self._together(copy, batch))
        except Exception:
            return False  # what cannot be batched is evaluated one by one
        finally:
            random.restore()
        same = torch.allclose(together[:1], alone, rtol=_SAME, atol=_SAME * 1e-3, equal_nan=True)
        return same and of_all < seconds * state.count

    def _together(self, state: StackedState, batch: Any) -> Tensor:
        return self._objective.values(state.parameters, state.buffers, state.shared, batch)

    def _one_by_one(self, state: StackedState, batch: Any) -> Tensor:
        """Evaluate trial after trial, each with the same random draws."""
        random = read_random_state()
        own = {**state.parameters, **state.buffers}
        losses = []
        for trial in range(state.count):
            random.restore()
            tensors = {name: tensor[trial] for name, tensor in own.items()}
            losses.append(self._objective.value({**state.shared, **tensors}, batch))
        return torch.stack(losses)


def _timed(action: Callable[[], Tensor]) -> tuple[Tensor, float]:
    began = time.perf_counter()
    found = action()
    found.tolist()  # waits for the device
    return found, time.perf_counter() - began


# ------------------------------------------------------------------------------------ failures


@contextmanager
def failures() -> Iterator[None]:
    """Turn every error into one that leads to sequential trials."""
    try:
        yield
    except LanesFailed:
        raise
    except Exception as error:
        raise failure(error) from error


def failure(error: Exception) -> LanesFailed:
    """Return what to raise for ``error``: fewer trials may fit, or none can be batched.

    Example:
        >>> failure(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))
        TooManyLanes('RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB.')
    """
    text = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    # CUDA's own error is a RuntimeError with these words; the CPU's allocator has only words.
    told = isinstance(error, RuntimeError) and any(w in str(error) for w in _OUT_OF_MEMORY)
    return TooManyLanes(reason) if told or isinstance(error, MemoryError) else LanesFailed(reason)
