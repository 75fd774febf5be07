"""The textbook's network in NumPy: one input, a few sigmoid hidden units, one linear output.

Small enough to look inside: besides loss and gradient there is the full matrix of second
derivatives, so that a flat stretch of its loss can be called a saddle because it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lrsearch.errors import InvalidArgument

__all__ = [
    "Curvature",
    "Examples",
    "TwoLayerNet",
    "curvature",
    "gradient",
    "hessian",
    "loss",
    "noisy_sine",
    "predict",
]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Inputs and targets, both of shape ``(n,)``."""

    x: FloatArray
    y: FloatArray

    def __post_init__(self) -> None:
        if self.x.ndim != 1 or self.x.shape != self.y.shape or not len(self.x):
            shapes = f"x {self.x.shape} and y {self.y.shape}"
            raise InvalidArgument.of("Examples", shapes, "two equal shapes (n,) with n >= 1")

    def __len__(self) -> int:
        return len(self.x)


def noisy_sine(count: int, noise: float = 0.05, seed: int = 0) -> Examples:
    """Return one period of a sine with noise, inputs and targets scaled to about [0, 1].

    ``y = 0.5 + 0.5 sin(2 pi x) + noise``, inputs uniform on [0, 1].

    Args:
        count: number of examples, at least 1.
        noise: standard deviation of the noise in ``y``, at least 0.
        seed: seed of inputs and noise.

    Example:
        >>> sine = noisy_sine(200, noise=0.0)
        >>> bool(np.allclose(sine.y, 0.5 + 0.5 * np.sin(2 * np.pi * sine.x)))
        True
    """
    if count < 1:
        raise InvalidArgument.of("count", count, "at least 1")
    if not noise >= 0.0:
        raise InvalidArgument.of("noise", noise, "at least 0")
    random = np.random.default_rng(seed)
    x = random.uniform(0.0, 1.0, count)
    y = 0.5 + 0.5 * np.sin(2.0 * np.pi * x) + noise * random.standard_normal(count)
    return Examples(x, y)


# --- the network as pure functions of one weight vector -------------------------------------
# The vector is (w1, b1, w2, b2) with h hidden units: shapes (h,), (h,), (h,), (1,).


class _Parts(NamedTuple):
    w1: FloatArray
    b1: FloatArray
    w2: FloatArray
    b2: FloatArray


def _parts(weights: FloatArray) -> _Parts:
    h = len(weights) // 3
    return _Parts(weights[:h], weights[h : 2 * h], weights[2 * h : 3 * h], weights[3 * h :])


def _hidden(p: _Parts, x: FloatArray) -> FloatArray:
    """Sigmoid of the hidden units, shape ``(n, h)``; written with tanh it cannot overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * (x[:, None] * p.w1 + p.b1)))


def predict(weights: FloatArray, x: FloatArray) -> FloatArray:
    """Return the network's outputs, shape ``(n,)``, for weights of shape ``(3 h + 1,)``."""
    p = _parts(weights)
    return np.asarray(_hidden(p, x) @ p.w2 + p.b2)


def loss(weights: FloatArray, examples: Examples) -> float:
    """Return half the mean squared error, ``mean((output - y)**2) / 2``."""
    error = predict(weights, examples.x) - examples.y
    return float(error @ error) / (2.0 * len(error))


