"""The shape of the planned run: how its learning rate moves relative to its peak.

A shape is a pure function ``shape(step, total) -> multiplier`` with ``step`` counted from 0
and a multiplier in [0, 1]; the learning rate of update ``step`` is ``peak * multiplier``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lrsearch.core.validation import whole
from lrsearch.errors import InvalidArgument

__all__ = ["SHAPES", "Shape", "constant", "cosine", "linear", "multipliers", "one_cycle", "shape"]

Shape: TypeAlias = Callable[[int, int], float]


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
    names = ", ".join(repr(name) for name in SHAPES)
    raise InvalidArgument.of("schedule", schedule, f"one of {names}, or a callable(step, total)")


def multipliers(schedule: str | Shape, total: int) -> npt.NDArray[np.float64]:
    """Return the multiplier of every update of a run of ``total`` updates, shape ``(total,)``.

    Raises:
        InvalidArgument: ``total`` is not a whole number from 1, or a callable returned
            something that is not a number in [0, 1], or returned zero throughout.

    Example:
        >>> multipliers("linear", 4).tolist()
        [1.0, 0.75, 0.5, 0.25]
    """
    function = shape(schedule)
    steps = range(whole("total", total, 1))
    try:
        values = np.array([float(function(step, total)) for step in steps])
    except (TypeError, ValueError) as error:
        raise InvalidArgument.of(
            "schedule", schedule, "a callable (step, total) -> multiplier", str(error)
        ) from error
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


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))
