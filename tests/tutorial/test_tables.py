from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from lrsearch.tutorial.tables import Table, number

LOSSES = Table("Losses", ("lr", "loss"), (("0.1", "0.02"), ("1", "not finite")))


def test_a_table_in_markdown_has_a_header_a_rule_and_its_rows() -> None:
    assert LOSSES.markdown().splitlines() == [
        "| lr | loss |",
        "| :-- | --: |",
        "| 0.1 | 0.02 |",
        "| 1 | not finite |",
    ]


def test_columns_of_words_are_set_to_the_left() -> None:
    table = Table("", ("a", "b", "c"), (), words=2)
    assert table.markdown().splitlines()[1] == "| :-- | :-- | --: |"


def test_the_terminal_shows_title_columns_and_cells() -> None:
    out = io.StringIO()
    Console(file=out, width=60).print(LOSSES.rich())
    for text in ("Losses", "lr", "loss", "0.02", "not finite"):
        assert text in out.getvalue()


def test_a_row_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells in a table of 2 columns"):
        Table("", ("a", "b"), (("1",),))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.7, "0.7"),
        (0.00012345, "0.000123"),
        (0.00002, "0.00002"),
        (-0.000032, "-0.000032"),
        (999.4, "999"),
        (12345.6, "12,346"),
        (1.2e9, "1.2e+09"),
        (1e-9, "1e-09"),
        (math.inf, "not finite"),
        (-math.inf, "not finite"),
        (math.nan, "not finite"),
    ],
)
def test_numbers_are_written_as_people_write_them(value: float, text: str) -> None:
    assert number(value) == text
