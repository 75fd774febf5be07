"""Whether a trial learned anything: its losses against those of weights that do not move.

Trials of one search see the same batches with the same random draws. So the loss of a batch before
a step is compared with the loss of the same batch under the weights of the start (the *baseline*),
and what makes a batch easy or hard falls out of the difference.

Where nothing can be learned, the expected difference of a batch that was not seen before is not
positive whatever the trial did so far. The sum of the differences is then a supermartingale, and
the test below keeps its level although the differences depend on each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrsearch.core.curve import Curve

__all__ = [
    "BASELINE_LR",
    "Fall",
    "critical_value",
    "held_out_fall",
    "learned",
    "same_losses",
    "training_fall",
    "training_learned",
    "unpaired_fall",
]

FloatArray = npt.NDArray[np.float64]

#: Chance that one comparison takes noise for a fall. A search makes some thirty of them, which
#: depend on each other strongly; ``benchmarks/noise.py`` counts what it takes for one in all.
LEVEL = 5e-4
_FEWEST = 8  # differences from which their own scatter can be judged
_FEWEST_PER_STEP = 4  # differences from which a steady growth of them can be judged
_PLAIN = 0.1  # share of a held-out measure that chance hardly takes from it
_FOLLOWS = 0.3  # share of the training loss's fall that the held-out loss must make
_ROUNDING = 1e-7  # share of a loss that single precision may get wrong
_HUGE = 1e100  # squares of larger differences overflow
# Student's quantile at 1 - LEVEL for 0, 1, ... degrees of freedom.
_FEW_FREEDOMS = (math.inf, 636.6, 31.60, 12.92, 8.610, 6.869, 5.959)
# Quantile of the normal distribution at 1 - LEVEL.
_NORMAL = 3.2905267314919255


@dataclass(frozen=True)
class Fall:
    """By how much a trial lies below the baseline.

    Attributes:
        size: mean difference of the losses, positive where the trial is lower.
        error: standard error of that mean.
        count: independent differences behind it.
    """

    size: float
    error: float
    count: int

    @property
    def significant(self) -> bool:
        """Whether noise alone is this large in fewer than ``LEVEL`` of comparisons."""
        if not math.isfinite(self.size) or self.count < 2:
            return False
        return self.size > critical_value(self.count - 1) * self.error


NOTHING = Fall(0.0, math.inf, 0)
#: A learning rate at which no weight moves that can be seen.
BASELINE_LR = 1e-10


def critical_value(freedom: int) -> float:
    """Return the quantile of Student's distribution at ``1 - LEVEL``.

    By the expansion in powers of one over the degrees of freedom, to 1 % from 7 on; from a table
    below.

    Source: M. Abramowitz, I. Stegun, "Handbook of Mathematical Functions" (1964), 26.7.5.

    Example:
        >>> round(critical_value(7), 1), round(critical_value(1000), 2)
        (5.4, 3.3)
    """
    if freedom < len(_FEW_FREEDOMS):
        return _FEW_FREEDOMS[freedom]
    z, n = _NORMAL, float(freedom)
    terms = (
        z,
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
    )
    return sum(term / n**power for power, term in enumerate(terms))


def learned(trial: Curve, baseline: Curve, noise: float = 0.0) -> bool:
    """Whether a trial learned more than noise can feign.

    By its held-out loss when there is one: a training loss also falls where noise is learned by
    heart. Where the scatter of the held-out data is unknown, the training loss must have fallen
    beyond its noise, and the held-out loss with it; or, as of a measure that is no loss, the
    held-out one by a tenth of itself.

    Args:
        trial: a run that may have learned.
        baseline: weights that did not move, from the same start; as long as the trial, on the same
            batches, where training losses are to be compared.
        noise: standard deviation of the training loss from batch to batch, where it is known.
    """
    if not np.isfinite(trial.loss).all():
        return False
    trained = len(trial) == len(baseline) and training_learned(trial, baseline)
    if not (trial.evaluations and baseline.evaluations):
        return trained
    fall = held_out_fall(trial, baseline, noise)
    if fall.significant or len(baseline.parts) == len(trial.parts) >= 2:
        return fall.significant
    if fall.size >= _PLAIN * abs(baseline.evaluations[-1][1]) > 0.0:
        return True
    gains, scale = _gains(trial, baseline)
    return trained and fall.size >= _FOLLOWS * scale * float(np.mean(gains))


def training_learned(trial: Curve, baseline: Curve) -> bool:
    """Whether the training loss fell beyond its noise, batch by batch or on average."""
    return training_fall(trial, baseline).significant or unpaired_fall(trial, baseline).significant


def training_fall(trial: Curve, baseline: Curve) -> Fall:
    """Compare training losses batch by batch: over the whole trial, its second half, or per step.

    What is clearest counts. A trial that begins to learn falls in proportion to the steps made, so
    the differences per step scatter less than the differences. The first batch tells nothing,
    since no step has been made before it.

    Args:
        trial: a run at learning rates that may move the weights.
        baseline: a run from the same start on the same batches at a learning rate of nearly zero;
            what it has made fewer steps for is not compared.
    """
    gains, scale = _gains(trial, baseline)
    parts = (gains, gains[len(gains) // 2 :])
    falls = [_mean_fall(part, scale) for part in parts if len(part) >= _FEWEST]
    if len(gains) >= _FEWEST_PER_STEP:
        falls.append(_mean_fall(gains / np.arange(1.0, len(gains) + 1.0), scale))
    return max(falls, key=_clearness, default=NOTHING)


def unpaired_fall(trial: Curve, baseline: Curve) -> Fall:
    """Compare mean losses, with the scatter of the baseline's from batch to batch as the noise.

    Less sharp than :func:`training_fall`, but it needs no more than two steps of the trial. Where
    the trial scatters more than the baseline, as from a start that is equally wrong about
    everything, its own scatter counts.
    """
    gains, scale = _gains(trial, baseline)
    quiet = baseline.finite().loss
    if len(gains) < 2 or len(quiet) < 3:
        return NOTHING
    noise = max(float(np.std(quiet / scale, ddof=1)), _scatter(gains))
    error = max(noise * math.sqrt(1.0 / len(gains) + 1.0 / len(quiet)), _ROUNDING)
    return Fall(scale * float(np.mean(gains)), scale * error, len(quiet))


def held_out_fall(trial: Curve, baseline: Curve, noise: float = 0.0) -> Fall:
    """Compare the last held-out losses, part by part of the held-out data.

    Where the parts are unknown, the held-out data count as one training batch.

    Args:
        trial, baseline: runs from the same start with a held-out loss at their end.
        noise: standard deviation of the training loss from batch to batch, where the trial is too
            short to tell it.
    """
    if not (trial.evaluations and baseline.evaluations):
        return NOTHING
    before = baseline.evaluations[-1][1]
    size = before - trial.evaluations[-1][1]
    if not math.isfinite(size):
        return NOTHING
    if len(baseline.parts) == len(trial.parts) >= 2:
        gains = np.array(baseline.parts) - np.array(trial.parts)
        unit = float(np.abs(gains).max()) or 1.0
        error = unit * float(np.std(gains / unit, ddof=1)) / math.sqrt(len(gains))
        return Fall(float(gains.mean()), max(error, _ROUNDING * abs(before)), len(gains))
    gains, scale = _gains(trial, baseline)
    error = scale * max(_scatter(gains), _ROUNDING)
    short = len(gains) < _FEWEST
    return Fall(size, max(error, noise) if short else error, max(len(gains), _FEWEST))


def same_losses(curves: list[Curve]) -> bool:
    """Whether all curves have the same losses, although their learning rates differ.

    Example:
        >>> same_losses([Curve([lr] * 3, [2.0, 1.9, 2.1]) for lr in (0.1, 1.0)])
        True
    """
    lrs = {curve.lr[: len(curve)].tobytes() for curve in curves}
    steps = min((len(curve) for curve in curves), default=0)
    if steps < 2 or len(lrs) < 2:
        return False
    losses = {curve.loss[:steps].tobytes() for curve in curves}
    # Where a training loss is cut off, the held-out losses may still differ.
    held_out = {pair for curve in curves for pair in curve.evaluations}
    return len(losses) == 1 and len(held_out) == len({made for made, _ in held_out})


def _gains(trial: Curve, baseline: Curve) -> tuple[FloatArray, float]:
    """Differences of the losses batch by batch, in units of the largest loss; and that unit."""
    count = min(len(trial.finite()), len(baseline.finite()))
    scale = float(np.abs(baseline.loss[:count]).max(initial=0.0)) or 1.0
    # Differences of huge losses must not overflow.
    gains = baseline.loss[1:count] / scale - trial.loss[1:count] / scale
    return np.clip(gains, -_HUGE, _HUGE), scale


def _mean_fall(gains: FloatArray, scale: float) -> Fall:
    error = max(float(gains.std(ddof=1)) / math.sqrt(len(gains)), _ROUNDING)
    return Fall(scale * float(gains.mean()), scale * error, len(gains))


def _clearness(fall: Fall) -> float:
    return fall.size / fall.error / critical_value(max(fall.count - 1, 1))


def _scatter(gains: FloatArray) -> float:
    """Standard deviation of the gains about their own line; of two or three, about their mean."""
    if len(gains) < 4:
        return float(np.std(gains, ddof=1)) if len(gains) > 1 else math.inf
    place = np.arange(len(gains), dtype=np.float64)
    rest = gains - np.polyval(np.polyfit(place, gains, 1), place)
    return float(np.linalg.norm(rest) / math.sqrt(len(rest) - 2))
