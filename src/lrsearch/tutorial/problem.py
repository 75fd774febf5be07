"""The problem of every step: a two-layer net on a noisy sine, and how it is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.search import Plan
from lrsearch.demos.two_layer_net import TwoLayerNet, noisy_sine

__all__ = [
    "BATCH",
    "EPOCHS",
    "EXAMPLES",
    "HELD_OUT",
    "HIDDEN",
    "NOISE",
    "plan",
    "problem",
    "train",
]

EXAMPLES, HELD_OUT, NOISE, HIDDEN, BATCH = 200, 1000, 0.05, 4, 10
# The planned run. A ladder cannot know how long it will be, and longer runs prefer smaller rates.
# 400 was chosen among 300, 400 and 500 on seeds 20 to 35; the page shows other lengths too.
EPOCHS = 400


def problem(seed: int = 0, batch: int | None = BATCH, noise: float = NOISE) -> TwoLayerNet:
    """Return the untrained net of ``seed``, with data, initial weights and batch order of its own.

    Args:
        seed: seed of everything random.
        batch: examples per update: 1, a mini-batch, or ``None`` for all.
        noise: standard deviation of the noise in the targets.
    """
    return TwoLayerNet(
        noisy_sine(EXAMPLES, noise, seed),
        noisy_sine(HELD_OUT, noise, 10_000 + seed),
        hidden=HIDDEN,
        batch=batch,
        seed=seed,
    )


def plan(epochs: int = EPOCHS) -> Plan:
    """Return the planned run: ``epochs`` epochs of mini-batches at a constant learning rate."""
    per_epoch = EXAMPLES // BATCH
    return Plan(train_steps=epochs * per_epoch, updates_per_epoch=per_epoch)


def train(net: TwoLayerNet, lrs: Iterable[float], every: int) -> Curve:
    """Train at the given rates and return the curve; nothing is searched or taken back.

    The held-out loss is measured before the first update and after every ``every`` updates. The
    first loss that is not finite ends the run.
    """
    used: list[float] = []
    losses: list[float] = []
    evaluations = [(0, net.evaluate())]
    for lr in lrs:
        used.append(lr)
        losses.append(net.step(lr))
        if not math.isfinite(losses[-1]):
            return Curve(used, losses, Stop.NOT_FINITE, 0, tuple(evaluations))  # type: ignore[arg-type]
        if len(losses) % every == 0:
            evaluations.append((len(losses), net.evaluate()))
    return Curve(used, losses, Stop.COMPLETED, 0, tuple(evaluations))  # type: ignore[arg-type]
