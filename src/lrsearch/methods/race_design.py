"""How a race spends its budget: the constants, and how much data a short lane sees."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DESIGN", "Design", "passes", "shortened_epoch"]


@dataclass(frozen=True)
class Design:
    """How a budget is spent. Chosen on the regret benchmark, as the surface's constants are."""

    scout: int = 20  # updates of the scout at most
    coarse: int = 6  # lanes of the first rung
    coarse_apart: float = 0.7  # decades between them
    below_top: float = 0.138  # decades from divergence to the highest of them
    coarse_length: float = 0.0115  # length of the first rung, in planned runs; at most this
    coarse_share: float = 0.0133  # and at most this, times the budget
    coarse_most: float = 0.35  # and at most this share of the budget for all of them
    shortest: int = 3  # updates of the shortest rung worth running
    as_new: float = 4.0  # passes over the data up to which seeing it again is as good as new data
    fewest: int = 8  # updates' data at least: from less, a lane learns too little to be judged
    last: float = 0.137  # length of the last rung, in budgets
    ratio: float = 2.73  # of the lengths of two rungs
    least_ratio: float = 3.31  # of the second rung and the first
    lanes: int = 3  # of the rungs between the first and the last
    apart: float = 0.441
    last_lanes: int = 2
    last_apart: float = 0.346
    room: float = 0.864  # lanes that may have to be added to the last rung when it is the second
    later_room: float = 0.881  # the same when there were others between
    early: float = 0.866  # share of the budget after which earlier rungs get no more lanes
    ahead: float = 0.1  # how far a rung leans towards the best rate of the whole length
    lift: float = 0.1  # decades by which a rung is centred above its likely best
    noisy_lanes: int = 4  # lanes of a first rung that is made again because nothing was learned
    noisy_longer: int = 4  # times as long as before
    noisy_share: float = 0.6  # share of what is left that it may take
    explore: float = 1.0  # decades below it where one longer lane looks for a second valley
    still_learns: float = (
        0.5  # share of the best fall: a lowest lane with more calls for a lower one
    )
    check: float = 0.4  # length, in planned runs, at which a held-out loss must have fallen
    answer_below: float = 0.03  # decades: a cliff may be near
    answer_drift: float = 0.2  # in addition, per decade of wear beyond the longest lanes
    error: float = 0.12  # decades from the best peak that are usual beside what the surface shows
    error_noise: float = 1.5  # in addition, per decade by which noise is above the resolution
    error_drift: float = 0.45  # in addition, per decade of wear beyond the longest lanes


DESIGN = Design()


def shortened_epoch(updates_per_epoch: int | None, updates: int, train_steps: int) -> int | None:
    """Return the data, in updates, that a short lane sees; ``None`` for all of it.

    It is as much less as lets each example be seen as often as in the planned run. With all
    data, a short run would not show where the planned one begins to overfit. Where that makes few
    passes, it does not.

    Args:
        updates_per_epoch: updates in one pass over the data; ``None`` when it has no end.
        updates: length of the lane.
        train_steps: length of the planned run.

    Example:
        Ten epochs of 100 updates each, in a tenth of the updates:

        >>> shortened_epoch(100, 100, 1000)
        10

    Source: up to four passes over the same data are almost as good as new data, N. Muennighoff
    and others, "Scaling Data-Constrained Language Models", arXiv 2305.16264.
    """
    if updates_per_epoch is None or train_steps <= DESIGN.as_new * updates_per_epoch:
        return None
    fewer = max(DESIGN.fewest, round(updates_per_epoch * updates / train_steps))
    return fewer if fewer < min(updates_per_epoch, updates) else None


def passes(updates: int, updates_per_epoch: int | None) -> float:
    """Return how often a run of so many updates sees each example: once at least."""
    return 1.0 if updates_per_epoch is None else max(1.0, updates / updates_per_epoch)
