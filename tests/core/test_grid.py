from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.core import grid
from lrsearch.core.grid import Segment
from lrsearch.errors import InvalidArgument
from lrsearch.methods.ladder import TEXTBOOK

lrs = st.floats(1e-12, 1e6)


@given(start=lrs, factor=st.floats(1.001, 1e12), count=st.integers(2, 200))
def test_geometric_has_exact_ends_and_equal_ratios(start: float, factor: float, count: int) -> None:
    values = grid.geometric(start, start * factor, count)
    assert len(values) == count
    assert (values[0], values[-1]) == (start, start * factor)
    assert (np.diff(values) > 0).all()
    np.testing.assert_allclose(np.diff(np.log(values)), math.log(factor) / (count - 1), atol=1e-12)


@given(start=lrs, width=st.floats(1e-3, 1e3), count=st.integers(2, 200))
def test_linear_has_exact_ends_and_equal_steps(start: float, width: float, count: int) -> None:
    values = grid.linear(start, start * (1 + width), count)
    assert len(values) == count
    assert (values[0], values[-1]) == (start, start * (1 + width))
    np.testing.assert_allclose(np.diff(values), start * width / (count - 1), rtol=1e-6)


@pytest.mark.parametrize("make", [grid.geometric, grid.linear])
@pytest.mark.parametrize(
    ("start", "stop", "count", "name"),
    [
        (0.0, 1.0, 5, "start"),
        (-1.0, 1.0, 5, "start"),
        (math.nan, 1.0, 5, "start"),
        (1.0, 1.0, 5, "stop"),
        (1.0, 0.1, 5, "stop"),
        (0.1, math.inf, 5, "stop"),
        (0.1, 1.0, 1, "count"),
        (0.1, 1.0, 2.5, "count"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_by_name(make, start, stop, count, name) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: got"):
        make(start, stop, count)


# ------------------------------------------------------------------------------- segments


def test_the_textbook_rungs_are_exact_decimals() -> None:
    # 0.0001 added up in floating point gives 0.00030000000000000003 and ends one rung early.
    expected = (0.0001, 0.0002, 0.0003, 0.0004, 0.0005, 0.0006, 0.0007, 0.0008, 0.0009)
    assert Segment(0.0001, 0.0001, 0.0009).rungs() == expected


def test_the_whole_textbook_table_has_nine_rungs_per_decade_and_eleven_at_the_top() -> None:
    assert [len(segment.rungs()) for segment in TEXTBOOK] == [9, 9, 9, 9, 11]
    ladder = [lr for lr, _ in grid.rungs(TEXTBOOK, updates_per_epoch=7)]
    assert ladder == sorted(set(ladder))
    assert len(ladder) == 47
    assert ladder[-1] == 1.1


def test_the_zoom_of_the_textbook_has_51_rungs_from_one_half_to_one() -> None:
    rungs = Segment(0.5, 0.01, 1.0).rungs()
    assert rungs == tuple(number / 100 for number in range(50, 101))


@pytest.mark.parametrize("start", [0.0001, 0.003, 0.7, 5.0])
def test_a_segment_without_stop_ends_at_ten_times_its_start(start: float) -> None:
    rungs = Segment(start, start).rungs()
    assert len(rungs) == 10
    assert rungs[-1] == float(10 * Decimal(repr(start)))


@given(
    start=st.integers(1, 999),
    step=st.integers(1, 99),
    count=st.integers(1, 60),
    digits=st.integers(0, 8),
)
def test_rungs_are_the_decimals_that_counting_gives(start, step, count, digits) -> None:
    unit = Decimal(1).scaleb(-digits)
    stop = float((start + step * (count - 1)) * unit)
    rungs = Segment(float(start * unit), float(step * unit), stop).rungs()
    assert rungs == tuple(float((start + step * number) * unit) for number in range(count))


def test_a_stop_between_two_rungs_is_not_passed() -> None:
    assert Segment(0.1, 0.2, 0.4).rungs() == (0.1, 0.3)


def test_a_stop_that_was_computed_in_floating_point_is_still_reached() -> None:
    assert Segment(0.1, 0.1, 0.1 + 0.1 + 0.1).rungs()[-1] == 0.3
    assert len(Segment(0.1, 0.1, 0.7999999999999999).rungs()) == 8


def test_a_segment_may_be_a_single_rung() -> None:
    assert Segment(0.3, 0.1, 0.3).rungs() == (0.3,)


def test_a_rung_that_two_segments_share_is_visited_once_with_the_first_ones_updates() -> None:
    ladder = grid.rungs([Segment(0.01, 0.01, updates=3), Segment(0.1, 0.1, 0.3, updates=5)])
    assert [lr for lr, _ in ladder] == [number / 100 for number in range(1, 11)] + [0.2, 0.3]
    assert [updates for _, updates in ladder] == [3] * 10 + [5] * 2


def test_epochs_become_updates_when_the_length_of_an_epoch_is_known() -> None:
    segments = [Segment(0.1, 0.1, 0.2, epochs=10), Segment(0.3, 0.1, 0.4, epochs=0.001)]
    assert [updates for _, updates in grid.rungs(segments, 8)] == [80, 80, 1, 1]


def test_epochs_without_a_known_length_are_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidArgument, match=r"Segment\.epochs: got 10.0, expected updates="):
        grid.rungs([Segment(0.1, 0.1, epochs=10)])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"start": 0, "step": 0.1}, "Segment.start"),
        ({"start": "0.1", "step": 0.1}, "Segment.start"),
        ({"start": 0.1, "step": 0}, "Segment.step"),
        ({"start": 0.1, "step": -0.1}, "Segment.step"),
        ({"start": 0.1, "step": 1e-12}, "Segment.step"),
        ({"start": 0.1, "step": 0.1, "stop": 0.05}, "Segment.stop"),
        ({"start": 0.1, "step": 0.1, "stop": math.inf}, "Segment.stop"),
        ({"start": 0.1, "step": 0.1, "updates": 0}, "Segment.updates"),
        ({"start": 0.1, "step": 0.1, "updates": 1.5}, "Segment.updates"),
        ({"start": 0.1, "step": 0.1, "epochs": 0}, "Segment.epochs"),
        ({"start": 0.1, "step": 0.1, "updates": 1, "epochs": 1}, "Segment"),
    ],
)
def test_a_segment_that_makes_no_sense_is_refused_when_it_is_made(arguments, name) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: "):
        Segment(**arguments)
