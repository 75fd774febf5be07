"""Held-out losses of many lanes: together or in turn, as the first batch shows to be faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lrsearch.core.trainable import LanesFailed
from lrsearch.pytorch.batches import BatchStream
from lrsearch.pytorch.lanes.objective import Objective
from lrsearch.pytorch.lanes.state import LaneState
from lrsearch.pytorch.loss import batch_size, to_device
from lrsearch.pytorch.random_state import read_random_state

__all__ = ["HeldOut"]

_QUICK = 2e-3  # seconds for one lane's batch below which the time may go into calling kernels

_Way = Callable[[LaneState, Any], Tensor]


class HeldOut:
    """The mean loss of every lane over the held-out batches, every example weighing the same.

    Large batches keep a processor busy with a single net already, so the first batch is
    timed: one lane, and all of them together where one is quick.

    Args:
        objective: the loss.
        batches: held-out data.
        device: where the model is.
    """

    def __init__(self, objective: Objective, batches: BatchStream, device: torch.device) -> None:
        self._objective = objective
        self._batches = batches
        self._device = device
        self._way: _Way | None = None

    def losses(self, state: LaneState) -> list[float]:
        """Return a loss per lane. The model must be in eval mode.

        Raises:
            LanesFailed: there are no held-out batches.
        """
        total: Tensor | None = None
        weight = 0
        for batch in self._batches.one_pass():
            size = batch_size(batch)
            found = self._of(state, to_device(batch, self._device)).double() * size
            total = found if total is None else total + found
            weight += size
        if total is None:
            raise LanesFailed("val_loader gave no batches")
        means: list[float] = (total / weight).tolist()
        return means

    def _of(self, state: LaneState, batch: Any) -> Tensor:
        if self._way is not None:
            return self._way(state, batch)
        self._way = self._in_turn
        states = read_random_state()
        first, alone = _timed(lambda: self._objective.values(state, batch, lane=0))
        if alone < _QUICK:
            states.restore()
            try:
                together, seconds = _timed(lambda: self._together(state, batch))
            except Exception:
                # What cannot be batched is evaluated in turn; errors of its own show there.
                states.restore()
                return self._in_turn(state, batch)
            if seconds < alone * state.count:
                self._way = self._together
            return together
        if state.count == 1:
            return first.unsqueeze(0)
        states.restore()
        return torch.cat([first.unsqueeze(0), self._in_turn(state, batch, start=1)])

    def _together(self, state: LaneState, batch: Any) -> Tensor:
        return self._objective.values(state, batch)

    def _in_turn(self, state: LaneState, batch: Any, start: int = 0) -> Tensor:
        """Evaluate lane after lane, each with the same random draws."""
        states = read_random_state()
        losses = []
        for lane in range(start, state.count):
            states.restore()
            losses.append(self._objective.values(state, batch, lane))
        return torch.stack(losses)


def _timed(action: Callable[[], Tensor]) -> tuple[Tensor, float]:
    began = time.perf_counter()
    found = action()
    found.tolist()  # waits for the device
    return found, time.perf_counter() - began
