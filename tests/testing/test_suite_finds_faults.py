"""The suite is worth something only if it fails: trainables with one fault each, and who tells."""

from __future__ import annotations

import threading
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest

from lrsearch.demos.two_layer_net import TwoLayerNet, noisy_sine
from lrsearch.testing import TrainableSuite


class Net(TwoLayerNet):
    """A faultless trainable."""

    def __init__(self) -> None:
        super().__init__(noisy_sine(50), batch=7)


class SharesItsSnapshot(Net):
    def snapshot(self) -> Any:
        return self.weights, super().snapshot()

    def restore(self, snapshot: Any, /) -> None:
        super().restore(snapshot[1])
        self.weights = snapshot[0]

    def step(self, lr: float) -> float:
        before = self.weights
        loss = super().step(lr)
        before[:] = self.weights  # in place, as optimizers do
        self.weights = before
        return loss


class ForgetsTheRandomState(Net):
    def restore(self, snapshot: Any, /) -> None:
        state = self._random.bit_generator.state
        super().restore(snapshot)
        self._random.bit_generator.state = state


class ForgetsThePlaceInTheData(Net):
    def restore(self, snapshot: Any, /) -> None:
        place = self._position
        super().restore(snapshot)
        self._position = place


class ForgetsItsMomentum(Net):
    velocity: Any = 0.0

    def step(self, lr: float) -> float:
        before = self.weights
        loss = super().step(lr)
        self.velocity = 0.9 * self.velocity + (self.weights - before)
        self.weights = before + self.velocity
        return loss


class EvaluatesWithSideEffects(Net):
    def evaluate(self) -> float:
        self._random.random()
        return super().evaluate()


class DrawsInItsSnapshot(Net):
    def snapshot(self) -> Any:
        self._random.random()
        return super().snapshot()


class ReturnsTheLossAfterTheUpdate(Net):
    def step(self, lr: float) -> float:
        super().step(lr)
        return self.evaluate()


class ReturnsAnArray(Net):
    def step(self, lr: float) -> float:
        return np.array(super().step(lr))  # type: ignore[return-value]


class IgnoresTheRate(Net):
    def step(self, lr: float) -> float:
        return super().step(0.5)


class UsesAnotherRate(Net):
    lr = 0.0

    def step(self, lr: float) -> float:
        self.lr = 0.99 * lr
        return super().step(self.lr)


class LeavesAThread(Net):
    over = threading.Event()

    def restore(self, snapshot: Any, /) -> None:
        super().restore(snapshot)
        threading.Thread(target=self.over.wait).start()


def failures(make: type[Net]) -> set[str]:
    """Run the suite by hand, as a test runner would."""

    class Suite(TrainableSuite):
        lr, steps = 0.5, 10  # an epoch has 8: the order of the second one is drawn too

        def make(self) -> Net:
            return make()

        def used_lr(self, trainable: Any) -> float | None:
            return getattr(trainable, "lr", None)

    def fails(name: str) -> bool:
        try:
            getattr(Suite(), name)()
        except SkipTest:
            return False
        except AssertionError:
            return True
        return False

    return {name for name in dir(Suite) if name.startswith("test_") and fails(name)}


EXPECTED = {
    SharesItsSnapshot: {"test_restoring_again_and_again_gives_the_same_training"},
    ForgetsTheRandomState: {"test_a_snapshot_taken_during_training_leads_back_there"},
    ForgetsThePlaceInTheData: {"test_restoring_again_and_again_gives_the_same_training"},
    ForgetsItsMomentum: {"test_divergence_is_undone", "test_a_search_leaves_everything_as_it_was"},
    EvaluatesWithSideEffects: {"test_evaluating_changes_nothing"},
    DrawsInItsSnapshot: {"test_taking_a_snapshot_changes_nothing"},
    ReturnsTheLossAfterTheUpdate: {"test_the_loss_of_a_step_is_that_before_its_update"},
    ReturnsAnArray: {"test_a_step_returns_the_finite_loss_as_a_float"},
    IgnoresTheRate: {"test_the_learning_rate_matters"},
    UsesAnotherRate: {"test_the_learning_rate_recorded_is_the_one_used"},
    LeavesAThread: {"test_a_search_leaves_everything_as_it_was"},
}


def test_a_faultless_trainable_passes() -> None:
    assert failures(Net) == set()


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_a_fault_is_found_by_the_test_that_is_there_for_it(kind: type[Net]) -> None:
    LeavesAThread.over.clear()
    try:
        assert EXPECTED[kind] <= failures(kind)
    finally:
        LeavesAThread.over.set()


def test_without_make_the_suite_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match="make: return a new trainable"):
        TrainableSuite().test_the_learning_rate_matters()


def test_the_message_names_the_parts_of_the_fingerprint_that_differ() -> None:
    class Suite(TrainableSuite):
        lr = 0.5

        def make(self) -> Net:
            return ForgetsTheRandomState()

        def fingerprint(self, trainable: Any) -> object:
            state = trainable.snapshot()
            return {"weights": state.weights.tobytes(), "random": state.random}

    with pytest.raises(AssertionError, match=r"after the first restore: random$"):
        Suite().test_restoring_again_and_again_gives_the_same_training()
