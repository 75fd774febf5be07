from __future__ import annotations

import numpy as np
import pytest

from lrsearch.core.outcome import Status
from lrsearch.core.suggest import suggest
from lrsearch.tutorial import ladder, zoom
from lrsearch.tutorial.problem import problem

SEED = 1


@pytest.fixture(scope="module")
def climbed() -> ladder.Climb:
    return ladder.compute(SEED)


@pytest.fixture(scope="module")
def looked() -> zoom.Zoom:
    return zoom.compute(SEED)


def test_the_staged_table_is_the_textbooks() -> None:
    by_hand = [n / 10_000 for n in range(1, 10)]
    by_hand += [n / 1000 for n in range(1, 10)] + [n / 100 for n in range(1, 10)]
    by_hand += [n / 10 for n in range(1, 10)] + [n / 100 for n in range(100, 111)]
    rungs = [lr for segment in ladder.SEGMENTS for lr in segment.rungs()]
    assert rungs == by_hand
    assert {segment.epochs for segment in ladder.SEGMENTS} == {50}


def test_the_net_takes_its_rate_from_the_ladder_at_every_update(climbed: ladder.Climb) -> None:
    (curve,) = climbed.outcome.curves
    twin = problem(SEED)
    for update in range(2500):
        rung = ladder.SEGMENTS[0].rungs()[update // 1000]
        assert curve.lr[update] == rung
        assert curve.loss[update] == twin.step(rung)
    lrs, updates = np.unique(curve.lr, return_counts=True)
    assert len(lrs) == 47
    assert set(updates.tolist()) == {1000}


def test_the_first_ladder_falls_and_ends_at_an_edge(climbed: ladder.Climb) -> None:
    assert climbed.rungs.loss[-1] < 0.1 * climbed.rungs.loss[0]
    assert climbed.outcome.rule == "turning"
    assert climbed.outcome.status is Status.AT_EDGE
    assert climbed.lowest[1] == climbed.rungs.loss.min()
    assert "edge" in ladder.tell(climbed)


def test_the_table_has_a_row_for_every_segment(climbed: ladder.Climb) -> None:
    rows = ladder.table(climbed).rows
    assert [row[0] for row in rows] == [
        "0.0001 to 0.0009", "0.001 to 0.009", "0.01 to 0.09", "0.1 to 0.9", "1 to 1.1",
    ]  # fmt: skip
    assert [row[2] for row in rows] == ["9", "9", "9", "9", "11"]


def test_both_figures_of_the_ladder_are_drawn(climbed: ladder.Climb) -> None:
    left, right = ladder.draw(climbed).axes
    assert left.get_ylabel() == "learning rate"
    assert left.get_xlabel() == "update (thousands)"
    assert right.get_xscale() == "log"
    assert right.get_ylabel() == "training loss"


def test_the_second_ladder_goes_from_a_half_to_one_in_hundredths(looked: zoom.Zoom) -> None:
    assert looked.chosen.rungs.lr.tolist() == [n / 100 for n in range(50, 101)]


def test_the_suggestion_is_read_where_the_loss_turns_up(looked: zoom.Zoom) -> None:
    view = looked.chosen
    assert view.turning.turned
    assert looked.lr == view.outcome.lr == suggest(view.outcome.curves[0], "turning").lr
    below = view.rungs.loss[np.searchsorted(view.rungs.lr, looked.lr) - 1]
    assert view.rungs.loss[-1] > 2.0 * below
    assert view.rungs.loss[0] > 2.0 * below
    assert view.rungs.loss.min() <= below < 1.5 * view.rungs.loss.min()


def test_the_ladders_own_zoom_looks_beyond_the_first_ladder_and_sees_the_rise(
    looked: zoom.Zoom,
) -> None:
    assert looked.own.rungs.lr[-1] > 1.1
    assert looked.own.turning.turned
    assert looked.own.outcome.status is Status.FOUND
    coarse, fine = looked.own.outcome.curves
    assert fine.loss[0] == coarse.loss[0]  # from the same start


def test_text_table_and_figure_name_both_ways(looked: zoom.Zoom) -> None:
    text, rows = zoom.tell(looked), zoom.table(looked).rows
    axes = zoom.draw(looked).axes
    for view, row, ax in zip((looked.chosen, looked.own), rows, axes, strict=True):
        assert view.name.capitalize() in text
        assert row[0] == view.name
        assert ax.get_title(loc="left") == view.name
        assert "turns up" in ax.texts[0].get_text()
