"""Train every candidate for the whole planned run, and take the best: the oracle.

Source: exhaustive grid search, the yardstick of every cheaper method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrsearch.core import grid, validation
from lrsearch.core.curve import Curve, final_loss
from lrsearch.core.evidence import BASELINE_LR, learned, same_losses
from lrsearch.core.outcome import Status
from lrsearch.core.schedule import multipliers
from lrsearch.core.search import Plan, Probe, Script
from lrsearch.core.stopping import StopRule
from lrsearch.core.suggest import Suggestion
from lrsearch.errors import InvalidArgument

__all__ = ["Sweep", "final_loss"]


@dataclass(frozen=True)
class Sweep:
    """Every candidate, trained for the whole planned run from the same start.

    Ranked by held-out loss when there is one, else by the mean training loss over the last
    tenth of the run. One run more, of weights that do not move, tells what falls by itself.
    Needs ``train_steps``.

    Args:
        lrs: the candidates, positive; or give ``min_lr`` and ``max_lr``.
        min_lr, max_lr: ends of a geometric grid.
        per_decade: candidates per factor of ten of that grid.

    Example:
        >>> Sweep(min_lr=0.1, max_lr=1.0, per_decade=2).candidates()
        (0.1, 0.31622776601683794, 1.0)
    """

    lrs: Sequence[float] = ()
    min_lr: float = 1e-5
    max_lr: float = 10.0
    per_decade: int = 5
    name: str = "sweep"

    def __post_init__(self) -> None:
        lrs = validation.listed("Sweep.lrs", self.lrs, "a list of learning rates")
        lrs = tuple(validation.positive("Sweep.lrs", lr) for lr in lrs)
        object.__setattr__(self, "lrs", lrs)
        for name, bound in (("min_lr", self.min_lr), ("max_lr", self.max_lr)):
            object.__setattr__(self, name, validation.positive(name, bound))
        validation.lr_bounds(self.min_lr, self.max_lr)
        validation.check_fields(self, per_decade=validation.at_least(1, 1000), name=validation.text)
        validation.positive("max_lr / min_lr", self.max_lr / self.min_lr)

    def candidates(self) -> tuple[float, ...]:
        """Return the learning rates that will be tried, ascending."""
        if self.lrs:
            return tuple(sorted(set(self.lrs)))
        count = max(2, round(math.log10(self.max_lr / self.min_lr) * self.per_decade) + 1)
        return tuple(grid.geometric(self.min_lr, self.max_lr, count).tolist())

    def search(self, plan: Plan) -> Script:
        """Run every candidate, and weights that do not move; take the lowest final loss."""
        if plan.train_steps is None:
            raise InvalidArgument.of("train_steps", None, "the length of the planned run")
        shape = multipliers(plan.schedule, plan.train_steps)
        lrs = self.candidates()
        rule = StopRule(divergence=False)
        *curves, baseline = yield [
            Probe(tuple((lr * shape).tolist()), role, rule, evaluate=plan.can_evaluate)
            for lr, role in [*((lr, "candidate") for lr in lrs), (BASELINE_LR, "baseline")]
        ]
        return self._best(curves, baseline, plan)

    def _best(self, curves: Sequence[Curve], baseline: Curve, plan: Plan) -> Suggestion:
        """Take the candidate with the lowest final loss; low and high are its neighbours."""
        lrs = self.candidates()
        losses = [final_loss(curve) for curve in curves]
        status = _why_none(curves, baseline, losses)
        if status is not None:
            return Suggestion(math.nan, math.nan, math.nan, status, status.value, self.name)
        best = int(np.nanargmin(np.where(np.isfinite(losses), losses, np.nan)))
        low, high = lrs[max(best - 1, 0)], lrs[min(best + 1, len(lrs) - 1)]
        inside = 0 < best < len(lrs) - 1
        return Suggestion(
            lr=lrs[best],
            low=low,
            high=high,
            status=Status.FOUND if inside or len(lrs) == 1 else Status.AT_EDGE,
            why=(
                f"Of {len(lrs)} learning rates trained for {plan.train_steps} steps each, "
                f"{lrs[best]:.3g} has the lowest final loss, {losses[best]:.4g}."
            ),
            rule=self.name,
        )


def _why_none(curves: Sequence[Curve], baseline: Curve, losses: Sequence[float]) -> Status | None:
    """Return why no candidate can be preferred, or ``None`` when one can."""
    if len(baseline.finite()) < len(baseline) or not math.isfinite(final_loss(baseline)):
        return Status.NOT_FINITE
    if not any(map(math.isfinite, losses)):
        return Status.DIVERGED
    if same_losses([*curves, baseline]):
        return Status.NO_EFFECT
    return None if any(learned(curve, baseline) for curve in curves) else Status.NO_SIGNAL
