"""Trainings from which there is nothing to learn, and some from which there plainly is.

Most are in NumPy, at some microseconds a step, so that hundreds of seeds are cheap; those whose
point is PyTorch itself (a wrapper, running statistics, detached features) are in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import lrsearch
from lrsearch.core.trainable import HeldOut

Array = npt.NDArray[np.float64]
Batch = tuple[Array, Array]
LossAndGradient = Callable[[Array, Array, Array], tuple[float, Array]]

STEPS = 400  # of every planned run
BATCH = 16
PARTS = 16  # of the held-out data


@dataclass(frozen=True)
class Problem:
    """One training in NumPy.

    Attributes:
        start: weights before training.
        loss: ``loss(weights, inputs, targets) -> (loss, gradient)``.
        train, held_out: inputs and targets, first dimension examples.
        adam: whether Adam trains it; else SGD.
        stream: whether batches are drawn for ever, instead of in passes over the data.
        labels: number of classes whose labels are drawn anew with every batch; 0 for none.
    """

    start: Array
    loss: LossAndGradient
    train: Batch
    held_out: Batch
    adam: bool = False
    stream: bool = False
    labels: int = 0


class Stream:
    """A problem as lrsearch trains it, on batches drawn anew for ever.

    With random labels (``Problem.labels``) they are drawn anew too.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.seed = problem, seed
        self.weights = problem.start.copy()
        self.moments = (np.zeros_like(self.weights), np.zeros_like(self.weights))
        self.done = 0
        self.number = 0
        self.drawn: dict[tuple[int, int], Batch] = {}

    def step(self, lr: float) -> float:
        """One update on the next batch."""
        inputs, targets = self._batch()
        loss, gradient = self.problem.loss(self.weights, inputs, targets)
        self.done += 1
        with np.errstate(over="ignore", invalid="ignore"):
            if self.problem.adam:
                gradient = self._adam(gradient)
            self.weights = self.weights - lr * gradient
        return loss

    def _adam(self, gradient: Array) -> Array:
        first, second = self.moments
        self.moments = (0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2)
        first = self.moments[0] / (1 - 0.9**self.done)
        second = self.moments[1] / (1 - 0.999**self.done)
        return first / (np.sqrt(second) + 1e-8)

    def _batch(self) -> Batch:
        block, place = divmod(self.done, 100)
        if (self.number, block) not in self.drawn:
            generator = np.random.default_rng((self.seed, self.number, block))
            rows = generator.integers(0, len(self.problem.train[0]), size=100 * BATCH)
            inputs, targets = (part[rows] for part in self.problem.train)
            if self.problem.labels:
                targets = np.eye(self.problem.labels)[
                    generator.integers(0, self.problem.labels, size=100 * BATCH)
                ]
            self.drawn[self.number, block] = inputs, targets
        inputs, targets = self.drawn[self.number, block]
        return _slice(inputs, targets, place)

    def snapshot(self) -> tuple[Any, ...]:
        """Everything that decides later losses; no array is ever written into."""
        return self.weights, self.moments, self.done, self.number

    def restore(self, snapshot: tuple[Any, ...], /) -> None:
        """Return to a snapshot."""
        self.weights, self.moments, self.done, self.number = snapshot

    def reshuffle(self, number: int) -> None:
        """Go on with the data in another order."""
        self.number = number


class Passes(Stream):
    """The same in shuffled passes over the data."""

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        self.updates_per_epoch = len(problem.train[0]) // BATCH
        self.shortened: int | None = None

    def _batch(self) -> Batch:
        position = self.done % self.shortened if self.shortened else self.done
        epoch, place = divmod(position, self.updates_per_epoch)
        if (self.number, epoch) not in self.drawn:
            generator = np.random.default_rng((self.seed, self.number, epoch))
            order = generator.permutation(len(self.problem.train[0]))
            inputs, targets = self.problem.train
            self.drawn[self.number, epoch] = inputs[order], targets[order]
        return _slice(*self.drawn[self.number, epoch], place)

    def shorten_epochs(self, updates: int) -> None:
        """Go on with the first batches of a pass only."""
        self.shortened = updates

    def restore(self, snapshot: tuple[Any, ...], /) -> None:
        """Return to a snapshot, on all of the data."""
        super().restore(snapshot)
        self.shortened = None


