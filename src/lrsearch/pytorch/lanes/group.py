"""Several copies of one training, step by step together, each at its own learning rate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from lrsearch.core.trainable import LanesFailed
from lrsearch.pytorch.lanes.failure import TogetherOnly
from lrsearch.pytorch.lanes.gradients import GradientSource
from lrsearch.pytorch.lanes.held_out import HeldOut
from lrsearch.pytorch.lanes.objective import Gradients, Objective
from lrsearch.pytorch.lanes.recipe import LaneRecipe
from lrsearch.pytorch.lanes.state import LaneState, stacked
from lrsearch.pytorch.loss import to_device
from lrsearch.pytorch.random_state import read_random_state, seed_everything

__all__ = ["TorchLanes"]

_TOGETHER, _MEMORY = TogetherOnly(), TogetherOnly(memory=True)


class TorchLanes:
    """Lanes that begin at the recipe's present state, on common batches and random draws.

    The model's tensors are never written to; its modes, the random states and the place in
    the data are put back by :meth:`close`.

    Args:
        recipe: what to train.
        count: how many lanes.
        cuda_graphs: launch the kernels of a step as one CUDA graph where that is possible.
    """

    def __init__(self, recipe: LaneRecipe, count: int, cuda_graphs: bool = False) -> None:
        self._recipe = recipe
        # The results of a graph do not outlive the next batch.
        self._cuda_graphs = cuda_graphs and recipe.accumulate == 1
        self._modes = [(module, module.training) for module in recipe.model.modules()]
        self._random = read_random_state(recipe.batches.generators)
        self._position = recipe.batches.position
        self._device = next(recipe.model.parameters()).device
        self._objective = Objective(recipe.model, recipe.compute_loss)
        held_out = recipe.held_out
        self._held_out = (
            None if held_out is None else HeldOut(self._objective, held_out, self._device)
        )
        self._count = count
        self._live: list[int] = []  # places of the live lanes in the state
        with _TOGETHER:
            self._adopt(self._fresh())
        self._begin()

    def __enter__(self) -> TorchLanes:
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
        """Update every live lane at its learning rate; return their losses before it.

        Args:
            lrs: learning rates of the first parameter group, in the order of the live lanes.

        Raises:
            LanesFailed: the lanes cannot go on, although separate runs may.
            TooManyLanes: fewer of them may.
        """
        began = time.perf_counter()
        if len(self._live) < self._state.count and self._idle > self._seconds:
            # Dead lanes have cost as much by now as recording without them will.
            with _TOGETHER:
                self._adopt(self._state.selected(self._live))
        settled = self._source.settled
        group = self._recipe.batches.group(self._recipe.accumulate)
        results = [self._result(batch) for batch, _ in group]
        with _TOGETHER:
            losses = self._update(results, lrs)
        if not (settled and self._source.settled):
            self._seconds += time.perf_counter() - began
        if len(self._live) == self._state.count:
            return losses
        idle = 1.0 - len(self._live) / self._state.count
        self._idle += idle * (time.perf_counter() - began)
        return [losses[lane] for lane in self._live]

    def rehearse(self) -> list[float]:
        """Return the lanes' losses on the next batch, with gradients but without an update.

        Raises:
            LanesFailed: the model cannot be batched over lanes.
        """
        batch = to_device(self._recipe.batches.next(), self._device)
        with _TOGETHER:
            losses: list[float] = self._source.by_vmap(batch).losses.tolist()
        return losses

    def drop(self, lanes: Sequence[int]) -> None:
        """Take live lanes out, by their places among the live ones."""
        gone = set(lanes)
        self._live = [lane for place, lane in enumerate(self._live) if place not in gone]

    def evaluate(self, lanes: Sequence[int] | None = None) -> list[float]:
        """Return held-out losses in eval mode, every example weighing the same.

        Args:
            lanes: places among the live lanes; all of them when not given.

        Raises:
            LanesFailed: there is no held-out data, or the lanes cannot be evaluated together.
        """
        if self._held_out is None or self._recipe.held_out is None:
            raise LanesFailed("there is no held-out data")
        chosen = self._live if lanes is None else [self._live[place] for place in lanes]
        modes = [(module, module.training) for module in self._recipe.model.modules()]
        random = read_random_state(self._recipe.held_out.generators)
        try:
            self._recipe.model.eval()
            with _MEMORY:
                return self._held_out.losses(self._state.selected(chosen))
        finally:
            for module, training in modes:
                module.training = training
            random.restore()

    def reset(self) -> None:
        """Return every lane, dropped ones too, to where the lanes began."""
        if self._state.count == self._count:
            self._state.copy_(self._fresh())
            self._live = list(range(self._count))
        else:
            self._adopt(self._fresh())
        self._recipe.batches.seek(self._position)
        self._random.restore()
        self._begin()

    def close(self) -> None:
        """Put back modes, random states and the place in the data. Further calls do nothing."""
        for module, training in self._modes:
            module.training = training
        self._random.restore()
        self._recipe.batches.seek(self._position)

    def _fresh(self) -> LaneState:
        recipe, count = self._recipe, self._count
        return stacked(recipe.model, recipe.optimizer, recipe.multipliers, count, recipe.moving)

    def _begin(self) -> None:
        """Seed and set the mode as the first update of a single run does."""
        if self._recipe.updates == 0:
            seed_everything(self._recipe.seed, self._recipe.batches.generators)
            if not self._recipe.model.training:
                self._recipe.model.train()

    def _adopt(self, state: LaneState) -> None:
        self._state = state
        self._live = list(range(state.count))
        model, objective = self._recipe.model, self._objective
        self._source = GradientSource(model, objective, state, self._cuda_graphs)
        self._seconds = 0.0  # what recording the tapes took
        self._idle = 0.0  # time spent on dead lanes since

    def _spread(self, lrs: Sequence[float]) -> list[float]:
        """Give dead lanes a learning rate of zero."""
        if len(self._live) == self._state.count:
            return list(lrs)
        spread = [0.0] * self._state.count
        for lane, lr in zip(self._live, lrs, strict=True):
            spread[lane] = lr
        return spread

    def _result(self, batch: Any) -> Gradients:
        """Return what a batch says; the loader's own errors were raised before."""
        with _TOGETHER:
            return self._source(to_device(batch, self._device))

    def _update(self, results: list[Gradients], lrs: Sequence[float]) -> list[float]:
        """Move the lanes by the mean gradient of the batches; return the mean losses."""
        with torch.inference_mode():
            losses, gradients = results[0].losses, results[0].gradients
            if len(results) > 1:
                losses = torch.stack([result.losses for result in results]).mean(0)
                rows = zip(*(result.gradients for result in results), strict=True)
                gradients = tuple(_mean(row, len(results)) for row in rows)
            if self._recipe.clip_grad_norm is not None:
                gradients = _clipped(gradients, self._recipe.clip_grad_norm)
            self._state.update(gradients, self._spread(lrs))
            found: list[float] = losses.tolist()
        return found


def _mean(gradients: Sequence[Tensor | None], count: int) -> Tensor | None:
    given = [gradient for gradient in gradients if gradient is not None]
    total = sum(given[1:], given[0]) if given else None
    return None if total is None else total / count


def _clipped(gradients: Sequence[Tensor | None], largest: float) -> tuple[Tensor | None, ...]:
    """Scale each lane's gradients to a joint norm of at most ``largest``, as torch does."""
    norms = [
        torch.linalg.vector_norm(gradient.reshape(len(gradient), -1), dim=1)
        for gradient in gradients
        if gradient is not None
    ]
    total = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # (lanes,)
    scale = (largest / (total + 1e-6)).clamp(max=1.0)
    return tuple(
        None if gradient is None else gradient * scale.view(-1, *[1] * (gradient.ndim - 1))
        for gradient in gradients
    )
