"""A lane of a race that goes on as the planned run, so that its updates are not lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.outcome import Outcome
from lrsearch.core.schedule import multipliers
from lrsearch.core.search import Plan
from lrsearch.errors import InvalidArgument

__all__ = ["Continued", "HandOver"]


@dataclass(frozen=True)
class Continued:
    """What a model and its optimizer hold now.

    Attributes:
        lr: peak learning rate of the lane, for the first parameter group.
        updates: updates of the planned run that are done.
    """

    lr: float
    updates: int


@dataclass(frozen=True)
class HandOver:
    """The states of the lanes that a search kept.

    Attributes:
        trainable: what was searched.
        states: its snapshots at the end of lanes, by lane.
        plan: the planned run.
    """

    trainable: Any
    states: Mapping[int, object]
    plan: Plan

    def give(self, outcome: Outcome, model: object, optimizer: object) -> Continued:
        """Load the kept lane nearest to the answer.

        Raises:
            InvalidArgument: these are not what was searched, or no lane is on the way of the
                planned run; nothing was changed.
        """
        owns = getattr(self.trainable, "owns", None)
        if not (owns(model, optimizer) if owns else model is self.trainable):
            raise InvalidArgument(
                "continue_from: the model and the optimizer are not those that were searched. "
                "Give the same objects."
            )
        lane = self._nearest(outcome)
        self._check_on_the_way(lane)
        self.trainable.restore(self.states[lane.lane])
        return Continued(lr=float(lane.lr.max()), updates=len(lane))

    def _nearest(self, outcome: Outcome) -> Curve:
        kept = [curve for curve in outcome.curves if curve.lane in self.states]
        usable = [
            curve
            for curve in kept
            if curve.stop is Stop.COMPLETED and outcome.low <= curve.lr.max() <= outcome.high
        ]
        if not usable:
            tried = ", ".join(f"{curve.lr.max():.3g}" for curve in kept)
            raise InvalidArgument(
                f"continue_from: no kept lane (at {tried}) lies within the interval from "
                f"{outcome.low:.3g} to {outcome.high:.3g}. Train from the start with result.lr."
            )
        return min(usable, key=lambda curve: abs(math.log(curve.lr.max() / outcome.lr)))

    def _check_on_the_way(self, lane: Curve) -> None:
        steps = self.plan.train_steps or 0
        if len(lane) < steps and np.ptp(multipliers(self.plan.schedule, steps)) > 1e-9:
            raise InvalidArgument(
                f"continue_from: the lane ran the {self.plan.schedule!r} schedule compressed to "
                f"{len(lane)} of {steps} updates, so its state is not on the way of the planned "
                "run. Train from the start with result.lr; a budget from 3 on has lanes of full "
                "length."
            )
