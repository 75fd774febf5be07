"""Whatever can be read from a file can be plotted, reported and printed."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.outcome import Cost, Outcome, Status
from lrsearch.core.serialize import from_json, to_json
from lrsearch.report.console import result_table
from lrsearch.report.html import html_page

# ------------------------------------------------------------------------ whatever can be read

EXTREME = [0.0, 5e-324, 1e-300, 1e-9, 0.1, 1.0, 1e9, 1e300, 1.7e308]


@st.composite
def readable(draw: st.DrawFn) -> Outcome:
    """What :func:`from_json` accepts, with numbers from everywhere."""
    sizes = st.sampled_from(EXTREME)
    losses = st.builds(
        lambda x, sign: sign * x, sizes, st.sampled_from([1.0, -1.0, math.nan, math.inf])
    )
    rates = sizes.filter(bool)
    curves = []
    for lane in range(draw(st.integers(0, 4))):
        size = draw(st.integers(0, 12))
        lrs = draw(st.lists(sizes, min_size=size, max_size=size))
        lrs = lrs[:1] * size if draw(st.booleans()) else lrs
        held_out = draw(st.lists(losses, max_size=2))
        curves.append(
            Curve(
                lrs,
                draw(st.lists(losses, min_size=size, max_size=size)),
                draw(st.sampled_from(Stop)),
                lane,
                tuple(enumerate(held_out, 1)),
            )
        )
    low, lr, high = sorted(draw(st.tuples(rates, rates, rates)))
    measure = st.none() | losses
    text = st.sampled_from(["", "plain", "\ud800", "\x1b[2J", "<script>", "\0", "\u202e"])
    return Outcome(
        lr, low, high, draw(st.sampled_from(Status)), draw(text), draw(text), tuple(curves),
        Cost(3, 0, draw(losses)), {"method": draw(st.sampled_from(["range", "race", "sweep", 3]))},
        (1.0, draw(sizes)), draw(measure), draw(measure), draw(measure),
    )  # fmt: skip


def shown_everywhere(outcome: Outcome) -> None:
    read = from_json(to_json(outcome))
    html_page(read).encode("utf-8")
    Console(file=io.StringIO(), force_terminal=True).print(result_table(read))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(outcome=readable())
def test_whatever_can_be_read_can_be_plotted_and_reported(outcome: Outcome) -> None:
    shown_everywhere(outcome)


@pytest.mark.parametrize("method", ["range", "race"])
@pytest.mark.parametrize(
    ("lrs", "losses", "answer"),
    [
        ([0.1, 0.2], [1e308, -1e308], 0.1),
        ([0.1, 0.2], [2.0, 1.0], 5e-324),
        ([1e-300, 1e30], [2.0, 1.0], 1e-300),
        ([0.0, 0.1, 1.7e308], [2.0, 1.0, math.inf], 1.7e308),
        ([0.0, 0.0], [math.nan, 1.0], 1.0),
    ],
)
def test_numbers_near_the_ends_of_floating_point_are_drawn(
    method: str, lrs: list[float], losses: list[float], answer: float
) -> None:
    curves = (Curve(lrs, losses), Curve([0.1] * 3, losses[:1] * 3, lane=1))
    outcome = Outcome(
        answer, answer, answer, Status.FOUND, "", "", curves, Cost(2, 0, 0.1), {"method": method}
    )
    shown_everywhere(outcome)


def test_text_that_a_terminal_would_obey_is_shown_as_text() -> None:
    why = "a\x1b[2J\x9b31m\u202eb\ud800"
    outcome = Outcome(0.1, 0.1, 0.1, Status.FOUND, why, "", (), Cost(0, 0, 0.0))
    page = html_page(outcome)
    table = io.StringIO()
    Console(file=table, width=200).print(result_table(outcome))
    for text in (page, table.getvalue()):
        assert "a\\x1b[2J\\x9b31m\\u202eb\\ud800" in text
