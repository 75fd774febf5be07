"""Every row of docs/training-loops.md links tests that exist; its figures are those measured."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from benchmarks import overhead_page
from benchmarks.results_file import FOLDER

PAGE = Path(__file__).parents[2] / "docs" / "training-loops.md"
TEXT = PAGE.read_text("utf-8")
LINKS = re.findall(r"\[`(\w+)`\]\(([^)]+\.py)\)", TEXT)
WRITTEN_BY_HAND = TEXT.partition("<!-- snapshot:begin -->")[0]
ROWS = [line for line in WRITTEN_BY_HAND.splitlines() if line.startswith("| ")]


def names(path: Path) -> set[str]:
    """Functions and classes of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    return {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize(("name", "path"), sorted(set(LINKS)))
def test_a_linked_test_exists(name: str, path: str) -> None:
    assert name.startswith(("test_", "Test"))
    assert name in names((PAGE.parent / path).resolve())


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_a_link_leads_somewhere(path: str) -> None:
    assert (PAGE.parent / path).exists()


def test_every_row_links_a_test() -> None:
    assert len(ROWS) > 40
    heads = {row for row in ROWS if row.endswith("| test |")}
    assert [row for row in ROWS if row not in heads and "[`" not in row] == []


def test_the_figures_are_those_of_the_last_measurement() -> None:
    found = [
        json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
        for name in ("overhead_snapshot", "memory_transformer")
    ]
    assert overhead_page.text(*found) in TEXT


def test_snapshots_and_memory_cost_what_was_promised() -> None:
    snapshot, memory = (
        json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
        for name in ("overhead_snapshot", "memory_transformer")
    )
    for name in ("transformer", "large matrices"):
        for place in ("device", "cpu"):
            for part in ("snapshot", "restore"):
                assert snapshot[name][place][part]["ratio"] <= 1.2
    assert memory["ratio_to_training_plus_one_copy"] < 1.1
    assert memory["parameters"] >= 100_000_000