class Evaluates:
    """Adds a loss on the held-out data."""

    problem: Problem
    weights: Array

    def evaluate(self) -> HeldOut:
        """Loss on the held-out data, in parts as a loader gives batches."""
        inputs, targets = self.problem.held_out
        count = min(PARTS, len(inputs))
        parts = zip(*(np.array_split(array, count) for array in (inputs, targets)), strict=True)
        losses = [self.problem.loss(self.weights, *part)[0] for part in parts]
        return HeldOut.of([(loss, 1.0) for loss in losses])


class HeldOutStream(Evaluates, Stream):
    """A stream with held-out data."""


class HeldOutPasses(Evaluates, Passes):
    """Passes with held-out data."""


def _slice(inputs: Array, targets: Array, place: int) -> Batch:
    rows = slice(place * BATCH, (place + 1) * BATCH)
    return inputs[rows], targets[rows]


@dataclass
class Walk:
    """A loss that is a random walk, whatever the learning rate.

    ``fresh``: every run is another walk; else a restored run repeats its losses.
    """

    seed: int
    fresh: bool
    done: int = 0
    runs: int = 0

    def __post_init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        key = (self.seed, self.runs if self.fresh else 0)
        self._losses = 5.0 + np.cumsum(np.random.default_rng(key).normal(0.0, 0.05, 2000))

    def step(self, lr: float) -> float:
        """One step of the walk."""
        self.done += 1
        return float(self._losses[self.done % 2000])

    def snapshot(self) -> int:
        """Where the walk is."""
        return self.done

    def restore(self, snapshot: int, /) -> None:
        """Walk again from there."""
        self.done = snapshot
        self.runs += 1
        self._restart()


class HeldOutWalk(Walk):
    """Its held-out loss walks too."""

    def evaluate(self) -> float:
        """Where the walk has come to."""
        return float(self._losses[self.done % 2000])


