"""The loop: the only place where anything is stepped or restored during a search.

A method never touches a trainable. It is asked, with the curves measured so far, which
probes to run next, and in the end what they say; both are pure functions. So the same
method runs on a NumPy net, on a PyTorch model or on a table of recorded curves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lrsearch.core.curve import Curve
from lrsearch.core.lane import Lane, Probe, where
from lrsearch.core.lockstep import try_together
from lrsearch.core.outcome import Cost, Outcome
from lrsearch.core.schedule import Shape, shape
from lrsearch.core.stopping import Watch
from lrsearch.core.suggest import Suggestion
from lrsearch.core.trainable import Evaluable, ShortensEpochs, Shuffles, Trainable
from lrsearch.core.validation import at_least, check_fields, maybe, seed
from lrsearch.errors import InvalidArgument, add_note

__all__ = ["Curves", "Method", "Observer", "Plan", "Probe", "Update", "run_search"]

Curves = Mapping[int, Curve]


@dataclass(frozen=True)
class Plan:
    """The planned run, as far as it is known, and what the trainable can do.

    Attributes:
        train_steps: optimizer updates of the planned run, or ``None``.
        schedule: shape of its learning rate.
        updates_per_epoch: optimizer updates in one pass over the data, or ``None``.
        can_evaluate: whether there is a held-out loss.
        can_shorten_epochs: whether lanes can be trained on a part of the data.
        seed: the seed of every random choice that a method makes.
    """

    train_steps: int | None = None
    schedule: str | Shape = "constant"
    updates_per_epoch: int | None = None
    can_evaluate: bool = False
    can_shorten_epochs: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        shape(self.schedule)
        check_fields(self, train_steps=maybe(at_least(1)), seed=seed)


class Method(Protocol):
    """A way of searching: frozen settings whose two decisions are pure functions."""

    @property
    def name(self) -> str:
        """The word by which ``method=`` knows it."""
        ...

    def next_probes(self, curves: Curves, plan: Plan) -> tuple[Probe, ...]:
        """Return the probes to run next, given every curve so far; none when it is done."""
        ...

    def conclude(self, curves: Curves, plan: Plan) -> Suggestion:
        """Return what the curves say."""
        ...


@dataclass(frozen=True)
class Update:
    """One update as the observer sees it: for progress displays, never for decisions."""

    lane: int
    done: int
    asked: int
    lr: float
    loss: float


Observer = Callable[[Update], None]


def run_search(
    trainable: Trainable[Any],
    method: Method,
    plan: Plan,
    observer: Observer | None = None,
    kept: dict[int, object] | None = None,
) -> Outcome:
    """Run ``method`` on ``trainable`` and leave the trainable exactly as it was.

    The restore happens after success, after an error anywhere and after Ctrl-C. An error is
    passed on as it is.

    Args:
        trainable: what to train.
        method: frozen settings such as ``RangeTest()`` or ``Ladder()``.
        plan: the planned run.
        observer: called after every update, for progress displays.
        kept: is given the snapshots of the lanes whose last probe asked to keep them.

    Returns:
        Everything that was measured, and what it says.
    """
    began = time.perf_counter()
    plan = replace(
        plan,
        can_evaluate=isinstance(trainable, Evaluable),
        can_shorten_epochs=isinstance(trainable, ShortensEpochs),
    )
    origin = trainable.snapshot()
    lanes = _Lanes(trainable, origin)
    curves: dict[int, Curve] = {}
    try:
        while probes := method.next_probes(curves, plan):
            for alike in lanes.alike(probes):
                for curve in _run_probes(trainable, lanes, alike, curves, observer):
                    curves[curve.lane] = curve
        if kept is not None:
            kept.update(lanes.kept())
    finally:
        _bring_back(trainable, origin)
        # A traceback that somebody keeps should not keep a copy of the model too.
        lanes.forget()
        del origin
    suggestion = method.conclude(curves, plan)
    return Outcome.of(
        suggestion,
        curves=tuple(curves[lane] for lane in sorted(curves)),
        cost=_cost(curves, plan, time.perf_counter() - began),
        settings={**_settings(method, plan), "lanes": lanes.how},
    )


class _Lanes:
    """Which lane's state the trainable holds, and the states of the lanes that wait.

    A state is copied only when another lane takes its place, so that a search with one lane
    holds one copy in all.
    """

    def __init__(self, trainable: Trainable[Any], origin: object) -> None:
        self._trainable = trainable
        self._origin = origin
        self._waiting: dict[int, object] = {}
        self._seen: set[int] = set()
        self._current: Probe | None = None
        self.watches: dict[int, Watch] = {}  # what the stop rules know of each lane
        self.how = "in turn: never two alike at a time"

    def kept(self) -> dict[int, object]:
        """Return the states of the lanes that could go on."""
        self.leave()
        return dict(self._waiting)

    def forget(self) -> None:
        """Let go of every state."""
        self._origin = None
        self._waiting.clear()

    def alike(self, probes: Sequence[Probe]) -> list[list[Probe]]:
        """Return the probes in groups whose lanes may step together: new and equally long."""
        groups: dict[tuple[int | None, ...], list[Probe]] = {}
        for probe in probes:
            new = probe.lane not in self._seen and not probe.keep
            lane = -1 if new else probe.lane
            key = (len(probe.lrs), lane, probe.shuffle, probe.updates_per_epoch)
            groups.setdefault(key, []).append(probe)
        return list(groups.values())

    def begin(self, probe: Probe) -> None:
        """Bring the trainable to where lanes with the data of this one begin."""
        self.leave()
        self._choose_data(probe)

    def leave(self) -> None:
        """Bring the trainable back to where the search began."""
        last, self._current = self._current, None
        if last is not None:
            if last.keep:
                self._waiting[last.lane] = self._trainable.snapshot()
            self._trainable.restore(self._origin)

    def done(self, probes: Sequence[Probe], how: str) -> None:
        """Note that new lanes were trained, and how."""
        self._seen.update(probe.lane for probe in probes)
        self.how = how

    def enter(self, probe: Probe) -> None:
        """Bring the trainable into the state of the probe's lane."""
        last, self._current = self._current, probe
        goes_on = last is not None and last.lane == probe.lane and last.keep
        if probe.lane in self._seen and not goes_on and probe.lane not in self._waiting:
            raise InvalidArgument.of(
                "Probe.lane", probe.lane, "a new lane, or one whose last probe had keep=True"
            )
        self._seen.add(probe.lane)
        if goes_on:
            return
        if last is not None and last.keep:
            self._waiting[last.lane] = self._trainable.snapshot()
        waits = probe.lane in self._waiting
        if last is not None or waits:
            self._trainable.restore(self._waiting.pop(probe.lane, self._origin))
        if not waits:
            self._choose_data(probe)

    def _choose_data(self, probe: Probe) -> None:
        if probe.shuffle:
            if not isinstance(self._trainable, Shuffles):
                raise InvalidArgument.of(
                    "Probe.shuffle", probe.shuffle, "0, as this trainable has no reshuffle(number)"
                )
            self._trainable.reshuffle(probe.shuffle)
        if probe.updates_per_epoch is not None:
            if not isinstance(self._trainable, ShortensEpochs):
                raise InvalidArgument.of(
                    "Probe.updates_per_epoch",
                    probe.updates_per_epoch,
                    "None, as this trainable has no shorten_epochs(updates)",
                )
            self._trainable.shorten_epochs(probe.updates_per_epoch)


