"""On long rungs a ladder is read by another rule, and a burst is no divergence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.grid import Segment
from lrsearch.core.outcome import Outcome, Status
from lrsearch.core.search import Plan, Probe, drive
from lrsearch.core.suggest import suggest
from lrsearch.errors import InvalidArgument
from lrsearch.methods.ladder import TEXTBOOK, Ladder

X = np.linspace(-3.0, 0.0, 40)
PLAN = Plan()


def stairs(turn: float = -0.3) -> Curve:
    """Falls twice, far apart, and rises from ``turn`` on."""
    loss = 2.0 - 1.0 / (1.0 + 10.0 ** (-8.0 * (X + 2.5))) - 0.5 / (1.0 + 10.0 ** (-8.0 * (X + 0.7)))
    return Curve(10.0**X, loss + 5.0 * np.maximum(X - turn, 0.0))


def drive_on(ladder: Ladder, *curves: Curve, plan: Plan = PLAN) -> tuple[Outcome, list[Probe]]:
    """Let a ladder read these curves, one after the other; and what it asked for."""
    asked: list[Probe] = []

    def measure(probe: Probe) -> Curve:
        asked.append(probe)
        return curves[len(asked) - 1]

    return drive(ladder, plan, measure), asked


@pytest.mark.parametrize(
    ("ladder", "plan", "rule"),
    [
        (Ladder(updates=1), Plan(), "default"),
        (Ladder(updates=19), Plan(), "default"),
        (Ladder(updates=20), Plan(), "turning"),
        (Ladder(TEXTBOOK), Plan(updates_per_epoch=1), "default"),
        (Ladder(TEXTBOOK), Plan(updates_per_epoch=20), "turning"),
        (Ladder([Segment(0.1, 0.1, updates=1), Segment(1.0, 1.0, updates=50)]), Plan(), "turning"),
        (Ladder(updates=50, rule="default"), Plan(), "default"),
        (Ladder(updates=1, rule="turning"), Plan(), "turning"),
    ],
)
def test_the_longest_rung_decides_how_the_ladder_is_read(
    ladder: Ladder, plan: Plan, rule: str
) -> None:
    assert drive_on(replace(ladder, zoom=0), stairs(), plan=plan)[0].rule == rule


def test_a_loss_that_falls_in_stairs_is_read_where_it_turns_up() -> None:
    read, _ = drive_on(Ladder(updates=50, zoom=0), stairs())
    assert read.lr == pytest.approx(10.0**-0.3, rel=0.25)
    assert suggest(stairs()).lr < 0.01  # the first fall, where the rule for short rungs looks


def test_the_zoom_lies_around_what_the_rule_reads() -> None:
    _, (_, probe) = drive_on(Ladder(updates=50, zoom=20), stairs(), stairs())
    rungs = sorted(set(probe.lrs))
    assert len(rungs) == 20
    assert len(probe.lrs) == 20 * 50
    middle = drive_on(Ladder(updates=50, zoom=0), stairs())[0].lr
    assert rungs[0] == pytest.approx(middle / 10.0**0.5)
    assert rungs[-1] == pytest.approx(middle * 10.0**0.5)


@pytest.mark.parametrize(("updates", "patience"), [(1, 3), (20, 3), (50, 5), (1000, 100)])
def test_on_a_long_rung_a_burst_must_last_before_it_is_divergence(
    updates: int, patience: int
) -> None:
    _, (probe,) = drive_on(Ladder(updates=updates, zoom=0), stairs())
    assert probe.stop.patience == patience


def test_the_zoom_may_show_the_end_of_the_fall_that_the_first_ladder_did_not_reach() -> None:
    ladder, alone = Ladder(updates=50), Ladder(updates=50, zoom=0)
    unfinished = Curve(10.0**X, 1.0 - X)
    assert drive_on(alone, unfinished)[0].status is Status.AT_EDGE
    assert drive_on(ladder, unfinished, stairs())[0].status is Status.FOUND
    assert drive_on(ladder, unfinished, unfinished)[0].status is Status.AT_EDGE


def test_divergence_is_an_end_of_the_fall() -> None:
    cut = Curve(10.0**X, 1.0 - X, Stop.DIVERGED)
    assert drive_on(Ladder(updates=50, zoom=0), cut)[0].status is Status.FOUND


def test_an_unknown_rule_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        InvalidArgument, match=r"rule: got 'steep', expected one of 'auto', .*'turning'"
    ):
        Ladder(rule="steep")
