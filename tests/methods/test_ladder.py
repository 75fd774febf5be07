from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lrsearch.core.curve import Stop
from lrsearch.core.grid import Segment
from lrsearch.core.outcome import Outcome, Status
from lrsearch.core.search import Plan, run_search
from lrsearch.core.suggest import suggest
from lrsearch.errors import InvalidArgument
from lrsearch.methods.ladder import TEXTBOOK, Ladder
from tests.core.toys import Quadratic, Scripted, SineNet

COARSE, ZOOM = 0, 1


def climb(trainable: Any, *segments: Segment, per_epoch: int | None = None, **o: Any) -> Outcome:
    return run_search(trainable, Ladder(segments, **o), Plan(updates_per_epoch=per_epoch))


def falling() -> Quadratic:
    return Quadratic(np.geomspace(0.1, 10.0, 10), noise=0.05)


# -------------------------------------------------------------------------------- the ladder


def test_the_lr_of_every_update_is_the_rung_of_the_ladder() -> None:
    problem = Quadratic((1.0, 10.0))
    segments = Segment(0.001, 0.001, 0.009, updates=3), Segment(0.01, 0.01, 0.05, updates=2)
    (curve,) = climb(problem, *segments, zoom=0).curves
    rungs = [n / 1000 for n in range(1, 10) for _ in range(3)]
    rungs += [n / 100 for n in range(1, 6) for _ in range(2)]
    assert curve.lr.tolist() == rungs
    assert problem.lrs == rungs


def test_a_rung_shared_by_two_segments_is_visited_once() -> None:
    (curve,) = climb(falling(), Segment(0.001, 0.001), Segment(0.01, 0.01), zoom=0).curves
    assert len(curve) == len(set(curve.lr.tolist())) == 19


def test_the_textbook_table_counts_its_epochs() -> None:
    problem = Scripted([1.0] * 10_000)
    (curve,) = climb(problem, *TEXTBOOK, per_epoch=4, zoom=0).curves
    lrs, updates = np.unique(curve.lr, return_counts=True)
    assert len(lrs) == 47
    assert set(updates.tolist()) == {40}
    assert (lrs[0], lrs[8], lrs[-1]) == (0.0001, 0.0009, 1.1)


def test_the_default_ladder_has_nine_rungs_in_every_decade_and_exact_ends() -> None:
    ladder = Ladder(min_lr=1e-4, max_lr=1.0, updates=5).rungs()
    assert len(ladder) == 37
    assert (ladder[0], ladder[-1]) == ((1e-4, 5), (1.0, 5))


def test_the_lane_is_trained_without_a_break_from_rung_to_rung() -> None:
    problem = falling()
    (curve,) = climb(problem, Segment(0.01, 0.01, 0.05, updates=4), zoom=0).curves
    twin = falling()
    assert curve.loss.tolist() == [twin.step(lr) for lr in curve.lr]


def test_divergence_ends_the_ladder() -> None:
    low, high = Segment(0.01, 0.01, 0.09, updates=5), Segment(0.1, 0.1, 5.0, updates=5)
    (curve,) = climb(falling(), low, zoom=0).curves
    assert curve.stop is Stop.COMPLETED
    (curve,) = climb(falling(), low, high, zoom=0).curves
    assert curve.stop is Stop.DIVERGED
    assert 0.2 < curve.lr[-1] < 2.0


# ----------------------------------------------------------------------------------- the zoom


def test_the_zoom_climbs_the_decade_around_the_first_answer_from_the_same_start() -> None:
    outcome = climb(falling(), zoom=20, updates=2)
    coarse, fine = outcome.curves
    found = suggest(coarse).lr
    rungs = np.unique(fine.lr)
    assert rungs[0] == pytest.approx(found / math.sqrt(10.0))
    assert fine.loss[0] == coarse.loss[0]
    if fine.stop is Stop.COMPLETED:
        assert len(rungs) == 20
        assert rungs[-1] == pytest.approx(found * math.sqrt(10.0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("updates", "rule"), [(5, "default"), (20, "turning")])
def test_the_zoom_stays_within_its_decade_of_the_first_answer(seed, updates, rule) -> None:
    outcome = climb(SineNet(seed, batch=64), updates=updates)
    assert outcome.status.found
    assert outcome.rule == rule  # long rungs are read in another way than short ones
    coarse = suggest(outcome.curves[COARSE], rule)
    assert abs(math.log10(outcome.lr / coarse.lr)) <= 0.5 + 1e-9
    assert outcome.low <= outcome.lr


def test_without_a_fall_there_is_nothing_to_zoom_on() -> None:
    outcome = climb(Scripted([2.0] * 200))
    assert len(outcome.curves) == 1
    assert outcome.status is Status.NO_SIGNAL


def test_zoom_zero_is_one_ladder() -> None:
    outcome = climb(falling(), zoom=0)
    assert len(outcome.curves) == 1
    assert outcome.lr == suggest(outcome.curves[COARSE]).lr


# ------------------------------------------------------------------------------------- broken


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_broken_from_the_start_is_not_blamed_on_the_lr(bad: float) -> None:
    assert climb(Scripted([bad] * 200)).status is Status.NOT_FINITE


def test_epochs_without_a_known_length_are_refused_before_any_training() -> None:
    problem = Quadratic()
    with pytest.raises(InvalidArgument, match=r"Segment\.epochs: got 10"):
        climb(problem, *TEXTBOOK)
    assert problem.lrs == []


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"zoom": 1}, "zoom"),
        ({"zoom": -1}, "zoom"),
        ({"zoom": 2.5}, "zoom"),
        ({"updates": 0}, "updates"),
        ({"updates": 1.5}, "updates"),
        ({"min_lr": 0}, "min_lr"),
        ({"max_lr": math.nan}, "max_lr"),
        ({"min_lr": 0.1, "max_lr": 0.01}, "max_lr"),
        ({"min_lr": 100.0}, "max_lr"),
        ({"rule": "fastest"}, "rule"),
        ({"segments": [(0.1, 0.1)]}, "segments"),
        ({"segments": TEXTBOOK, "min_lr": 0.1}, "segments"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(options, name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: "):
        Ladder(**options)
