"""What the tests of the conformance suite share: training, searching, comparing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lrsearch.core.outcome import Outcome
from lrsearch.core.search import Method, Observer, Plan, run_search
from lrsearch.core.trainable import Trainable
from lrsearch.methods.race import Race
from lrsearch.methods.range_test import RangeTest
from lrsearch.methods.sweep import Sweep

__all__ = ["Machinery"]


class Machinery:
    """What a subclass of :class:`lrsearch.testing.TrainableSuite` gives, and the checks on it."""

    lr: float = 0.01
    steps: int = 5
    train_steps: int = 32
    tolerance: float = 0.0

    def make(self) -> Trainable[Any]:
        """Return a new trainable."""
        raise NotImplementedError(f"{type(self).__name__}.make: return a new trainable")

    def fingerprint(self, trainable: Trainable[Any]) -> object:
        """Return everything that must come back, as plain values that ``==`` compares.

        Optional. Without it two states are the same when training goes on alike from both.
        """
        return None

    def used_lr(self, trainable: Trainable[Any]) -> float | None:
        """Return the learning rate that the last update used; ``None`` when that is not known."""
        return None

    def _methods(self) -> tuple[Method, ...]:
        return (self._range_test(), Race(), Sweep([0.1 * self.lr, self.lr]))

    def _range_test(self) -> RangeTest:
        return RangeTest(steps=16, min_lr=1e-3 * self.lr, max_lr=self.lr)

    def _search(
        self, trainable: Trainable[Any], method: Method, seen: Observer | None = None
    ) -> Outcome:
        return run_search(trainable, method, Plan(train_steps=self.train_steps), seen)

    def _train(self, trainable: Trainable[Any], lr: float | None = None) -> list[float]:
        return [trainable.step(self.lr if lr is None else lr) for _ in range(self.steps)]

    def _fails(
        self,
        trainable: Trainable[Any],
        failing: Trainable[Any],
        error: type[BaseException],
        seen: Observer | None = None,
    ) -> None:
        def search() -> None:
            try:
                self._search(failing, self._range_test(), seen)
            except error:
                return
            raise AssertionError(f"{error.__name__} did not reach the caller")

        self._untouched(trainable, search)

    def _untouched(self, trainable: Trainable[Any], action: Callable[[], object]) -> None:
        """Run ``action``; the state and the training after it must be as without it."""
        start = trainable.snapshot()
        losses = self._train(trainable)
        trainable.restore(start)
        mark = self.fingerprint(trainable)
        action()
        self._same(mark, trainable, "after the search")
        self._equal(losses, self._train(trainable), "training after the search")
        trainable.restore(start)

    def _same(self, before: object, trainable: Trainable[Any], when: str) -> None:
        now = self.fingerprint(trainable)
        assert before == now, f"the fingerprint is another one {when}{_where(before, now)}"

    def _equal(self, expected: list[float], got: list[float], what: str) -> None:
        for update, (one, other) in enumerate(zip(expected, got, strict=True)):
            same = one == other or (math.isnan(one) and math.isnan(other))
            near = self.tolerance and math.isclose(one, other, rel_tol=self.tolerance)
            assert same or near, f"{what}: loss {other!r} at update {update}, expected {one!r}"


def _where(before: object, now: object) -> str:
    """Name the parts that differ, where the fingerprint is a mapping."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    parts = [str(key) for key in {**before, **now} if before.get(key) != now.get(key)]
    return f": {', '.join(parts)}"
