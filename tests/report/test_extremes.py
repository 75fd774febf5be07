"""Whatever can be read from a file can be plotted, reported and printed."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from lrsearch.core.curve import Curve
from lrsearch.core.outcome import Cost, Outcome, Status
from lrsearch.core.serialize import from_json, to_json
from lrsearch.report.console import result_table
from lrsearch.report.html import html_page

# ------------------------------------------------------------------------ whatever can be read


def shown_everywhere(outcome: Outcome) -> None:
    read = from_json(to_json(outcome))
    html_page(read).encode("utf-8")
    Console(file=io.StringIO(), force_terminal=True).print(result_table(read))


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
