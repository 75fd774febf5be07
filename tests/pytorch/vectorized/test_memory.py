"""Where there is no memory for all trials at a time, fewer are batched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lrsearch.core.outcome import Outcome
from lrsearch.core.search import Plan, run_search
from lrsearch.core.trainable import TooManyLanes
from lrsearch.methods.sweep import Sweep
from lrsearch.pytorch.trainable import TorchTrainable, torch_trainable
from lrsearch.pytorch.vectorized import trials
from lrsearch.pytorch.vectorized.gradients import GradientSource
from lrsearch.pytorch.vectorized.state import StackedState
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import OPTIMIZERS, loader, network, train

LOSS = torch.nn.functional.cross_entropy
LRS = (1e-3, 3e-3, 1e-2, 3e-2, 0.1)  # and the baseline: six trials
ERRORS: dict[str, Callable[[], Exception]] = {
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
    "python": lambda: MemoryError(),
}


@pytest.fixture(autouse=True)
def no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing takes a while, and memory is asked for either way."""
    monkeypatch.setattr("lrsearch.pytorch.vectorized.gradients._TRACES", 0)


def trainable(vectorise: bool = True) -> TorchTrainable:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    train(model, optimizer, loader(), 3)
    return torch_trainable(
        model, optimizer, LOSS, loader(), val_loader=loader(64), vectorise=vectorise
    )


def sweep(subject: TorchTrainable) -> Outcome:
    return run_search(subject, Sweep(LRS), Plan(train_steps=12))


class Memory:
    """Room for ``most`` trials: with more the ``at``-th call fails, in one place of a step."""

    def __init__(
        self, patch: pytest.MonkeyPatch, place: str, most: int, at: int = 0, error: str = "gpu"
    ) -> None:
        self.most, self.at, self.error = most, at, ERRORS[error]
        self.refused: list[int] = []
        self.calls = 0
        if place == "building":
            self._wrap(patch, trials, "stacked", lambda arguments, made: made.count)
        elif place == "gradients":
            count = lambda arguments, made: len(arguments[0]._own[0])  # noqa: E731
            self._wrap(patch, GradientSource, "__call__", count)
        elif place == "update":
            self._wrap(patch, StackedState, "step", lambda arguments, made: arguments[0].count)
        else:
            self._wrap(patch, trials._HeldOut, "losses", lambda arguments, made: arguments[1].count)

    def _wrap(self, patch: pytest.MonkeyPatch, owner: Any, name: str, count: Any) -> None:
        original = getattr(owner, name)

        def limited(*arguments: Any) -> Any:
            made = original(*arguments)
            wanted = count(arguments, made)
            if wanted > self.most:
                self.calls += 1
                if self.calls > self.at:
                    self.refused.append(wanted)
                    self.calls = 0
                    raise self.error()
            return made

        patch.setattr(owner, name, limited)


@pytest.mark.parametrize(
    ("place", "at"),
    [("building", 0), ("gradients", 0), ("gradients", 7), ("update", 0), ("update", 5),
     ("evaluation", 0)],
)  # fmt: skip
def test_half_as_many_trials_are_batched_at_a_time(
    place: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sweep(trainable(vectorise=False))
    subject = trainable()
    before = fingerprint(subject._model, subject._optimizer)
    memory = Memory(monkeypatch, place, most=3, at=at)
    found = sweep(subject)
    assert memory.refused == [6]
    words = "together, at most 3 at a time: OutOfMemoryError: CUDA out of memory."
    assert str(found.settings["lanes"]).startswith(words)
    for one, other in zip(found.curves, expected.curves, strict=True):
        np.testing.assert_allclose(one.loss, other.loss, rtol=2e-5)
        np.testing.assert_allclose(one.evaluations, other.evaluations, rtol=2e-4)
    assert fingerprint(subject._model, subject._optimizer) == before


@pytest.mark.parametrize("error", ERRORS)
def test_any_words_for_too_little_memory_are_understood(
    error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(monkeypatch, "update", most=2, error=error)
    found = sweep(trainable())
    assert memory.refused == [6, 3]
    assert str(found.settings["lanes"]).startswith("together, at most 2 at a time: ")


def test_without_memory_for_two_the_trials_are_sequential(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = Memory(monkeypatch, "update", most=1)
    found, expected = sweep(trainable()), sweep(trainable(vectorise=False))
    assert memory.refused == [6, 3, 2]
    assert found.curves == expected.curves
    assert str(found.settings["lanes"]).startswith("in turn: OutOfMemoryError: CUDA out of")


def test_without_memory_for_a_single_run_the_error_is_the_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loss_fn(outputs: Any, targets: Any) -> Any:
        raise ERRORS["gpu"]()

    model = network()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    subject = torch_trainable(model, optimizer, loss_fn, loader(), vectorise=True)
    before = fingerprint(model, optimizer)
    with pytest.raises(torch.OutOfMemoryError):
        sweep(subject)
    assert fingerprint(model, optimizer) == before


def test_trials_that_cannot_fit_are_not_even_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrsearch.pytorch.vectorized.choose._SHARE", 0.0)
    with pytest.raises(TooManyLanes, match="4 lanes of these parameters would take"):
        trainable().lanes(4, 100)
