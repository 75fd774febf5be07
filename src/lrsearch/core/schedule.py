"""The shape of the planned run: how its learning rate moves relative to its peak.

A shape is a pure function ``shape(step, total) -> multiplier`` with ``step`` counted from 0
and a multiplier in [0, 1]; the learning rate of update ``step`` is ``peak * multiplier``.
What a user gives as a schedule becomes such a shape in :func:`settled`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lrsearch.core.validation import whole
from lrsearch.errors import InvalidArgument, Words

__all__ = [
    "SHAPES",
    "Shape",
    "Table",
    "constant",
    "cosine",
    "linear",
    "multipliers",
    "one_cycle",
    "settled",
    "shape",
]

Shape: TypeAlias = Callable[[int, int], float]

_ABSOLUTE = 0.2  # a schedule that stays below this share of its peak means learning rates
_NEAR_ONE = 0.05  # a callable may end its rise or begin its fall beside the peak


def constant(step: int, total: int) -> float:
    """Stay at the peak throughout."""
    return 1.0


def linear(step: int, total: int) -> float:
    """Fall from the peak at the first update in a straight line towards zero.

    The multiplier is ``1 - step / total``, so that the last update still moves the weights.
    """
    return 1.0 - step / total


def cosine(step: int, total: int) -> float:
    """Fall from the peak to zero along half a cosine.

    Source: I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
    arXiv 1608.03983, equation 5, one cycle with a minimum of zero.
    """
    return 0.5 * (1.0 + math.cos(math.pi * step / total))


def one_cycle(step: int, total: int) -> float:
    """Rise along a cosine from 1/25 of the peak for 30 % of the run, then fall to nearly zero.

    The numbers are the defaults of ``torch.optim.lr_scheduler.OneCycleLR`` (``pct_start=0.3``,
    ``div_factor=25``, ``final_div_factor=1e4``); its momentum cycle is not part of the shape.

    Source: L. Smith, N. Topin, "Super-Convergence", arXiv 1708.07120.
    """
    first, last, top = 1 / 25, 1 / 25 / 1e4, 0.3 * total - 1
    if step <= top:
        return _cosine_between(first, 1.0, step / top)
    return _cosine_between(1.0, last, (step - top) / max(total - 1 - top, 1e-12))


def warmup_stable_decay(step: int, total: int) -> float:
    """Warm up over the first 5 %, stay at the peak, and fall in a line over the last 20 %.

    Source: S. Hu et al., "MiniCPM", arXiv 2404.06395, section 4 (the schedule; the shares of
    warmup and decay are common choices, not theirs).
    """
    warm, decay = 0.05 * total, 0.2 * total
    return min(1.0, (step + 1) / max(warm, 1.0), (total - step) / max(decay, 1.0))


SHAPES: dict[str, Shape] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "one-cycle": one_cycle,
    "wsd": warmup_stable_decay,
}


def shape(schedule: str | Shape) -> Shape:
    """Return the shape of that name, or the callable itself.

    Args:
        schedule: one of ``"constant"``, ``"linear"``, ``"cosine"``, ``"one-cycle"``, ``"wsd"``,
            or a callable ``(step, total) -> multiplier`` with multipliers in [0, 1].

    Raises:
        InvalidArgument: the name is unknown.

    Example:
        >>> shape("linear")(5, 10)
        0.5
    """
    if callable(schedule):
        return schedule
    if isinstance(schedule, str) and schedule in SHAPES:
        return SHAPES[schedule]
    raise _no_schedule(schedule)


@dataclass(frozen=True)
class Table:
    """A schedule given by the multiplier of every update; runs of another length stretch it.

    Args:
        name: what to call it.
        multipliers: learning rate of each update over the peak, in [0, 1].
        peak_over_base: the peak over the base learning rate (``initial_lr``) of the scheduler
            that this was read from, ``None`` where it was not read from one.

    Example:
        >>> warm = Table("warmup", (0.0, 0.5, 1.0, 1.0))
        >>> [warm(step, 4) for step in range(4)], [warm(step, 2) for step in range(2)]
        ([0.0, 0.5, 1.0, 1.0], [0.0, 1.0])
    """

    name: str
    multipliers: tuple[float, ...] = field(repr=False)
    peak_over_base: float | None = None

    def __call__(self, step: int, total: int) -> float:
        """Return the multiplier of an update of a run of ``total`` updates."""
        place = step * len(self.multipliers) / total
        before = min(int(place), len(self.multipliers) - 1)
        after = min(before + 1, len(self.multipliers) - 1)
        low, high = self.multipliers[before], self.multipliers[after]
        return low + (high - low) * (place - before)

    def __repr__(self) -> str:
        return f"{self.name} over {len(self.multipliers)} updates"


@dataclass(frozen=True)
class _Warmed:
    """A linear rise over a share of the run, and then another shape over the rest of it."""

    schedule: str | Shape
    share: float

    def __call__(self, step: int, total: int) -> float:
        warm = min(round(self.share * total), total - 1)
        if step < warm:
            return (step + 1) / (warm + 1)
        return float(shape(self.schedule)(step - warm, total - warm))

    def __repr__(self) -> str:
        name = self.schedule if isinstance(self.schedule, str) else repr(self.schedule)
        return f"{name} after a warmup over {self.share:.3g} of the run"


def settled(
    schedule: str | Shape | Sequence[float],
    train_steps: int | None = None,
    warmup_steps: float | None = None,
) -> str | Shape:
    """Return the shape that a user means, with multipliers of its own peak.

    A callable that rises above 1 is divided by its largest value. One that does not look at
    ``total`` is read over ``train_steps``, as a sequence is, so that shorter runs compress it.

    Args:
        schedule: a name, a callable ``(step, total) -> multiplier``, or a sequence of the
            multipliers of the whole run.
        train_steps: length of the planned run, where it is known.
        warmup_steps: updates of a linear rise before it, or their share of the run below 1.

    Raises:
        InvalidArgument: this is no schedule, it gives learning rates in the place of
            multipliers, or the length of the run is needed and not known.

    Example:
        >>> multipliers(settled("linear", 10, warmup_steps=2), 10).round(2).tolist()
        [0.33, 0.67, 1.0, 0.88, 0.75, 0.62, 0.5, 0.38, 0.25, 0.12]
        >>> settled([1.0, 2.0, 1.0, 0.0], 4).multipliers
        (0.5, 1.0, 0.5, 0.0)
    """
    if train_steps is not None:
        train_steps = whole("train_steps", train_steps, 1)
    if not isinstance(schedule, str) and not callable(schedule):
        schedule = _read(schedule)
    elif not isinstance(schedule, (str, Table, _Warmed)) and train_steps is not None:
        schedule = _looked_at(schedule, train_steps)
    shape(schedule)
    if warmup_steps is None or warmup_steps == 0:
        return schedule
    if isinstance(schedule, Table):
        raise InvalidArgument.of(
            "warmup_steps",
            warmup_steps,
            f"None where the schedule ({schedule!r}) tells every update",
            "Put the warmup into the schedule, or give a name like schedule='linear'.",
        )
    return _Warmed(schedule, _share(warmup_steps, train_steps))


def _share(warmup_steps: Any, train_steps: int | None) -> float:
    """Return the share of the run that the warmup takes."""
    number = isinstance(warmup_steps, (int, float, np.integer, np.floating))
    if number and not isinstance(warmup_steps, bool) and 0.0 < warmup_steps < 1.0:
        return float(warmup_steps)
    if train_steps is None:
        raise InvalidArgument.of(
            "warmup_steps", warmup_steps, "a share below 1 of the run, or train_steps beside it"
        )
    steps = whole("warmup_steps", warmup_steps, 1)
    if steps >= train_steps:
        raise InvalidArgument.of(
            "warmup_steps", steps, f"fewer than the {train_steps} updates of the planned run"
        )
    return steps / train_steps


def _read(values: Any) -> Table:
    """Return the schedule that a sequence of multipliers means."""
    try:
        numbers = np.array([float(value) for value in values])
    except (TypeError, ValueError) as error:
        raise _no_schedule(values) from error
    if not len(numbers):
        raise InvalidArgument.of("schedule", values, "at least one multiplier")
    bad = ~(np.isfinite(numbers) & (numbers >= 0.0))
    if bad.any():
        place = int(np.argmax(bad))
        raise InvalidArgument.of(
            "schedule", float(numbers[place]), f"a multiplier from 0 at update {place}"
        )
    return _table("a sequence", numbers, len(numbers))


def _looked_at(function: Shape, steps: int) -> Shape:
    """Return the callable, or its table over the planned run where it is not a shape."""
    values = _values(function, steps)
    if not (np.isfinite(values) & (values >= 0.0)).all() or not values.any():
        return function  # said by ``multipliers``, with the update
    name = getattr(function, "__name__", type(function).__name__)
    table = _table("a function" if name == "<lambda>" else name, values, steps)
    if steps > 1 and np.ptp(values) > 0.0 and _ignores_total(function, values):
        warnings.warn(
            f"schedule: {name} gives a run of {2 * steps} updates the multipliers of one of "
            f"{steps}, so it does not look at total. It is read over {steps} updates and "
            "compressed for shorter runs; use total, or pass the sequence of multipliers.",
            UserWarning,
            stacklevel=5,  # settled, _planned, find_lr, the user
        )
        return table
    return function if 1.0 - _NEAR_ONE <= values.max() <= 1.0 + 1e-9 else table


def _table(name: str, values: npt.NDArray[np.float64], steps: int) -> Table:
    peak = float(values.max())
    if peak == 0.0:
        raise InvalidArgument.of("schedule", name, "a multiplier above 0 at some update")
    if peak < _ABSOLUTE:
        raise InvalidArgument.of(
            "schedule",
            Words(f"{peak:.3g} as the largest of {steps} multipliers"),
            "multipliers of the peak, so about 1 at the highest",
            "If these are learning rates, divide them by the largest one: the search looks for "
            "the peak itself.",
        )
    return Table(name, tuple((values / peak).tolist()))


def _ignores_total(function: Shape, values: npt.NDArray[np.float64]) -> bool:
    steps = len(values)
    try:
        return all(float(function(i, 2 * steps)) == value for i, value in enumerate(values))
    except Exception:
        return False


def _no_schedule(schedule: object) -> InvalidArgument:
    names = ", ".join(repr(name) for name in SHAPES)
    return InvalidArgument.of(
        "schedule",
        schedule,
        f"one of {names}, a callable(step, total), a sequence of multipliers, or a scheduler "
        "of torch",
    )


def multipliers(schedule: str | Shape, total: int) -> npt.NDArray[np.float64]:
    """Return the multiplier of every update of a run of ``total`` updates, shape ``(total,)``.

    Raises:
        InvalidArgument: ``total`` is not a whole number from 1, or a callable returned
            something that is not a number in [0, 1], or returned zero throughout.

    Example:
        >>> multipliers("linear", 4).tolist()
        [1.0, 0.75, 0.5, 0.25]
    """
    values = _values(shape(schedule), whole("total", total, 1))
    if not values.any():
        raise InvalidArgument.of("schedule", schedule, "a multiplier above 0 at some update")
    bad = ~((values >= 0.0) & (values <= 1.0 + 1e-9))
    if bad.any():
        step = int(np.argmax(bad))
        raise InvalidArgument.of(
            "schedule",
            float(values[step]),
            f"a multiplier of the peak between 0 and 1 at update {step} of {total}",
            "Divide by the largest value: the search looks for the peak itself.",
        )
    return values


def _values(function: Shape, total: int) -> npt.NDArray[np.float64]:
    try:
        return np.array([float(function(step, total)) for step in range(total)])
    except Exception as error:  # the user's code may raise anything
        raise InvalidArgument.of(
            "schedule",
            function,
            "a callable (step, total) -> multiplier",
            f"For a run of {total} updates it raised {type(error).__name__}: {error}",
        ) from error


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))
