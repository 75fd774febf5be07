"""The tables of docs/benchmark.md on false answers, from what `benchmarks.noise` stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.markdown import table
from benchmarks.noise import KINDS, METHODS, Cell, wilson

TITLES = {"race-0.3": "race, budget 0.3", "race-1": "race, budget 1", "race-3": "race, budget 3"}
PURE = ("pure-noise", "noise-adam", "random-labels")


def cells_of(content: Mapping[str, Any]) -> dict[tuple[str, str, bool], Cell]:
    """The stored cells by kind, method and whether there were held-out data."""
    cells = [Cell(**stored) for stored in content["cells"]]
    return {(cell.kind, cell.method, cell.held_out): cell for cell in cells}


def kind_table(content: Mapping[str, Any]) -> str:
    """Share of seeds with an answer, for every kind of nothing to learn."""
    cells, measured = cells_of(content), measured_methods(content)
    rows = [
        [
            kind.title,
            *(
                " / ".join(_percent(cells[kind.name, method, held]) for held in (False, True))
                for method in measured
            ),
        ]
        for kind in KINDS
        if kind.best is None and (kind.name, measured[0], False) in cells
    ]
    return table(["nothing to learn", *(TITLES.get(name, name) for name in measured)], rows)


def measured_methods(content: Mapping[str, Any]) -> list[str]:
    """The methods of which there are cells."""
    known = {cell["method"] for cell in content["cells"]}
    return [method for method in METHODS if method in known]


def method_table(content: Mapping[str, Any]) -> str:
    """Of every method: answers on pure noise, clear problems without one, and both widths."""
    cells, clear = cells_of(content), [kind.name for kind in KINDS if kind.best is not None]
    rows = []
    for method in measured_methods(content):
        noise = {held: _measured(cells, PURE, method, (held,)) for held in (False, True)}
        plain = _measured(cells, clear, method, (False, True))
        found = sum(cell.found for cell in plain)
        rows.append(
            [
                TITLES.get(method, method),
                *(_share(sum(c.found for c in some), _seeds(some)) for some in noise.values()),
                _width([cell for some in noise.values() for cell in some]),
                _width(plain),
                _share(_seeds(plain) - found, _seeds(plain)),
                _share(sum(cell.holds or 0 for cell in plain), found),
            ]
        )
    return table(
        [
            "method",
            "answers on pure noise",
            "the same with held-out data",
            "width there, decades",
            "width on clear problems",
            "clear, without answer",
            "clear, best rate in interval",
        ],
        rows,
    )


def about(content: Mapping[str, Any]) -> str:
    """How many seeds, when and with what."""
    env = content["environment"]
    cells = cells_of(content)
    seeds = sorted({cell.seeds for cell in cells.values()})
    versions = ", ".join(f"{name} {number}" for name, number in env["versions"].items())
    return (
        f"{' to '.join(map(str, seeds))} seeds of each; measured {env['date']}, "
        f"Python {env['python']}, {versions}."
    )


def _measured(
    cells: Mapping[tuple[str, str, bool], Cell],
    kinds: Sequence[str],
    method: str,
    held_out: Sequence[bool],
) -> list[Cell]:
    wanted = ((kind, method, held) for kind in kinds for held in held_out)
    return [cells[key] for key in wanted if key in cells]


def _percent(cell: Cell) -> str:
    return f"{cell.found / cell.seeds:.0%}"


def _seeds(cells: Sequence[Cell]) -> int:
    return sum(cell.seeds for cell in cells)


def _share(hits: int, total: int) -> str:
    if not total:
        return ""
    low, high = wilson(hits, total)
    return f"{hits / total:.0%} ({low:.0%} to {high:.0%})"


def _width(cells: Sequence[Cell]) -> str:
    widths = [cell.width for cell in cells if cell.width is not None]
    return f"{np.median(widths):.1f}" if widths else ""