def squares(weights: Array, inputs: Array, targets: Array) -> tuple[float, Array]:
    """Mean squared error of a linear model without a constant, and its gradient."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = inputs @ weights - targets
        return float(np.mean(error**2)), 2.0 / len(inputs) * (inputs.T @ error)


def softmax(weights: Array, inputs: Array, targets: Array) -> tuple[float, Array]:
    """Cross entropy of a linear classifier; weights (features, classes), targets one-hot."""
    with np.errstate(over="ignore", invalid="ignore"):
        logits = inputs @ weights
        logits = logits - logits.max(1, keepdims=True)
        exponentials = np.exp(logits)
        sums = exponentials.sum(1, keepdims=True)
        loss = float(np.mean(np.log(sums[:, 0]) - (logits * targets).sum(1)))
        return loss, inputs.T @ (exponentials / sums - targets) / len(inputs)


def no_gradient(weights: Array, inputs: Array, targets: Array) -> tuple[float, Array]:
    """A dead network: it says nothing, and no gradient reaches a weight."""
    return float(np.mean((0.3 - targets) ** 2)), np.zeros_like(weights)


def two_layers(weights: Array, inputs: Array, targets: Array) -> tuple[float, Array]:
    """Mean squared error of tanh layers 2-16-1 packed into one vector, and its gradient."""
    with np.errstate(over="ignore", invalid="ignore"):
        w, b, v, c = weights[:32].reshape(2, 16), weights[32:48], weights[48:64], weights[64]
        hidden = np.tanh(inputs @ w + b)
        error = hidden @ v + c - targets
        back = 2.0 / len(inputs) * error
        inner = np.outer(back, v) * (1.0 - hidden**2)
        parts = ((inputs.T @ inner).ravel(), inner.sum(0), hidden.T @ back, [back.sum()])
        return float(np.mean(error**2)), np.concatenate(parts)


def _split(inputs: Array, targets: Array, held_out: int) -> tuple[Batch, Batch]:
    return (inputs[held_out:], targets[held_out:]), (inputs[:held_out], targets[:held_out])


def _normal(seed: int, rows: int, features: int = 8) -> tuple[np.random.Generator, Array]:
    rng = np.random.default_rng((seed, 7))
    return rng, rng.normal(size=(rows, features))


def pure_noise(
    seed: int, rows: int = 12000, held_out: int = 2000, adam: bool = False, tails: float = np.inf
) -> Problem:
    """Linear regression on targets that are noise, from zero, the best weights there are."""
    rng, inputs = _normal(seed, rows)
    targets = rng.normal(size=rows) if np.isinf(tails) else rng.standard_t(tails, size=rows)
    return Problem(np.zeros(8), squares, *_split(inputs, targets, held_out), adam)


def random_labels(seed: int) -> Problem:
    """Labels drawn anew for every batch of a stream, from even odds, the best there are."""
    rng, inputs = _normal(seed, 12000)
    targets = np.eye(4)[rng.integers(0, 4, size=12000)]
    data = _split(inputs, targets, 2000)
    return Problem(np.zeros((8, 4)), softmax, *data, stream=True, labels=4)


def dead(seed: int) -> Problem:
    """No gradient at all."""
    rng, inputs = _normal(seed, 1024)
    return Problem(np.ones(8), no_gradient, *_split(inputs, rng.normal(size=1024), 256))


def regression(seed: int, noise: float = 0.3, adam: bool = False) -> Problem:
    """Linear regression that explains most of its targets."""
    rng, inputs = _normal(seed, 4096)
    targets = inputs @ rng.normal(size=8) / np.sqrt(8) + noise * rng.normal(size=4096)
    return Problem(np.zeros(8), squares, *_split(inputs, targets, 1024), adam)


def classes(seed: int, adam: bool = False) -> Problem:
    """Four clouds that overlap a little."""
    rng, inputs = _normal(seed, 4096)
    kind = rng.integers(0, 4, size=4096)
    inputs = inputs + 1.2 * rng.normal(size=(4, 8))[kind]
    return Problem(np.zeros((8, 4)), softmax, *_split(inputs, np.eye(4)[kind], 1024), adam)


def surface(seed: int) -> Problem:
    """A small network on a smooth function of two inputs."""
    rng, inputs = _normal(seed, 4096, features=2)
    targets = np.sin(2.0 * inputs[:, 0]) * np.cos(inputs[:, 1]) + 0.1 * rng.normal(size=4096)
    start = np.concatenate(
        [rng.normal(size=32), rng.normal(size=16), 0.25 * rng.normal(size=16), [0.0]]
    )
    return Problem(start, two_layers, *_split(inputs, targets, 1024))


def _search(trainable: Any, method: Any, seed: int) -> lrsearch.Result:
    return lrsearch.search(
        trainable, method=method, train_steps=STEPS, seed=seed, progress=False, throw=False
    )


def in_numpy(make: Callable[[int], Problem]) -> Callable[[Any, int, bool], lrsearch.Result]:
    """Search a NumPy problem: ``search(method, seed, held_out)``."""

    def search(method: Any, seed: int, held_out: bool) -> lrsearch.Result:
        problem = make(seed)
        passes = HeldOutPasses if held_out else Passes
        stream = HeldOutStream if held_out else Stream
        return _search((stream if problem.stream else passes)(problem, seed), method, seed)

    return search


def best_rate(make: Callable[[int], Problem], seeds: int = 5) -> float:
    """The rate of ten per decade at which the planned run ends lowest, held out, on average."""
    rates = np.logspace(-4, 0, 41)
    losses = np.zeros(len(rates))
    for seed in range(seeds):
        training = HeldOutPasses(make(seed), seed)
        beginning, start = training.snapshot(), training.evaluate().loss
        for place, rate in enumerate(rates):
            training.restore(beginning)
            for _ in range(STEPS):
                if not training.step(float(rate)) < 1e3 * start:
                    break
            loss = training.evaluate().loss
            losses[place] += min(loss, start) if np.isfinite(loss) else start
    return float(rates[np.argmin(losses)])


def walk(fresh: bool) -> Callable[[Any, int, bool], lrsearch.Result]:
    """Search a random walk."""

    def search(method: Any, seed: int, held_out: bool) -> lrsearch.Result:
        kind = HeldOutWalk if held_out else Walk
        return _search(kind(seed, fresh), method, seed)

    return search
