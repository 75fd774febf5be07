"""A search made several times: which curves belong to which repetition, and their mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lrsearch.core.curve import Curve
from lrsearch.core.search import Curves
from lrsearch.core.suggest import Suggestion

__all__ = ["LANES", "averaged", "repetition"]

LANES = 10  # of one repetition


def repetition(curves: Curves, number: int) -> dict[int, Curve]:
    """The curves of one repetition, by the lane numbers of the first."""
    first = LANES * number
    return {lane - first: curves[lane] for lane in curves if first <= lane < first + LANES}


def averaged(answers: list[Suggestion]) -> Suggestion:
    """The mean of the repetitions in log(lr), and their standard deviation."""
    found = [answer for answer in answers if answer.status.found]
    if len(found) < 2 or 2 * len(found) <= len(answers):
        return next((answer for answer in answers if not answer.status.found), answers[0])
    logs = np.log10([[answer.lr, answer.low, answer.high] for answer in found])
    lr, low, high = (float(value) for value in 10.0 ** logs.mean(axis=0))
    scatter = float(logs[:, 0].std(ddof=1))
    corrections = [answer.correction or 0.0 for answer in found]
    return replace(
        found[0],
        lr=lr,
        low=min(low, lr),
        high=max(high, lr),
        why=(
            f"{len(found)} of {len(answers)} repetitions gave an answer, from "
            f"{min(a.lr for a in found):.2g} to {max(a.lr for a in found):.2g}; their mean in "
            f"log(lr) is {lr:.2g}. The first: {found[0].why}"
        ),
        spread=scatter,
        correction=float(np.mean(corrections)),
    )
