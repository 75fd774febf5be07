"""What a search found: plain data, and how it is written as JSON."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrsearch.core.curve import Curve
    from lrsearch.core.suggest import Suggestion

__all__ = ["Cost", "Outcome", "Status"]


class Status(enum.Enum):
    """How a search ended. The value is the message: what happened and what to do."""

    FOUND = "A learning rate was found."
    AT_EDGE = (
        "The best learning rate lies at the edge of the range that was searched, so a better "
        "one may lie outside. Widen min_lr or max_lr, or leave them out and let the search "
        "find its own range."
    )
    NO_SIGNAL = (
        "The loss did not fall by more than its noise at any learning rate. Use more steps or "
        "larger batches, check that the loss depends on the trained parameters, or keep the "
        "learning rate you have if the model is trained already."
    )
    NO_EFFECT = (
        "The loss is the same at every learning rate. Check that the optimizer steps the "
        "parameters of this model, that its own lr is what it steps by (a wrapper around other "
        "optimizers may keep theirs), that gradients reach the parameters (no detach, no dead "
        "units, requires_grad) and that they are not all zero."
    )
    DIVERGED = (
        "The loss diverged at every learning rate tried, without falling first. Lower min_lr, "
        "or check the loss, the data's scale and the initialisation."
    )
    NOT_FINITE = (
        "The loss was NaN or infinite before any learning rate could act. Check the data for "
        "NaN, the loss for log(0) or a division by zero, and the weights."
    )
    TOO_FEW_POINTS = (
        "Too few finite losses to read a learning rate from. Use more steps, or a lower max_lr."
    )

    @property
    def found(self) -> bool:
        """Whether there is a learning rate to use."""
        return self in (Status.FOUND, Status.AT_EDGE)


HELD_OUT_BROKEN = (
    "The held-out loss is NaN or infinite before any training. Check the data of val_loader and "
    "the loss on them."
)


def broken_batch(number: int) -> str:
    """Say that a batch has no finite loss whatever the learning rate."""
    return (
        f"The loss of batch {number} is NaN or infinite whatever the learning rate. Check this "
        "batch for NaN, and the loss for log(0) or a division by zero, or leave such batches out."
    )


@dataclass(frozen=True)
class Cost:
    """What a search spent.

    Attributes:
        steps: optimizer updates, over all lanes.
        evaluations: measurements of the held-out loss.
        seconds: wall time.
        runs: ``steps`` divided by the length of the planned run, or ``None`` without one.
        evaluation_seconds: wall time of the measurements, which is in ``seconds`` too.
    """

    steps: int
    evaluations: int
    seconds: float
    runs: float | None = None
    evaluation_seconds: float = 0.0


@dataclass(frozen=True, repr=False)
class Outcome:
    """A learning rate with its interval, its evidence and its price.

    Attributes:
        lr: the learning rate for the first parameter group (the peak of the planned run);
            NaN when ``status.found`` is false.
        low: where the loss begins to fall, or the lower end of the interval.
        high: where the loss stops falling, or the upper end of the interval.
        status: how the search ended.
        why: one sentence on how the number came about, or why there is none.
        rule: the suggestion rule that gave the number.
        curves: every lane's raw losses.
        cost: what was spent.
        settings: the method and the planned run, as plain values.
        multipliers: learning rate of each parameter group divided by that of the first that is
            not at 0, of several optimizers one after the other.
        spread: standard deviation of log10(lr), in decades, as far as the losses tell it.
        noise: standard deviation of the loss from batch to batch.
        correction: decades by which ``lr`` lies above (below, if negative) what was best while
            it was measured, to allow for what the measurement was short of.
    """

    lr: float
    low: float
    high: float
    status: Status
    why: str
    rule: str
    curves: tuple[Curve, ...]
    cost: Cost
    settings: Mapping[str, object] = field(default_factory=dict)
    multipliers: tuple[float, ...] = (1.0,)
    spread: float | None = None
    noise: float | None = None
    correction: float | None = None

    def __repr__(self) -> str:
        # The curves alone would fill the screen many times.
        numbers = ", ".join(f"{name}={getattr(self, name):.3g}" for name in ("lr", "low", "high"))
        method = str(self.settings.get("method", self.rule))[:40]
        return (
            f"{type(self).__name__}({numbers}, status={self.status.name}, method={method!r}, "
            f"steps={self.cost.steps})"
        )

    @classmethod
    def of(
        cls,
        suggestion: Suggestion,
        *,
        curves: tuple[Curve, ...],
        cost: Cost,
        settings: Mapping[str, object],
    ) -> Outcome:
        """Combine what the method said with what was measured."""
        return cls(
            lr=suggestion.lr,
            low=suggestion.low,
            high=suggestion.high,
            status=suggestion.status,
            why=suggestion.why,
            rule=suggestion.rule,
            curves=curves,
            cost=cost,
            settings=settings,
            spread=suggestion.spread,
            noise=suggestion.noise,
            correction=suggestion.correction,
        )

    @property
    def interval(self) -> tuple[float, float] | None:
        """Two spreads to either side of ``lr``, or ``None`` where no spread was measured."""
        if self.spread is None or not self.status.found:
            return None
        reach = 10.0 ** min(2.0 * self.spread, 300.0)
        return self.lr / reach, self.lr * reach

    @property
    def group_lrs(self) -> tuple[float, ...]:
        """The learning rate of each parameter group."""
        return tuple(self.lr * multiplier for multiplier in self.multipliers)
