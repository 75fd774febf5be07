"""Real but tiny trainables in NumPy: what the tests of the core and of the methods train.

Nothing is mocked. Each has its own random state, and a snapshot holds all of it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Quadratic:
    """Loss ``0.5 * sum(curvature * (weights - target)**2)``, target drawn anew at every step.

    Without noise and momentum, ``n`` steps at a constant lr end at
    ``0.5 * sum(curvature * (1 - lr * curvature)**(2 n) * start**2)``: see :meth:`closed_form`.
    """

    curvature: Any = (1.0, 10.0)
    start: Any = 1.0
    momentum: float = 0.0
    noise: float = 0.0
    shift: float = 0.0
    scale: float = 1.0
    seed: int = 0
    lrs: list[float] = field(default_factory=list)  # of every step ever made
    batches: list[float] = field(default_factory=list)  # what every step ever made has seen
    restored: list[Any] = field(default_factory=list)  # every snapshot ever restored

    def __post_init__(self) -> None:
        self.curvature = np.array(self.curvature, dtype=float)
        self.weights = np.zeros_like(self.curvature) + self.start
        self.velocity = np.zeros_like(self.weights)
        self.random = np.random.default_rng(self.seed)

    @np.errstate(over="ignore", invalid="ignore")
    def step(self, lr: float) -> float:
        target = self.noise * self.random.standard_normal(self.weights.shape)
        gradient = self.curvature * (self.weights - target)
        loss = 0.5 * float(gradient @ (self.weights - target))
        self.velocity = self.momentum * self.velocity + gradient
        self.weights = self.weights - lr * self.velocity
        self.lrs.append(lr)
        self.batches.append(float(target.sum()))
        return self.shift + self.scale * loss

    def snapshot(self) -> Any:
        return copy.deepcopy((self.weights, self.velocity, self.random.bit_generator.state))

    def restore(self, snapshot: Any, /) -> None:
        self.restored.append(snapshot)
        self.weights, self.velocity, state = copy.deepcopy(snapshot)
        self.random.bit_generator.state = state

    @property
    @np.errstate(over="ignore", invalid="ignore")
    def exact_loss(self) -> float:
        return 0.5 * float(self.curvature @ self.weights**2)

    def closed_form(self, lr: Any, steps: int) -> Any:
        """Return the noiseless loss after ``steps`` steps from the start, for every lr."""
        left = (1.0 - np.multiply.outer(lr, self.curvature)) ** (2 * steps)
        return 0.5 * (left * self.curvature * np.square(self.start)).sum(axis=-1)


class Judged(Quadratic):
    """A quadratic with a held-out loss: its exact one."""

    def evaluate(self) -> float:
        return self.exact_loss


class Scripted:
    """Returns given losses in order, whatever the lr; restoring rewinds it."""

    def __init__(self, losses: Any) -> None:
        self.losses = [float(loss) for loss in losses]
        self.position = 0
        self.restored = 0

    def step(self, lr: float) -> float:
        self.position += 1
        return self.losses[self.position - 1]

    def snapshot(self) -> int:
        return self.position

    def restore(self, snapshot: int, /) -> None:
        self.position = snapshot
        self.restored += 1


class SineNet:
    """One input, eight sigmoid units, one output; mini-batches of a noisy sine curve."""

    def __init__(self, seed: int = 0, batch: int = 16) -> None:
        data = np.random.default_rng(7)
        self.x = data.uniform(-1.0, 1.0, (128, 1))
        self.y = np.sin(np.pi * self.x) + 0.1 * data.standard_normal((128, 1))
        self.batch = batch
        self.random = np.random.default_rng(seed)
        self.weights = [
            self.random.standard_normal(shape) for shape in ((1, 8), (1, 8), (8, 1), (1, 1))
        ]

    @np.errstate(over="ignore", invalid="ignore")
    def step(self, lr: float) -> float:
        rows = self.random.integers(0, len(self.x), self.batch)
        x, y = self.x[rows], self.y[rows]
        w1, b1, w2, b2 = self.weights
        hidden = 0.5 * (1.0 + np.tanh(0.5 * (x @ w1 + b1)))  # (batch, 8)
        error = hidden @ w2 + b2 - y  # (batch, 1)
        back = 2.0 * error / self.batch
        inner = back @ w2.T * hidden * (1.0 - hidden)
        ones = np.ones((1, self.batch))
        gradients = [x.T @ inner, ones @ inner, hidden.T @ back, ones @ back]
        self.weights = [
            weight - lr * gradient for weight, gradient in zip(self.weights, gradients, strict=True)
        ]
        return float(np.mean(error**2))

    def snapshot(self) -> Any:
        return copy.deepcopy((self.weights, self.random.bit_generator.state))

    def restore(self, snapshot: Any, /) -> None:
        self.weights, state = copy.deepcopy(snapshot)
        self.random.bit_generator.state = state