def gradient(weights: FloatArray, x: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
    """Return the loss and its gradient, shape ``(3 h + 1,)``, on examples of shape ``(n,)``."""
    p = _parts(weights)
    n, h = len(x), len(p.w1)
    s = _hidden(p, x)  # (n, h)
    error = s @ p.w2 + p.b2 - y  # (n,)
    share = error / n
    back = (s - s * s) * share[:, None] * p.w2  # (n, h): d loss / d (w1 x + b1)
    slope = np.empty_like(weights)
    slope[:h] = x @ back
    np.add.reduce(back, axis=0, out=slope[h : 2 * h])  # .sum() without its overhead
    slope[2 * h : 3 * h] = share @ s
    slope[3 * h] = np.add.reduce(share)
    return 0.5 * float(error @ share), slope


def hessian(weights: FloatArray, examples: Examples) -> FloatArray:
    """Return all second derivatives of the loss, shape ``(3 h + 1, 3 h + 1)``.

    ``mean(J^T J + error * d2 output)``, with ``J`` the derivative of the output.
    """
    p, x = _parts(weights), examples.x
    n, h = len(x), len(p.w1)
    s = _hidden(p, x)
    first = s * (1.0 - s)
    second = first * (1.0 - 2.0 * s)
    error = s @ p.w2 + p.b2 - examples.y
    column = x[:, None]
    jacobian = np.hstack([first * p.w2 * column, first * p.w2, s, np.ones((n, 1))])
    result = jacobian.T @ jacobian / n
    # The output couples only parameters of the same hidden unit.
    w1, b1, w2 = (np.arange(h) + offset for offset in (0, h, 2 * h))
    for i, j, values in (
        (w1, w1, second * p.w2 * column**2),
        (w1, b1, second * p.w2 * column),
        (b1, b1, second * p.w2),
        (w1, w2, first * column),
        (b1, w2, first),
    ):
        coupling = error @ values / n
        result[i, j] += coupling
        if i is not j:
            result[j, i] += coupling
    return np.asarray(result)


@dataclass(frozen=True)
class Curvature:
    """What the loss looks like around a point.

    Attributes:
        gradient_norm: Euclidean length of the gradient.
        lowest: smallest eigenvalue of the Hessian; below zero the loss curves downward.
        highest: largest eigenvalue; full-batch steps overshoot above ``2 / highest``.
        downward: how many eigenvalues are below zero.
    """

    gradient_norm: float
    lowest: float
    highest: float
    downward: int


def curvature(weights: FloatArray, examples: Examples) -> Curvature:
    """Measure gradient norm and extreme eigenvalues of the Hessian on ``examples``."""
    _, slope = gradient(weights, examples.x, examples.y)
    eigenvalues = np.linalg.eigvalsh(hessian(weights, examples))
    return Curvature(
        gradient_norm=float(np.linalg.norm(slope)),
        lowest=float(eigenvalues[0]),
        highest=float(eigenvalues[-1]),
        downward=int((eigenvalues < 0.0).sum()),
    )


# --- the network as something a search can train ---------------------------------------------


@dataclass(frozen=True)
class _Snapshot:
    weights: FloatArray
    random: Mapping[str, Any]
    order: npt.NDArray[np.intp]
    position: int


class TwoLayerNet:
    """The network with its training data: a :class:`lrsearch.core.trainable.Trainable`.

    The three forms of gradient descent differ only in ``batch``: 1 is single-sample, a number
    in between is mini-batch, ``None`` is full-batch. Every epoch visits all examples once in
    a new random order; the last batch of an epoch may be smaller.

    Args:
        train: examples to learn from.
        held_out: examples that ``evaluate`` measures; ``train`` when not given.
        hidden: hidden units, at least 1.
        batch: examples per update, from 1 to all; ``None`` for all.
        seed: seed of the initial weights and of the batch order.

    Raises:
        InvalidArgument: ``hidden`` or ``batch`` cannot be used.

    Example:
        >>> net = TwoLayerNet(noisy_sine(200), hidden=4, batch=10, seed=0)
        >>> before = net.snapshot()
        >>> losses = [net.step(lr=0.5) for _ in range(net.updates_per_epoch)]
        >>> net.restore(before)
        >>> net.step(lr=0.5) == losses[0]
        True

    Source: the network, the initialisation and the loss are those of Microsoft ai-edu, "Searching
    the optimal learning rate"; X. Glorot, Y. Bengio, "Understanding the difficulty of training
    deep feedforward neural networks" (2010), equation 16, for the initial weights.
    """

    def __init__(
        self,
        train: Examples,
        held_out: Examples | None = None,
        *,
        hidden: int = 4,
        batch: int | None = 10,
        seed: int = 0,
    ) -> None:
        if hidden < 1:
            raise InvalidArgument.of("hidden", hidden, "at least 1")
        if batch is not None and not 1 <= batch <= len(train):
            raise InvalidArgument.of("batch", batch, f"1 to {len(train)}, or None for all")
        self.train = train
        self.held_out = train if held_out is None else held_out
        self.batch = len(train) if batch is None else int(batch)
        start, self._random = (
            np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2)
        )
        bound = np.sqrt(6.0 / (1 + hidden))
        self.weights: FloatArray = np.zeros(3 * hidden + 1)
        self.weights[:hidden] = start.uniform(-bound, bound, hidden)
        self.weights[2 * hidden : 3 * hidden] = start.uniform(-bound, bound, hidden)
        self._shuffle(np.arange(len(train)))
        self._position = len(train)  # an epoch has just ended: the first step draws an order

    @property
    def updates_per_epoch(self) -> int:
        """Updates in one pass over the training data."""
        return -(-len(self.train) // self.batch)

    def step(self, lr: float) -> float:
        """Make one update of gradient descent; return the loss that it was computed from."""
        x, y = self._next_batch()
        # Divergence is an answer here, not an accident.
        with np.errstate(over="ignore", invalid="ignore"):
            value, slope = gradient(self.weights, x, y)
            self.weights = self.weights - lr * slope
        return value

    def evaluate(self) -> float:
        """Return the loss on the held-out examples."""
        with np.errstate(over="ignore", invalid="ignore"):
            return loss(self.weights, self.held_out)

    def curvature(self) -> Curvature:
        """Return gradient norm and extreme eigenvalues of the Hessian on all training data."""
        return curvature(self.weights, self.train)

    def snapshot(self) -> _Snapshot:
        """Return a copy of the weights, the random state and the place in the epoch."""
        return _Snapshot(
            self.weights.copy(),
            self._random.bit_generator.state,
            self._order.copy(),
            self._position,
        )

    def restore(self, snapshot: _Snapshot, /) -> None:
        """Return to the state of ``snapshot``."""
        self.weights = snapshot.weights.copy()
        self._random.bit_generator.state = snapshot.random
        self._shuffle(snapshot.order.copy())
        self._position = snapshot.position

    def _next_batch(self) -> tuple[FloatArray, FloatArray]:
        if self._position >= len(self.train):
            self._shuffle(self._random.permutation(len(self.train)))
            self._position = 0
        start, self._position = self._position, self._position + self.batch
        return self._x[start : self._position], self._y[start : self._position]

    def _shuffle(self, order: npt.NDArray[np.intp]) -> None:
        # Once per epoch, so that a batch is a plain slice: a step takes microseconds.
        self._order, self._x, self._y = order, self.train.x[order], self.train.y[order]
