"""Probes that step together give the curves that they give in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from lrsearch.core.curve import Stop
from lrsearch.core.outcome import Status
from lrsearch.core.search import Plan, Probe, Script, Update, run_search
from lrsearch.core.suggest import Suggestion
from lrsearch.core.trainable import LanesFailed, ManyLanes, TooManyLanes
from tests.core.toys import Judged


@dataclass
class Copies:
    """The lanes of a quadratic: copies of it, stepped one after the other."""

    owner: LanedQuadratic
    copies: list[Judged]
    steps: int = 0
    closed: int = 0

    def step(self, lrs: Sequence[float]) -> list[float]:
        if self.steps == self.owner.room_ends_at and len(lrs) > self.owner.room:
            raise TooManyLanes(f"no room for {len(lrs)}")
        if self.steps == self.owner.fails_at:
            raise LanesFailed("lanes got tangled")
        self.steps += 1
        return [copy.step(lr) for copy, lr in zip(self.copies, lrs, strict=True)]

    def drop(self, lanes: Sequence[int]) -> None:
        self.copies = [c for place, c in enumerate(self.copies) if place not in set(lanes)]

    def evaluate(self, lanes: Sequence[int] | None = None) -> list[float]:
        places = range(len(self.copies)) if lanes is None else lanes
        self.owner.evaluated.append(list(places))
        return [self.copies[place].evaluate() for place in places]

    def close(self) -> None:
        self.closed += 1


class LanedQuadratic(Judged):
    """A noisy quadratic that can be trained in lanes, or says why not."""

    def __init__(
        self,
        fails_at: int = -1,
        reason: str = "",
        room: int = 100,
        room_ends_at: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**{"noise": 0.1, **options})
        self.room, self.room_ends_at = room, room_ends_at
        self.why_not = reason
        self.fails_at = fails_at
        self.asked: list[tuple[int, int]] = []
        self.groups: list[Copies] = []
        self.evaluated: list[list[int]] = []

    def lanes(self, count: int, steps: int) -> Copies | None:
        self.asked.append((count, steps))
        if self.why_not:
            return None
        state, copies = self.snapshot(), []
        for _ in range(count):
            copy = Judged(curvature=self.curvature, noise=self.noise, momentum=self.momentum)
            copy.restore(state)
            copies.append(copy)
        self.groups.append(Copies(self, copies))
        return self.groups[-1]


@dataclass(frozen=True)
class Rounds:
    """A method that asks for given rounds of probes, whatever comes back."""

    rounds: tuple[tuple[Probe, ...], ...]
    name: str = "rounds"

    def search(self, plan: Plan) -> Script:
        for probes in self.rounds:  # noqa: UP028  (a tuple's iterator takes no curves)
            yield probes
        return Suggestion(0.1, 0.1, 0.1, Status.FOUND, "as scripted", "rounds")


def probes(*lrs: float, steps: int = 30, **options: Any) -> tuple[Probe, ...]:
    return tuple(Probe((lr,) * steps, **{"evaluate": True, **options}) for lr in lrs)


def outcomes(*rounds: tuple[Probe, ...], **options: Any) -> tuple[Any, Any, LanedQuadratic]:
    """The same search with lanes and without, and the subject of the first."""
    subject = LanedQuadratic(**options)
    ours = run_search(subject, Rounds(rounds), Plan())
    theirs = run_search(Judged(noise=0.1), Rounds(rounds), Plan())
    return ours, theirs, subject


def test_the_curves_are_those_of_separate_runs() -> None:
    # At these rates the quadratic converges, hovers, diverges, and overflows.
    ours, theirs, subject = outcomes(probes(0.01, 0.1, 0.21, 1e200))
    assert {curve.stop for curve in ours.curves} == {
        Stop.COMPLETED,
        Stop.DIVERGED,
        Stop.NOT_FINITE,
    }
    assert ours.curves == theirs.curves
    assert ours.cost.steps == theirs.cost.steps
    assert ours.cost.evaluations == theirs.cost.evaluations
    assert subject.asked == [(4, 30)]
    assert subject.lrs == []  # the trainable itself was never stepped
    assert ours.settings["lanes"] == "together"
    assert theirs.settings["lanes"] == "in turn: this trainable has no lanes"


def test_a_lane_that_ends_is_evaluated_before_it_is_dropped_unless_it_broke() -> None:
    ours, _, subject = outcomes(probes(0.01, 0.21, 1e200))
    evaluated = {curve.lane: len(curve.evaluations) for curve in ours.curves}
    assert evaluated == {0: 1, 1: 1, 2: 0}
    assert [len(places) for places in subject.evaluated] == [1, 1]


def test_nothing_is_evaluated_unasked() -> None:
    ours, theirs, subject = outcomes(probes(0.01, 0.1, evaluate=False))
    assert subject.evaluated == []
    assert ours.curves == theirs.curves


@pytest.mark.parametrize("fails_at", [0, 7])
def test_lanes_that_fail_are_run_again_in_turn(fails_at: int) -> None:
    ours, theirs, subject = outcomes(probes(0.01, 0.1, 0.21), fails_at=fails_at)
    assert ours.curves == theirs.curves
    assert ours.settings["lanes"] == "in turn: lanes got tangled"
    assert [group.closed for group in subject.groups] == [1]


@pytest.mark.parametrize("room_ends_at", [0, 7])
@pytest.mark.parametrize(
    ("room", "asked", "how"),
    [
        (4, [5, 3, 2], "together, at most 3 at a time: no room for 5"),
        (2, [5, 3, 2, 2], "together, at most 2 at a time: no room for 3"),
        (1, [5, 3, 2], "in turn: no room for 2"),
    ],
)
def test_where_there_is_no_room_for_all_half_as_many_step_together(
    room: int, asked: list[int], how: str, room_ends_at: int
) -> None:
    five = probes(0.01, 0.02, 0.05, 0.1, 0.15)
    ours, theirs, subject = outcomes(five, room=room, room_ends_at=room_ends_at)
    assert ours.curves == theirs.curves
    assert subject.asked == [(count, 30) for count in asked]
    assert [group.closed for group in subject.groups] == [1] * len(asked)
    assert ours.settings["lanes"] == how


def test_lanes_that_fail_after_others_were_done_are_run_in_turn() -> None:
    class FailsLater(LanedQuadratic):
        def lanes(self, count: int, steps: int) -> Copies | None:
            self.why_not = "tired" if len(self.asked) == 2 else ""
            return super().lanes(count, steps)

    subject = FailsLater(room=2)
    probes_ = probes(0.01, 0.02, 0.05, 0.1)
    ours = run_search(subject, Rounds((probes_,)), Plan())
    assert ours.curves == run_search(Judged(noise=0.1), Rounds((probes_,)), Plan()).curves
    assert ours.settings["lanes"] == "2 of 4 together, then in turn: tired"


def test_a_trainable_that_declines_is_run_in_turn_and_says_why() -> None:
    ours, theirs, _ = outcomes(probes(0.01, 0.1), reason="too small")
    assert ours.curves == theirs.curves
    assert ours.settings["lanes"] == "in turn: too small"


def test_rounds_of_different_lengths_step_together_by_length() -> None:
    first = (*probes(0.01, 0.1, steps=20), *probes(0.02, 0.05, steps=10))
    ours, theirs, subject = outcomes(first, probes(0.03, 0.04, steps=40))
    assert subject.asked == [(2, 20), (2, 10), (2, 40)]
    assert ours.curves == theirs.curves


def test_single_and_kept_probes_run_alone() -> None:
    kept = probes(0.01, 0.1, keep=True)
    ours, theirs, subject = outcomes(kept, probes(0.05))
    assert subject.asked == []
    assert ours.curves == theirs.curves
    assert [len(curve) for curve in ours.curves] == [30, 30, 30]


def test_the_observer_hears_of_every_update_of_every_lane() -> None:
    heard: list[Update] = []
    subject = LanedQuadratic()
    outcome = run_search(subject, Rounds((probes(0.01, 0.1, 1e200),)), Plan(), heard.append)
    for curve in outcome.curves:
        mine = [update for update in heard if update.lane == curve.lane]
        assert [update.done for update in mine] == list(range(1, len(curve) + 1))
        np.testing.assert_array_equal([update.loss for update in mine], curve.loss)
        assert {update.asked for update in mine} == {30}


def test_an_interrupt_in_a_lane_closes_the_group_and_restores_the_trainable() -> None:
    subject = LanedQuadratic()
    before = subject.snapshot()

    def interrupt(update: Update) -> None:
        if update.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(subject, Rounds((probes(0.01, 0.1),)), Plan(), interrupt)
    assert [group.closed for group in subject.groups] == [1]
    np.testing.assert_array_equal(subject.snapshot()[0], before[0])


def test_what_has_lanes_is_known_by_its_methods() -> None:
    assert isinstance(LanedQuadratic(), ManyLanes)
    assert not isinstance(Judged(), ManyLanes)


@pytest.mark.parametrize("error", [RuntimeError, ValueError, AttributeError, IndexError])
@pytest.mark.parametrize("place", ["step", "drop", "evaluate"])
def test_any_error_of_the_lanes_leaves_them_to_separate_runs(
    error: type[Exception], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error("from inside")

    monkeypatch.setattr(Copies, place, fail)
    ours, theirs, subject = outcomes(probes(0.01, 0.1, 0.21, 1e200))
    assert ours.curves == theirs.curves
    assert f"{error.__name__}: from inside" in str(ours.settings["lanes"])
    assert [group.closed for group in subject.groups] == [1]
