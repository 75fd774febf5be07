"""An oracle expires when its task changes, and only then."""

from __future__ import annotations

import importlib
import itertools
import pathlib
from collections.abc import Callable

import pytest

from benchmarks.regret.fingerprint import fingerprint

SOURCE = '''
from __future__ import annotations
from math import sqrt

RATE = 3
LOW, HIGH = 1, 2

def helper(x):
    """What it does."""
    return x * RATE + HIGH  # a comment

class Model:
    """A model."""
    size: int = 4

def build(seed):
    return helper(seed) + Model.size + sqrt(seed)

def neighbour(seed):
    return seed
'''
counter = itertools.count()

Prints = Callable[[str], str]


@pytest.fixture
def prints(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Prints:
    """Write a source as a module of the benchmark and return the fingerprint of its `build`."""
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))

    def of(source: str) -> str:
        name = f"toy{next(counter)}"
        (tmp_path / "benchmarks" / f"{name}.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()
        return fingerprint(importlib.import_module(f"benchmarks.{name}").build)

    return of


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another"),
        ("What it does.", "What else it does."),
        ("A model.", "Another."),
        ("return helper(seed) + Model.size", "return (\n        helper(seed) + Model.size)"),
        ("return seed\n", "return -seed\n"),  # the neighbour
        ("def build(seed):", "def build(seed: int) -> float:"),
    ],
)
def test_what_does_not_change_the_run_does_not_change_the_fingerprint(
    prints: Prints, old: str, new: str
) -> None:
    assert old in SOURCE
    changed = SOURCE.replace(old, new)
    if "size)" in new:
        changed = changed.replace("size) + sqrt(seed)", "size + sqrt(seed))")
    assert prints(changed) == prints(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 3", "RATE = 4"),
        ("x * RATE", "x + RATE"),
        ("HIGH = 1, 2", "HIGH = 1, 3"),
        ("size: int = 4", "size: int = 5"),
        ("helper(seed) +", "helper(seed) -"),
    ],
)
def test_a_change_in_anything_reached_changes_the_fingerprint(
    prints: Prints, old: str, new: str
) -> None:
    assert old in SOURCE
    assert prints(SOURCE.replace(old, new)) != prints(SOURCE)


def test_a_change_in_another_module_of_the_benchmark_counts(
    prints: Prints, tmp_path: pathlib.Path
) -> None:
    def importing(value: int) -> str:
        other = f"other{next(counter)}"
        text = f"def scale(x):\n    return x * {value}\n"
        (tmp_path / "benchmarks" / f"{other}.py").write_text(text, encoding="utf-8")
        return prints(
            f"from benchmarks.{other} import scale\n\ndef build(x):\n    return scale(x)\n"
        )

    assert importing(2) == importing(2)
    assert importing(2) != importing(3)
