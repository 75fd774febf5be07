"""Together or one at a time? Whichever a few steps of each show to be faster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from lrsearch.core.trainable import LanesFailed
from lrsearch.pytorch.lanes.group import TorchLanes
from lrsearch.pytorch.lanes.recipe import LaneRecipe
from lrsearch.pytorch.lanes.support import why_not

__all__ = ["Choice", "Trial"]

_log = logging.getLogger(__name__)

_FEWEST = 64  # steps of all lanes below which measuring alone would take too long
_SHORTEST = 0.2  # seconds of separate runs below which lanes are not worth setting up
_ROUNDS = 3  # of measuring one step each way
_HOPELESS = 3.0  # times slower at the first step, when nothing more is tried
_RECORDING = 1.0  # seconds that recording, the first time in a process, may take on top

Trial = Callable[[], AbstractContextManager[Callable[[float], float]]]


@dataclass(frozen=True)
class _Known:
    """What single steps of the training have shown."""

    seconds: float
    moving: frozenset[str]


class Choice:
    """Decides, and remembers for one training what was measured.

    Args:
        recipe: returns the training as it is now; its ``moving`` is filled in here.
        trial: a context that gives a function making one update at a learning rate, and
            takes all updates back in the end.
        always: build lanes whenever they can be built, without measuring.

    Attributes:
        why_not: why the last call of :meth:`lanes` returned ``None``.
    """

    def __init__(
        self, recipe: Callable[[], LaneRecipe], trial: Trial, always: bool = False
    ) -> None:
        self._recipe = recipe
        self._trial = trial
        self._always = always
        self._known: _Known | None = None
        self._fewest_faster: int | None = None
        self._most_slower = 0
        self.why_not = ""

    def lanes(self, count: int, steps: int) -> TorchLanes | None:
        """Return lanes when they are faster than ``count`` separate runs of ``steps`` updates."""
        recipe = self._recipe()
        self.why_not = why_not(recipe, count) or self._not_worth_it(recipe, count, steps) or ""
        if self.why_not:
            _log.debug("lanes one at a time: %s", self.why_not)
            return None
        group = None
        try:
            group = self._built(recipe, count)
            if self._is_faster(group, count):
                return group
            self.why_not = "measured: together they are no faster"
        except LanesFailed as failure:
            self.why_not = f"the model cannot be batched over lanes: {failure}"
        self._most_slower = max(self._most_slower, count)
        if group is not None:
            group.close()
        return None

    def _not_worth_it(self, recipe: LaneRecipe, count: int, steps: int) -> str | None:
        if self._always:
            return None
        if count <= self._most_slower:
            return self.why_not or "measured: together they are no faster"
        if count < 2 or count * steps < _FEWEST:
            return "too few updates for lanes to be worth setting up"
        if count * steps * self._look(recipe).seconds < _SHORTEST:
            return "too short for lanes to be worth setting up"
        return None

    def _built(self, recipe: LaneRecipe, count: int) -> TorchLanes:
        return TorchLanes(replace(recipe, moving=self._look(recipe).moving), count)

    def _look(self, recipe: LaneRecipe) -> _Known:
        """Time a single step, and see which buffers it changes."""
        if self._known is None:
            before = {name: buffer.clone() for name, buffer in recipe.model.named_buffers()}
            with self._trial() as step:
                step(0.0)  # the first one also makes what the optimizer keeps
                moving = frozenset(
                    name
                    for name, buffer in recipe.model.named_buffers()
                    if name not in before or not torch.equal(buffer, before[name])
                )
                seconds = min(_timed(lambda: step(0.0)) for _ in range(2))
            self._known = _Known(seconds, moving)
        return self._known

    def _is_faster(self, group: TorchLanes, count: int) -> bool:
        if self._always or (self._fewest_faster is not None and count >= self._fewest_faster):
            return True
        with self._trial() as step:
            faster = _measured(group, count, step)
        if faster:
            self._fewest_faster = count
            group.reset()
        return faster


def _measured(group: TorchLanes, count: int, step: Callable[[float], float]) -> bool:
    """Whether a step of the group takes less than ``count`` separate ones.

    A model that is clearly faster or hopelessly slower at the first step, which includes the
    recording, is measured no further: steps of large models are dear.
    """
    lrs = [0.0] * count
    alone = [_timed(lambda: step(0.0)) for _ in range(2)]
    first = _timed(lambda: group.step(lrs))
    if first <= 0.9 * count * min(alone):
        return True
    if first > _HOPELESS * count * min(alone) + _RECORDING:
        return False
    for _ in range(_ROUNDS):
        if not group.settled:
            group.step(lrs)
    together = []
    for _ in range(_ROUNDS):
        together.append(_timed(lambda: group.step(lrs)))
        alone.append(_timed(lambda: step(0.0)))
    _log.debug("%d lanes: %.3g s together, %.3g s alone", count, min(together), min(alone))
    return min(together) < count * min(alone)


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
