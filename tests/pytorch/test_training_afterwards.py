"""Training after a search is bit for bit the training without one, however the search ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

import lrsearch
from lrsearch.testing.failing import ctrl_c
from tests.pytorch.fingerprint import fingerprint, plain
from tests.pytorch.problems import CLASSES, FEATURES, OPTIMIZERS, data, loader, network

LOSS = nn.functional.cross_entropy
BEFORE, AFTER = 5, 20  # updates before and after the search


@dataclass
class Training:
    """A training loop with everything it needs; every part but the first three is optional."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: DataLoader[Any]
    scaler: torch.amp.GradScaler | None = None
    ema: AveragedModel | None = None

    def __post_init__(self) -> None:
        self._batches = self._forever()

    def train(self, steps: int) -> list[str]:
        """Train on; return the losses to the last bit."""
        self.model.train()
        return [self._update(*next(self._batches)).hex() for _ in range(steps)]

    def _forever(self) -> Generator[Any, None, None]:
        while True:
            yield from self.batches

    def _update(self, inputs: torch.Tensor, targets: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.scaler is not None):
            loss = LOSS(self.model(inputs), targets)
        if self.scaler is None:
            loss.backward()
            self.optimizer.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return loss.item()

    def close(self) -> None:
        """End the worker processes now, not when Python collects its garbage."""
        self._batches.close()

    def state(self) -> dict[str, Any]:
        """Everything, but for what tells one object in memory from another."""
        more = [part for part in (self.scaler, self.ema) if part is not None]
        state = fingerprint(self.model, self.optimizer, *more)
        state["grads"] = {
            name: None if p.grad is None else plain(p.grad)
            for name, p in self.model.named_parameters()
        }
        return {name: part for name, part in state.items() if name != "identity"}

    def search(self, method: str, observer: Callable[[], None] = lambda: None) -> None:
        def loss_fn(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            observer()
            return LOSS(outputs, targets)

        methods = {"range": lrsearch.RangeTest(steps=20), "race": lrsearch.Race(budget=0.5)}
        lrsearch.find_lr(
            self.model,
            self.optimizer,
            loss_fn,
            self.batches,
            method=methods[method],
            val_loader=loader(128, shuffle=False) if method == "race" else None,
            train_steps=60,
            autocast=None if self.scaler is None else torch.bfloat16,
            grad_scaler=self.scaler,
            stateful=[] if self.ema is None else [self.ema],
            progress=False,
            throw=False,
        )


def of(model: nn.Module, optimizer: str = "sgd", **options: Any) -> Training:
    return Training(model, OPTIMIZERS[optimizer](model.parameters()), loader(), **options)


def mlp(*between: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), *between, nn.ReLU(), nn.Linear(16, CLASSES))


def with_scaler() -> Training:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=4)
    return of(mlp(), scaler=scaler)


def with_ema() -> Training:
    """The average follows every step of the optimizer by a hook, also during the search."""
    training = of(network(), "adam")
    ema = AveragedModel(training.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    training.optimizer.register_step_post_hook(lambda *_: ema.update_parameters(training.model))
    training.ema = ema
    return training


def with_workers() -> Training:
    model = network()
    batches = DataLoader(data(), 16, shuffle=True, num_workers=2)
    return Training(model, OPTIMIZERS["momentum"](model.parameters()), batches)


TRAININGS: dict[str, Callable[[], Training]] = {
    "momentum": lambda: of(mlp(), "momentum"),
    "adam": lambda: of(mlp(), "adam"),
    "amp with scaler": with_scaler,
    "batchnorm": lambda: of(mlp(nn.BatchNorm1d(16))),
    "dropout": lambda: of(mlp(nn.Dropout(0.3))),
    "ema": with_ema,
    "shuffling workers": with_workers,
}


class Broken(RuntimeError):
    """What the user's own code raises."""


def fails_at(count: int, fail: Callable[[], None], last: int | None = None) -> Callable[[], None]:
    calls = iter(range(10_000))

    def observer() -> None:
        if count <= next(calls) <= (count if last is None else last):
            fail()

    return observer


def broken() -> None:
    raise Broken


def once(training: Training, method: str) -> None:
    training.search(method)


def twice(training: Training, method: str) -> None:
    training.search(method)
    training.search(method)


def after_an_error(training: Training, method: str) -> None:
    # Not once only: what fails in a batched step is made again in separate runs.
    with pytest.raises(Broken):
        training.search(method, fails_at(13, broken, last=10_000))


def after_ctrl_c(training: Training, method: str) -> None:
    with ctrl_c(), pytest.raises(KeyboardInterrupt):
        training.search(method, fails_at(13, lambda: signal.raise_signal(signal.SIGINT)))


SEARCHES = {"once": once, "twice": twice, "error": after_an_error, "ctrl-c": after_ctrl_c}


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("method", ["range", "race"])
@pytest.mark.parametrize("name", TRAININGS)
def test_it_equals_training_without_a_search(name: str, method: str, search: str) -> None:
    undisturbed = TRAININGS[name]()
    losses = undisturbed.train(BEFORE + AFTER)
    searched = TRAININGS[name]()
    start = searched.train(BEFORE)
    SEARCHES[search](searched, method)
    assert start + searched.train(AFTER) == losses
    assert searched.state() == undisturbed.state()
    undisturbed.close()
    searched.close()
    assert len(set(losses)) == BEFORE + AFTER  # something was trained at all