def _run_probes(
    trainable: Trainable[Any],
    lanes: _Lanes,
    probes: Sequence[Probe],
    curves: Curves,
    observer: Observer | None,
) -> list[Curve]:
    """Run probes that may step together, together where the trainable can."""
    found: list[Curve] = []
    if len(probes) > 1:
        lanes.begin(probes[0])
        found, how = try_together(trainable, probes, None if observer is None else _seen(observer))
        lanes.done(probes[: len(found)], how)
    for probe in probes[len(found) :]:
        lanes.enter(probe)
        found.append(_run_probe(trainable, lanes, probe, curves.get(probe.lane), observer))
    return found


def _bring_back(trainable: Trainable[Any], origin: object, again: int = 2) -> None:
    """Restore, to the end.

    An impatient second Ctrl-C, or a loader whose worker dies now, must not leave half a model
    behind: both arrive as errors in the middle of whatever runs.
    """
    try:
        trainable.restore(origin)
    except BaseException as error:
        if not again:
            text = "lrsearch: while restoring what was before the search: it is not back"
            add_note(error, text)
            raise
        _bring_back(trainable, origin, again - 1)
        raise


def _seen(observer: Observer) -> Callable[[Any, int, float, float], None]:
    def seen(probe: Probe, done: int, lr: float, loss: float) -> None:
        observer(Update(probe.lane, done, len(probe.lrs), lr, loss))

    return seen


def _run_probe(
    trainable: Trainable[Any],
    lanes: _Lanes,
    probe: Probe,
    before: Curve | None,
    observer: Observer | None,
) -> Curve:
    # When a lane goes on, a rise is judged against the whole of it.
    watch = replace(lanes.watches.get(probe.lane, Watch()), stop=None, strikes=0)
    lane = Lane(probe, watch=watch, before=0 if before is None else len(before))
    doing, done = "update", 0
    try:
        _evaluate(trainable, lane)
        for done, lr in enumerate(probe.lrs, start=1):
            doing = "update"
            lane.take(float(trainable.step(lr)))
            doing = "the progress display after update"
            if observer is not None:
                observer(Update(probe.lane, done, len(probe.lrs), lr, lane.losses[-1]))
            doing = "the evaluation after update"
            _evaluate(trainable, lane)
            if lane.ended:
                break
    except BaseException as error:
        add_note(error, where(doing, done, [probe]))
        raise
    lanes.watches[probe.lane] = lane.watch
    return lane.curve() if before is None else before.then(lane.curve())


def _evaluate(trainable: Trainable[Any], lane: Lane) -> None:
    if lane.to_evaluate and isinstance(trainable, Evaluable):
        lane.take_held_out(float(trainable.evaluate()))


def _cost(curves: Curves, plan: Plan, seconds: float) -> Cost:
    steps = sum(len(curve) for curve in curves.values())
    evaluations = sum(len(curve.evaluations) for curve in curves.values())
    runs = None if plan.train_steps is None else steps / plan.train_steps
    return Cost(steps=steps, evaluations=evaluations, seconds=seconds, runs=runs)


def _settings(method: Method, plan: Plan) -> dict[str, object]:
    schedule = plan.schedule if isinstance(plan.schedule, str) else repr(plan.schedule)
    return {
        "method": method.name,
        "method_settings": repr(method),
        "train_steps": plan.train_steps,
        "schedule": schedule,
        "seed": int(plan.seed),
    }
