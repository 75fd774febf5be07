"""Train every candidate for the whole planned run, and take the best: the oracle.

Source: exhaustive grid search, the yardstick of every cheaper method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrsearch.core import grid, validation
from lrsearch.core.curve import final_loss
from lrsearch.core.outcome import Status
from lrsearch.core.schedule import multipliers
from lrsearch.core.search import Curves, Plan, Probe
from lrsearch.core.stopping import StopRule
from lrsearch.core.suggest import Suggestion
from lrsearch.errors import InvalidArgument

__all__ = ["Sweep", "final_loss"]


@dataclass(frozen=True)
class Sweep:
    """Every candidate, trained for the whole planned run from the same start.

    Ranked by held-out loss when there is one, else by the mean training loss over the last
    tenth of the run. Needs ``train_steps``.

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

    def next_probes(self, curves: Curves, plan: Plan) -> tuple[Probe, ...]:
        """Ask for every candidate at once, then for nothing."""
        if curves:
            return ()
        if plan.train_steps is None:
            raise InvalidArgument.of("train_steps", None, "the length of the planned run")
        shape = multipliers(plan.schedule, plan.train_steps)
        return tuple(
            Probe(
                lane=lane,
                lrs=tuple((lr * shape).tolist()),
                stop=StopRule(divergence=False),
                evaluate=plan.can_evaluate,
            )
            for lane, lr in enumerate(self.candidates())
        )

    def conclude(self, curves: Curves, plan: Plan) -> Suggestion:
        """Take the candidate with the lowest final loss; low and high are its neighbours."""
        lrs = self.candidates()
        losses = [final_loss(curves[lane]) for lane in range(len(lrs))]
        status = _why_none(curves, losses)
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


def _why_none(curves: Curves, losses: list[float]) -> Status | None:
    """Return why no candidate can be preferred, or ``None`` when one can."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    if finite:
        # All lanes see the same batches, so without any learning the losses are the same.
        same = max(losses) - min(losses) <= 1e-9 * abs(finite[0])
        return Status.NO_SIGNAL if same and len(losses) > 1 else None
    # Broken before the first update, or only the held-out loss is.
    blameless = all(len(curve.finite()) in (0, len(curve)) for curve in curves.values())
    return Status.NOT_FINITE if blameless else Status.DIVERGED
