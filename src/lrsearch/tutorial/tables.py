"""A table as plain data: shown in the terminal by ``rich``, written into the page as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.table

__all__ = ["Table", "number"]


@dataclass(frozen=True)
class Table:
    """Rows of finished text under named columns; after ``words`` columns, set to the right.

    Example:
        >>> print(Table("Losses", ("lr", "loss"), (("0.1", "0.02"),)).markdown())
        | lr | loss |
        | :-- | --: |
        | 0.1 | 0.02 |
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells in a table of {len(self.columns)} columns")

    def rich(self) -> rich.table.Table:
        """Return the table for a terminal."""
        import rich.table

        table = rich.table.Table(title=self.title, title_justify="left")
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="left" if index < self.words else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Return the table in Markdown, without its title."""
        rule = tuple(":--" if i < self.words else "--:" for i in range(len(self.columns)))
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.columns, rule, *self.rows))


def number(value: float, digits: int = 3) -> str:
    """Return ``value`` with so many significant digits, as people write it.

    Example:
        >>> [number(v) for v in (0.7, 12345.6, 0.000012345, float("inf"))]
        ['0.7', '12,346', '0.0000123', 'not finite']
    """
    if value != value or value in (float("inf"), float("-inf")):
        return "not finite"
    if abs(value) >= 1000.0:
        return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.1e}"
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text
    return f"{float(text):.12f}".rstrip("0").rstrip(".") if abs(value) >= 1e-6 else text
