"""Probes that begin alike and are equally long, trained as lanes that step together.

The curves are those that separate runs would give, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lrsearch.core.curve import Curve
from lrsearch.core.interrupt import raise_held
from lrsearch.core.lane import Lane, Probe, Stopwatch, where
from lrsearch.core.trainable import (
    Evaluable,
    LaneGroup,
    LanesFailed,
    ManyLanes,
    TooManyLanes,
    Trainable,
)
from lrsearch.errors import add_note

__all__ = ["Seen", "run_together", "try_together"]


_T = TypeVar("_T")
Seen = Callable[[Probe, int, float, float], None]


def try_together(
    trainable: Trainable[Any],
    probes: Sequence[Probe],
    seen: Seen | None = None,
    evaluating: Stopwatch | None = None,
) -> tuple[list[Curve], str]:
    """Run equally long new probes together as far as the trainable can, and say how it went.

    Where there is no memory for all of them at a time, half as many are tried.

    Args:
        trainable: in the state where the probes begin; it is in that state again afterwards.
        probes: at least one.
        seen, evaluating: see :func:`run_together`.

    Returns:
        The curves of the first probes, as many as could be run together, and how that was
        done, or why the others must run in turn.
    """
    if not isinstance(trainable, ManyLanes):
        return [], "in turn: this trainable has no lanes"
    if len(probes) < 2:
        return [], "in turn: never two alike at a time"
    found: list[Curve] = []
    how, size = "together", len(probes)
    while size > 1 and len(found) < len(probes) - 1:
        more, why, too_many = _together(trainable, probes[len(found) :][:size], seen, evaluating)
        found += more
        if too_many:
            size = (size + 1) // 2 if size > 2 else 1
            how = f"together, at most {size} at a time: {why}"
        elif why is not None:
            how = f"{len(found)} of {len(probes)} together, then in turn: {why}"
            break
    return found, how if found else f"in turn: {why}"


def _together(
    trainable: ManyLanes,
    probes: Sequence[Probe],
    seen: Seen | None,
    evaluating: Stopwatch | None,
) -> tuple[list[Curve], str | None, bool]:
    """Return a curve per probe; or none, why not, and whether there were too many."""
    group: LaneGroup | None = None
    try:
        group = _batched(trainable.lanes, len(probes), len(probes[0].lrs))
        if group is None:
            return [], trainable.why_not, False
        can_evaluate = isinstance(trainable, Evaluable)
        return run_together(group, probes, can_evaluate, seen, evaluating), None, False
    except LanesFailed as failure:
        # Words only: the error's traceback would keep the lanes' memory.
        return [], str(failure), isinstance(failure, TooManyLanes)
    finally:
        if group is not None:
            group.close()


def run_together(
    group: LaneGroup,
    probes: Sequence[Probe],
    can_evaluate: bool,
    seen: Seen | None = None,
    evaluating: Stopwatch | None = None,
) -> list[Curve]:
    """Run equally long probes as the lanes of ``group``; the curves are those of separate runs.

    Args:
        group: as many fresh lanes as there are probes.
        probes: equally many learning rates in each.
        can_evaluate: whether there is a held-out loss.
        seen: called after every update with the probe, the updates made, the learning rate
            and the loss.
        evaluating: runs while held-out losses are measured.

    Returns:
        A curve per probe, in their order.
    """
    lanes = [Lane(probe) for probe in probes]
    live = list(lanes)
    evaluating = evaluating or Stopwatch()
    done = 0
    try:
        _evaluate(group, live, can_evaluate, evaluating)
        while live:
            done += 1
            _update(group, live, done, seen)
            _evaluate(group, live, can_evaluate, evaluating)
            ended = [place for place, lane in enumerate(live) if lane.ended]
            if ended:
                _batched(group.drop, ended)
                live = [lane for lane in live if not lane.ended]
    except BaseException as error:
        add_note(error, where("update", done, [lane.probe for lane in live or lanes]))
        raise
    return [lane.curve() for lane in lanes]


def _update(group: LaneGroup, live: Sequence[Lane], done: int, seen: Seen | None) -> None:
    raise_held()
    lrs = [lane.probe.lrs[done - 1] for lane in live]
    for lane, lr, loss in zip(live, lrs, _batched(group.step, lrs), strict=True):
        lane.take(loss)
        if seen is not None:
            seen(lane.probe, done, lr, loss)


def _evaluate(
    group: LaneGroup, live: Sequence[Lane], can_evaluate: bool, evaluating: Stopwatch
) -> None:
    wanted = [place for place, lane in enumerate(live) if can_evaluate and lane.to_evaluate]
    if wanted:
        with evaluating:
            losses = _batched(group.evaluate, wanted)
        for place, loss in zip(wanted, losses, strict=True):
            live[place].take_held_out(loss)


def _batched(action: Callable[..., _T], *arguments: Any) -> _T:
    """Call it; one at a time its error may not come up, and if it does, it shows as what it is."""
    try:
        return action(*arguments)
    except LanesFailed:
        raise
    except Exception as error:
        raise LanesFailed(f"{type(error).__name__}: {error}") from error
