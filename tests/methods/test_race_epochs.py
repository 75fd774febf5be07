"""A short lane of a race sees each example as often as the planned run does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lrsearch.core.curve import Curve
from lrsearch.core.search import Plan, Probe, drive, run_search
from lrsearch.methods.race import Race
from lrsearch.methods.race_design import DESIGN, shortened_epoch
from tests.core.toys import Judged


def probes(plan: Plan, **settings: Any) -> list[Probe]:
    """Every probe of a race whose lanes all end at losses of one valley."""
    asked: list[Probe] = []

    def measure(probe: Probe) -> Curve:
        asked.append(probe)
        return valley(probe)

    drive(Race(**settings), plan, measure)
    return asked


def valley(probe: Probe) -> Curve:
    lrs = np.array(probe.lrs)
    if probe.lane == 0:  # the scout: it explodes above 1
        losses = np.where(lrs < 1.0, 1.0, 1e30)
        return Curve(lrs, losses, evaluations=((0, 1.0),))
    ends: Sequence[int] = (*probe.checkpoints, len(lrs))
    depth = (np.log10(lrs.max()) + 2.0) ** 2 / 20.0
    held_out = tuple((end, 0.2 + float(depth) + 1.0 / (end + 2.0)) for end in ends)
    return Curve(lrs, np.ones(len(lrs)), lane=probe.lane, evaluations=held_out)


def plan(updates_per_epoch: int | None, schedule: str = "linear", shortens: bool = True) -> Plan:
    return Plan(1000, schedule, updates_per_epoch, can_evaluate=True, can_shorten_epochs=shortens)


def test_lanes_make_as_many_passes_as_the_planned_run() -> None:
    lanes = probes(plan(100), budget=3.0)[1:]
    short = [lane for lane in lanes if len(lane.lrs) < 1000]
    assert len({len(lane.lrs) for lane in short}) > 2
    for lane in short:
        assert lane.updates_per_epoch is not None
        share = len(lane.lrs) / 10.0
        assert abs(lane.updates_per_epoch - max(share, DESIGN.fewest)) <= 0.5


def test_a_lane_of_few_updates_has_enough_data_to_learn_from() -> None:
    assert shortened_epoch(100, 60, 1000) == DESIGN.fewest
    assert shortened_epoch(100, DESIGN.fewest, 1000) is None
    assert shortened_epoch(DESIGN.fewest, 500, 1000) is None


def test_the_scout_sees_all_data() -> None:
    assert probes(plan(100))[0].updates_per_epoch is None


@pytest.mark.parametrize("updates_per_epoch", [None, 1, 250, 1000, 5000])
def test_nothing_is_left_out_where_that_changes_nothing(updates_per_epoch: int | None) -> None:
    """Data without end, or seen four times at most, and batches that are all of it."""
    lanes = probes(plan(updates_per_epoch))
    assert {lane.updates_per_epoch for lane in lanes} == {None}


def test_all_data_where_the_trainable_cannot_leave_any_out() -> None:
    lanes = probes(plan(100, shortens=False))
    assert {lane.updates_per_epoch for lane in lanes} == {None}


def test_a_lane_that_may_be_handed_over_sees_all_data() -> None:
    lanes = probes(plan(100, "constant"), hand_over=True)
    kept = [lane for lane in lanes if lane.keep]
    assert kept
    assert {lane.updates_per_epoch for lane in kept} == {None}
    assert any(lane.updates_per_epoch for lane in lanes)


@pytest.mark.parametrize("updates_per_epoch", [3, 40, 1000])
def test_a_lane_counts_as_shorter_ones_only_where_they_would_see_the_same(
    updates_per_epoch: int,
) -> None:
    for lane in probes(plan(updates_per_epoch, "constant"))[1:]:
        for half in lane.checkpoints:
            shorter = max(DESIGN.fewest, round(updates_per_epoch * half / 1000))
            seen = updates_per_epoch if shorter >= min(updates_per_epoch, half) else shorter
            assert seen == (lane.updates_per_epoch or updates_per_epoch)


class Memorising(Judged):
    """A quadratic whose noise comes again with every short epoch."""

    updates_per_epoch = 50
    most: int | None = None
    used = 0

    def step(self, lr: float) -> float:
        if self.most is not None and self.used == self.most:
            self.random, self.used = np.random.default_rng(self.seed), 0
        self.used += 1
        return super().step(lr)

    def shorten_epochs(self, updates: int) -> None:
        self.most, self.used = updates, 0

    def restore(self, snapshot: Any, /) -> None:
        self.most, self.used = None, 0
        super().restore(snapshot)


def test_a_race_on_parts_of_the_data_leaves_the_trainable_as_it_was() -> None:
    toy = Memorising(noise=0.3)
    before = repr(toy.snapshot())
    outcome = run_search(toy, Race(), Plan(500, "linear", toy.updates_per_epoch))
    assert repr(toy.snapshot()) == before
    assert toy.most is None
    assert outcome.status.found
    distinct = len(set(toy.batches))
    assert distinct < outcome.cost.steps / 5
