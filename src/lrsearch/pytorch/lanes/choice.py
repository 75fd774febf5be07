"""Together or one at a time? Whichever a few steps of each show to be faster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from lrsearch.core.trainable import LanesFailed, TooManyLanes
from lrsearch.pytorch.lanes.group import TorchLanes
from lrsearch.pytorch.lanes.recipe import LaneRecipe
from lrsearch.pytorch.lanes.support import too_many, why_not
from lrsearch.pytorch.object_state import ObjectState

__all__ = ["Choice", "Trial"]

_log = logging.getLogger(__name__)

_FEWEST = 1000  # steps of all lanes in the first round that is worth measuring on
_ROUNDS = 3  # of measuring one step each way
_GAIN = 0.95  # of the time of separate runs that lanes may take at most, setting up included
_HEAVY = 3e-3  # seconds of a separate step in which calling the kernels hardly counts
_PASSES = 10.0  # steps by vmap that recording, comparing and measuring take together
_CALLS = 12.0  # separate steps that one step by vmap of a small net may take: mere overhead
_LOOPS = 1.5  # times slower than separate steps: an operation that loops over the lanes

Trial = Callable[[], AbstractContextManager[Callable[[float], float]]]

_SLOWER = "measured: together they are no faster"
_SHORT = "too few updates for lanes to be worth setting up"


@dataclass(frozen=True)
class _Alone:
    """What single steps of the training have shown."""

    seconds: float
    moving: frozenset[str]  # the buffers that they change
    changed: tuple[str, ...]  # attributes that they change beside: lanes would mix them up


@dataclass(frozen=True)
class _Together:
    """What lanes have shown: seconds of setting them up, and of one step of all."""

    count: int
    setup: float
    step: float


class Choice:
    """Decides, and remembers for one training what was measured.

    Args:
        recipe: returns the training as it is now; its ``moving`` is filled in here.
        trial: a context that gives a function making one update at a learning rate, and
            takes all updates back in the end.
        watch: remembers what a step may change beside weights, buffers and the optimizer.
        always: build lanes whenever they can be built, without measuring.

    Attributes:
        why_not: why the last call of :meth:`lanes` returned ``None``.
    """

    def __init__(
        self,
        recipe: Callable[[], LaneRecipe],
        trial: Trial,
        watch: Callable[[], ObjectState],
        always: bool = False,
    ) -> None:
        self._recipe = recipe
        self._trial = trial
        self._watch = watch
        self._always = always
        self._alone: _Alone | None = None
        self._together: _Together | None = None
        self._refused: dict[str, int] = {}  # reasons, with the most lanes they were found for
        self.why_not = ""

    def lanes(self, count: int, steps: int) -> TorchLanes | None:
        """Return lanes when they are faster than ``count`` separate runs of ``steps`` updates.

        Raises:
            TooManyLanes: fewer may be.
        """
        recipe = self._recipe()
        self.why_not = why_not(recipe) or self._not_worth_it(recipe, count, steps) or ""
        group = None
        if not self.why_not:
            full = too_many(recipe.optimizer, count)
            if full is not None:
                raise TooManyLanes(full)
            group = self._built(recipe, count, steps)
        if group is None:
            _log.debug("lanes one at a time: %s", self.why_not)
        return group

    def _not_worth_it(self, recipe: LaneRecipe, count: int, steps: int) -> str | None:
        """Say what is known without building lanes."""
        if self._always:
            return None
        for reason, most in self._refused.items():
            if count <= most:
                return reason
        if count < 2:
            return _SHORT
        if self._together is None:
            return _SHORT if count * steps < _FEWEST else None
        expected = self._together.step * max(1.0, count / self._together.count)
        separate = steps * count * self._look(recipe).seconds
        worth_it = self._together.setup + steps * expected < _GAIN * separate
        return None if worth_it else _SHORT

    def _built(self, recipe: LaneRecipe, count: int, steps: int) -> TorchLanes | None:
        group = None
        try:
            alone = self._look(recipe)
            if alone.changed:
                raise LanesFailed(f"a step changes {', '.join(alone.changed[:3])}")
            group = TorchLanes(replace(recipe, moving=alone.moving), count)
            if self._always or self._together is not None or self._is_faster(group, count, steps):
                return group
            self.why_not = _SLOWER
        except TooManyLanes:
            if group is not None:
                group.close()
            raise
        except LanesFailed as failure:
            self.why_not = f"the model cannot be batched over lanes: {failure}"
        self._refused[self.why_not] = max(count, self._refused.get(self.why_not, 0))
        if group is not None:
            group.close()
        return None

    def _look(self, recipe: LaneRecipe) -> _Alone:
        """Time a single step, and see which buffers it changes."""
        if self._alone is None:
            before = {name: buffer.clone() for name, buffer in recipe.model.named_buffers()}
            with self._trial() as step:
                step(0.0)  # the first one also makes what the optimizer keeps
                moving = frozenset(
                    name
                    for name, buffer in recipe.model.named_buffers()
                    if name not in before or not torch.equal(buffer, before[name])
                )
                before_two = self._watch()
                seconds = min(_timed(lambda: step(0.0)) for _ in range(2))
                changed = tuple(before_two.changed())
            self._alone = _Alone(seconds, moving, changed)
        return self._alone

    def _is_faster(self, group: TorchLanes, count: int, steps: int) -> bool:
        """Measure both ways, as little as the answer needs: steps of large models are dear."""
        with self._trial() as step:
            alone = min(_timed(lambda: step(0.0)) for _ in range(2))
            if not _promises(group, count, steps, alone):
                return False
            began = time.perf_counter()
            group.step([0.0] * count)
            for _ in range(_ROUNDS):
                if not group.settled:
                    group.step([0.0] * count)
            setup = time.perf_counter() - began
            together, separate = [], [alone]
            for _ in range(_ROUNDS):
                together.append(_timed(lambda: group.step([0.0] * count)))
                separate.append(_timed(lambda: step(0.0)))
        group.reset()
        best = min(together)
        _log.debug("%d lanes: %.3g s together, %.3g s alone", count, best, min(separate))
        if best >= _GAIN * count * min(separate):
            return False
        self._together = _Together(count, setup, best)
        return True


def _promises(group: TorchLanes, count: int, steps: int, alone: float) -> bool:
    """Whether a step by ``vmap`` leaves hope that recorded ones, which are faster, pay off."""

    def hope(seconds: float) -> bool:
        if alone > _HEAVY:
            return (steps + _PASSES) * seconds < _GAIN * steps * count * alone
        return seconds < max(_LOOPS * count, _CALLS) * alone

    # The first time in a process something is loaded; only a second failure counts.
    return hope(_timed(group.rehearse)) or hope(_timed(group.rehearse))


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
