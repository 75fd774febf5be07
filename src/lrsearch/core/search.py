"""The loop: the only place where anything is stepped or restored during a search.

A method never touches a trainable. It yields the probes that it wants run and is sent their
curves, so the same method runs on a NumPy net, on a PyTorch model or on a table of recorded
curves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from lrsearch.core.curve import Curve
from lrsearch.core.interrupt import close_for_good, interruptible, raise_held
from lrsearch.core.lane import Lane, Probe, Stopwatch, where
from lrsearch.core.lockstep import try_together
from lrsearch.core.one_search import one_search
from lrsearch.core.outcome import Cost, Outcome
from lrsearch.core.schedule import Shape, shape
from lrsearch.core.suggest import Suggestion
from lrsearch.core.trainable import Evaluable, ManyLanes, ShortensEpochs, Shuffles, Trainable
from lrsearch.core.validation import at_least, check_fields, maybe, seed
from lrsearch.errors import InvalidArgument, add_note

__all__ = ["Method", "Observer", "Plan", "Probe", "Script", "Update", "drive", "run_search"]


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


#: What a method does: it yields probes, is sent a curve for each, and returns the answer.
Script: TypeAlias = Generator[Sequence[Probe], Sequence[Curve], Suggestion]


class Method(Protocol):
    """A way of searching: frozen settings, and one generator that reads from top to bottom."""

    @property
    def name(self) -> str:
        """The word by which ``method=`` knows it."""
        ...

    def search(self, plan: Plan) -> Script:
        """Yield probes to run, be sent their curves in the same order, and return the answer.

        Everything that a decision needs comes from the curves and the plan, so the same method
        runs on a NumPy net, on a PyTorch model, on recorded curves and on a cluster.
        """
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
    with one_search(), interruptible():
        return _run_search(trainable, method, plan, observer, kept)


def _run_search(
    trainable: Trainable[Any],
    method: Method,
    plan: Plan,
    observer: Observer | None,
    kept: dict[int, object] | None,
) -> Outcome:
    began = time.perf_counter()
    plan = replace(
        plan,
        can_evaluate=isinstance(trainable, Evaluable),
        can_shorten_epochs=isinstance(trainable, ShortensEpochs),
    )
    origin = trainable.snapshot()
    lanes = _Lanes(trainable, origin)
    curves: list[Curve] = []
    back = False
    try:
        try:
            script = method.search(plan)
            answer, probes = _advance(script, None)
            while answer is None:
                first = len(curves)
                curves += _run_round(trainable, lanes, probes, first, observer)
                answer, probes = _advance(script, curves[first:])
            if kept is not None:
                kept.update(lanes.kept())
        finally:
            close_for_good()
            _bring_back(trainable, origin)
            back = True
    finally:
        if not back:  # something came in on the way to it
            _bring_back(trainable, origin)
        # A traceback that somebody keeps should not keep a copy of the model too.
        lanes.forget()
        del origin
    return Outcome.of(
        answer,
        curves=tuple(curves),
        cost=_cost(curves, plan, time.perf_counter() - began, lanes.evaluating.seconds),
        settings={**_settings(method, plan), "lanes": lanes.how},
    )


def drive(method: Method, plan: Plan, measure: Callable[[Probe], Curve]) -> Outcome:
    """Let ``method`` search what ``measure`` knows, such as recorded curves: nothing is trained.

    Args:
        method: frozen settings.
        plan: the planned run, and what can be measured.
        measure: returns the curve of a probe; the probes are numbered.
    """
    script, curves = method.search(plan), list[Curve]()
    answer, probes = _advance(script, None)
    while answer is None:
        new = [measure(replace(probe, lane=len(curves) + k)) for k, probe in enumerate(probes)]
        curves += new
        answer, probes = _advance(script, new)
    return Outcome.of(
        answer,
        curves=tuple(curves),
        cost=_cost(curves, plan),
        settings=_settings(method, plan),
    )


def _advance(
    script: Script, curves: Sequence[Curve] | None
) -> tuple[Suggestion | None, Sequence[Probe]]:
    """Return the answer, or the probes that the script asks for."""
    try:
        return None, next(script) if curves is None else script.send(curves)
    except StopIteration as end:
        return end.value, ()


def _alike(probes: Sequence[Probe]) -> list[list[Probe]]:
    """Return the probes in groups that may step together: equally long, on the same data."""
    groups: dict[tuple[int | None, ...], list[Probe]] = {}
    for probe in probes:
        key = (len(probe.lrs), probe.lane if probe.keep else -1)
        groups.setdefault((*key, probe.shuffle, probe.updates_per_epoch), []).append(probe)
    return list(groups.values())


class _Lanes:
    """Whose state the trainable holds, and the states that are kept."""

    def __init__(self, trainable: Trainable[Any], origin: object) -> None:
        self._trainable = trainable
        self._origin = origin
        self._kept: dict[int, object] = {}
        self._current: Probe | None = None
        self.evaluating = Stopwatch()
        self.how = "in turn: never two alike at a time"

    def kept(self) -> dict[int, object]:
        """Return the states at the end of the probes that asked to keep them."""
        self.leave()
        return self._kept

    def forget(self) -> None:
        """Let go of every state."""
        self._origin = None
        self._kept = {}

    def begin(self, probe: Probe) -> None:
        """Bring the trainable to where trials on the data of this one begin."""
        self.leave()
        self._choose_data(probe)

    def enter(self, probe: Probe) -> None:
        """Bring the trainable to where the probe begins, and remember that it is there."""
        self.begin(probe)
        self._current = probe

    def leave(self) -> None:
        """Bring the trainable back to where the search began."""
        last, self._current = self._current, None
        if last is not None:
            if last.keep:
                self._kept[last.lane] = self._trainable.snapshot()
            self._trainable.restore(self._origin)

    def done(self, how: str) -> None:
        """Note how a group was trained, and bring the trainable back to where it began."""
        self.how = how
        if isinstance(self._trainable, ManyLanes):
            # Lanes may leave in a model's attributes what belongs to all of them.
            self._trainable.restore(self._origin)

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


def _run_round(
    trainable: Trainable[Any],
    lanes: _Lanes,
    probes: Sequence[Probe],
    first: int,
    observer: Observer | None,
) -> list[Curve]:
    """Run all probes that a method asked for at once, numbered from ``first`` on."""
    numbered = [replace(probe, lane=lane) for lane, probe in enumerate(probes, first)]
    curves: dict[int, Curve] = {}
    for alike in _alike(numbered):
        for curve in _run_probes(trainable, lanes, alike, observer):
            curves[curve.lane] = curve
    return [curves[probe.lane] for probe in numbered]


def _run_probes(
    trainable: Trainable[Any], lanes: _Lanes, probes: Sequence[Probe], observer: Observer | None
) -> list[Curve]:
    """Run probes that may step together, together where the trainable can."""
    found: list[Curve] = []
    if len(probes) > 1:
        lanes.begin(probes[0])
        seen = None if observer is None else _seen(observer)
        found, how = try_together(trainable, probes, seen, lanes.evaluating)
        lanes.done(how)
    for probe in probes[len(found) :]:
        lanes.enter(probe)
        found.append(_run_probe(trainable, lanes, probe, observer))
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
    trainable: Trainable[Any], lanes: _Lanes, probe: Probe, observer: Observer | None
) -> Curve:
    lane = Lane(probe)
    doing, done = "update", 0
    try:
        _evaluate(trainable, lane, lanes.evaluating)
        for done, lr in enumerate(probe.lrs, start=1):
            doing = "update"
            raise_held()
            lane.take(float(trainable.step(lr)))
            doing = "the progress display after update"
            if observer is not None:
                observer(Update(probe.lane, done, len(probe.lrs), lr, lane.losses[-1]))
            doing = "the evaluation after update"
            _evaluate(trainable, lane, lanes.evaluating)
            if lane.ended:
                break
    except BaseException as error:
        add_note(error, where(doing, done, [probe]))
        raise
    return lane.curve()


def _evaluate(trainable: Trainable[Any], lane: Lane, evaluating: Stopwatch) -> None:
    if lane.to_evaluate and isinstance(trainable, Evaluable):
        with evaluating:
            held_out = trainable.evaluate()
        lane.take_held_out(held_out)


def _cost(
    curves: Sequence[Curve], plan: Plan, seconds: float = 0.0, evaluation_seconds: float = 0.0
) -> Cost:
    steps = sum(len(curve) for curve in curves)
    evaluations = sum(len(curve.evaluations) for curve in curves)
    runs = None if plan.train_steps is None else steps / plan.train_steps
    return Cost(
        steps=steps,
        evaluations=evaluations,
        seconds=seconds,
        runs=runs,
        evaluation_seconds=evaluation_seconds,
    )


def _settings(method: Method, plan: Plan) -> dict[str, object]:
    schedule = plan.schedule if isinstance(plan.schedule, str) else repr(plan.schedule)
    return {
        "method": method.name,
        "method_settings": repr(method),
        "train_steps": plan.train_steps,
        "schedule": schedule,
        "seed": int(plan.seed),
    }
