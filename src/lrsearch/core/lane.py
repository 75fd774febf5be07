"""A probe: a piece of training to do; and a lane: what was measured while doing it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.stopping import StopRule, Watch
from lrsearch.core.trainable import HeldOut

__all__ = ["Lane", "Probe", "Stopwatch", "where"]


@dataclass(frozen=True)
class Probe:
    """A piece of training that a method asks for; it begins at the state the search began in.

    Attributes:
        lrs: the learning rate of each update, in order.
        role: what it is for, such as ``"climb"``: a word for those who read the curves.
        stop: when to end early.
        evaluate: measure the held-out loss after the last update.
        checkpoints: updates after which to measure it too; 0 is before the first.
        keep: keep the state at the end, so that training can go on from it.
        shuffle: number of the order of the data.
        updates_per_epoch: updates after which the data begin again, fewer than they last; or
            ``None``: all data.
        lane: its number within the search, given by the loop.
    """

    lrs: tuple[float, ...]
    role: str = ""
    stop: StopRule = field(default_factory=StopRule)
    evaluate: bool = False
    checkpoints: tuple[int, ...] = ()
    keep: bool = False
    shuffle: int = 0
    updates_per_epoch: int | None = None
    lane: int = 0


@dataclass
class Lane:
    """One probe and what it has measured so far."""

    probe: Probe
    losses: list[float] = field(default_factory=list)
    watch: Watch = field(default_factory=Watch)
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    parts: tuple[float, ...] = ()

    def take(self, loss: float) -> None:
        """Note the loss of one more update."""
        self.losses.append(loss)
        self.watch = self.probe.stop.update(self.watch, loss)

    def take_held_out(self, held_out: float | HeldOut) -> None:
        """Note the held-out loss of this moment."""
        known = isinstance(held_out, HeldOut)
        loss = float(held_out.loss if known else held_out)  # type: ignore[union-attr, arg-type]
        self.parts = held_out.parts if known else ()  # type: ignore[union-attr]
        self.evaluations.append((len(self.losses), loss))

    @property
    def ended(self) -> bool:
        """Whether it has made all its updates or was stopped."""
        return self.watch.stop is not None or len(self.losses) == len(self.probe.lrs)

    @property
    def to_evaluate(self) -> bool:
        """Whether the held-out loss is wanted now."""
        wanted = len(self.losses) in self.probe.checkpoints or (self.ended and self.probe.evaluate)
        return wanted and self.watch.stop is not Stop.NOT_FINITE

    def curve(self) -> Curve:
        """Return what was measured."""
        made = len(self.losses)
        return Curve(
            self.probe.lrs[:made],  # type: ignore[arg-type]
            self.losses,  # type: ignore[arg-type]
            self.watch.stop or Stop.COMPLETED,
            self.probe.lane,
            tuple(self.evaluations),
            self.parts,
            self.probe.role,
        )


class Stopwatch:
    """Adds up the time spent inside ``with`` blocks, in ``seconds``."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


def where(doing: str, done: int, probes: Sequence[Probe]) -> str:
    """Say at which update of which lanes something happened, for a note on an error."""
    lanes = f"lane{'s' * (len(probes) > 1)} {', '.join(str(probe.lane) for probe in probes)}"
    asked = len(probes[0].lrs)
    if not done:
        return f"lrsearch: in the evaluation before the first of {asked} updates, {lanes}"
    lrs = sorted({f"{probe.lrs[done - 1]:.3g}" for probe in probes}, key=float)
    between = " to ".join(lrs[:: max(len(lrs) - 1, 1)])
    return f"lrsearch: in {doing} {done} of {asked}, {lanes}, lr {between}"
