"""`lrsearch.Sweep` on the runs that the oracle has stored: the same answer without training."""

from __future__ import annotations

import math

import lrsearch
from benchmarks.regret.contestants.contestant import Answer
from benchmarks.regret.oracle import Oracle, load_oracle
from benchmarks.regret.problem import Task


class StoredRuns:
    """A trainable whose held-out loss is looked up by the largest lr that it was stepped at."""

    def __init__(self, oracle: Oracle, seed: int) -> None:
        column = oracle.seeds.index(seed)
        self._losses = {lr: row[column] for lr, row in zip(oracle.lrs, oracle.losses, strict=True)}
        self._peak = 0.0

    def step(self, lr: float) -> float:
        """Remember the peak; the training loss is not stored and does not matter here."""
        self._peak = max(self._peak, lr)
        return 0.0

    def snapshot(self) -> float:
        return self._peak

    def restore(self, snapshot: float, /) -> None:
        self._peak = snapshot

    def evaluate(self) -> float:
        nearest = min(self._losses, key=lambda lr: abs(math.log(lr / self._peak)))
        loss = self._losses[nearest]
        return math.inf if loss is None else loss


def replayed_sweep(task: Task, seed: int) -> Answer:
    """The sweep over the oracle's grid with one seed, at the cost of training every candidate.

    The regret of this answer is the noise of one seed against the mean of all: the best that
    can be had from single runs on that grid.
    """
    oracle = load_oracle(task)
    result = lrsearch.search(
        StoredRuns(oracle, seed),
        method=lrsearch.Sweep(lrs=oracle.lrs),
        train_steps=task.train_steps,
        schedule=task.schedule,
        seed=seed,
        progress=False,
        throw=False,
    )
    message = "replayed from the oracle's stored runs"
    lr = result.lr if result.status.found else None
    return Answer(lr, result.cost.steps, oracle.seconds / len(oracle.seeds), message)
