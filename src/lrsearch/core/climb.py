"""Where a climb of the learning rate begins to do harm, and where training diverges.

Where gradients are clipped, or little is trained, the loss cannot rise far: a climb then goes on
over many decades in which training has long failed, and where it ends says nothing.
"""

from __future__ import annotations

import math

import numpy as np

from lrsearch.core.curve import Curve

__all__ = ["divergence", "harmless"]

_CLEAR = 1.5  # standard deviations of the batches' losses above the start: more is harm
_MOST = 3.0  # ... that one loss may count for, either way
_FEW = 2.0  # losses so few that their noise counts double
_ROUNDING = 1e-6  # share of a loss that single precision may get wrong
_EXPLODES = 2.5  # decades above the first harm by which a loss that can explode has done so


def divergence(climb: Curve) -> float:
    """Return where training diverges, in log10(lr): where the climb ended, if it ended by that.

    A loss that cannot rise far explodes late or never: it counts as diverged 2.5 decades above
    the first harm, by when the others have (of 99 climbs on the regret benchmark, all but 3).

    Example:
        >>> lrs = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]
        >>> divergence(Curve(lrs, [2.0, 2.1, 1.9, 2.0, 4.0, 4.0, 3.0, 4.0]))
        -0.5
    """
    end, first = math.log10(climb.lr[-1]), math.log10(climb.lr[harmless(climb)])
    return min(end, first + _EXPLODES)


def harmless(climb: Curve) -> int:
    """Return the last update before which a climb had done no harm.

    Harm is a loss above those of the first half of the climb, when the learning rate was tiny.
    A single hard batch is none, and a lucky one late in the climb does not end it: the climb is
    cut where the sum of all that the losses before lie above the start is the least.

    Args:
        climb: a run from a learning rate that moves nothing to one that breaks training, or does
            not; at least one update.

    Returns:
        An index of ``climb.lr``: the loss before that update was still harmless, and the update
        is the first that may have done harm. The last one if there is no harm at all.

    Example:
        >>> lrs = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
        >>> harmless(Curve(lrs, [2.0, 2.1, 1.9, 2.0, 1.5, 4.0, 3.0]))
        4

    Source: E. Page, "Continuous Inspection Schemes", Biometrika 41 (1954): the cumulative sum.
    """
    loss = climb.loss
    quiet = loss[: max(1, len(loss) // 2)]
    if not np.isfinite(quiet).all():
        return 0
    scale = float(np.abs(quiet).max()) or 1.0
    quiet = quiet / scale  # squares must not overflow
    # The fewer losses, the likelier all of them lie close together by chance.
    noise = max(float(np.std(quiet)) * (1.0 + _FEW / len(quiet)), _ROUNDING)
    above = (loss / scale - np.median(quiet)) / noise - _CLEAR
    above = np.where(np.isnan(above), _MOST, np.clip(above, -_MOST, _MOST))
    return int(np.argmin(np.cumsum(above)))
