"""Probes that begin alike and are equally long, trained as lanes that step together.

The curves are those that separate runs would give, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.stopping import StopRule, Watch
from lrsearch.core.trainable import Evaluable, LaneGroup, LanesFailed, ManyLanes, Trainable

__all__ = ["Seen", "run_together", "try_together"]


class _Probe(Protocol):
    """What is needed of a :class:`lrsearch.core.search.Probe`."""

    @property
    def lane(self) -> int: ...
    @property
    def lrs(self) -> tuple[float, ...]: ...
    @property
    def stop(self) -> StopRule: ...
    @property
    def evaluate(self) -> bool: ...


Seen = Callable[[_Probe, int, float, float], None]


@dataclass
class _Lane:
    """One probe and what it has measured so far."""

    probe: _Probe
    losses: list[float] = field(default_factory=list)
    watch: Watch = field(default_factory=Watch)
    held_out: float | None = None

    def take(self, loss: float) -> None:
        self.losses.append(loss)
        self.watch = self.probe.stop.update(self.watch, loss)

    @property
    def to_evaluate(self) -> bool:
        return self.probe.evaluate and self.watch.stop is not Stop.NOT_FINITE

    def curve(self) -> Curve:
        made = len(self.losses)
        return Curve(
            self.probe.lrs[:made],  # type: ignore[arg-type]
            self.losses,  # type: ignore[arg-type]
            self.watch.stop or Stop.COMPLETED,
            self.probe.lane,
            () if self.held_out is None else ((made, self.held_out),),
        )


def try_together(
    trainable: Trainable[Any], probes: Sequence[_Probe], seen: Seen | None = None
) -> tuple[list[Curve] | None, str]:
    """Run equally long new probes together if the trainable can, and say what came of it.

    Args:
        trainable: in the state where the probes begin; it is in that state again afterwards.
        probes: at least one.
        seen: see :func:`run_together`.

    Returns:
        A curve per probe and ``"together"``, or ``None`` and why they must run in turn.
    """
    if not isinstance(trainable, ManyLanes):
        return None, "in turn: this trainable has no lanes"
    if len(probes) < 2:
        return None, "in turn: never two alike at a time"
    group = trainable.lanes(len(probes), len(probes[0].lrs))
    if group is None:
        return None, f"in turn: {trainable.why_not}"
    try:
        return run_together(group, probes, isinstance(trainable, Evaluable), seen), "together"
    except LanesFailed as failure:
        return None, f"in turn: {failure}"
    finally:
        group.close()


def run_together(
    group: LaneGroup, probes: Sequence[_Probe], can_evaluate: bool, seen: Seen | None = None
) -> list[Curve]:
    """Run equally long probes as the lanes of ``group``; the curves are those of separate runs.

    Args:
        group: as many fresh lanes as there are probes.
        probes: equally many learning rates in each.
        can_evaluate: whether there is a held-out loss.
        seen: called after every update with the probe, the updates made, the learning rate
            and the loss.

    Returns:
        A curve per probe, in their order.
    """
    lanes = [_Lane(probe) for probe in probes]
    live = list(lanes)
    for step in range(len(probes[0].lrs)):
        losses = group.step([lane.probe.lrs[step] for lane in live])
        for lane, loss in zip(live, losses, strict=True):
            lane.take(loss)
            if seen is not None:
                seen(lane.probe, step + 1, lane.probe.lrs[step], loss)
        ended = [place for place, lane in enumerate(live) if lane.watch.stop is not None]
        if ended:
            _evaluate(group, live, ended, can_evaluate)
            group.drop(ended)
            live = [lane for lane in live if lane.watch.stop is None]
        if not live:
            break
    _evaluate(group, live, range(len(live)), can_evaluate)
    return [lane.curve() for lane in lanes]


def _evaluate(
    group: LaneGroup, live: Sequence[_Lane], places: Sequence[int], can_evaluate: bool
) -> None:
    wanted = [place for place in places if live[place].to_evaluate] if can_evaluate else []
    if wanted:
        for place, loss in zip(wanted, group.evaluate(wanted), strict=True):
            live[place].held_out = loss
