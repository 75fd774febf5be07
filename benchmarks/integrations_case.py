"""What ``benchmarks.integrations`` needs to know of a trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LOW, HIGH = 1e-7, 1e-4  # bounds of the range tests: nothing diverges between them


@dataclass(frozen=True)
class Case:
    """A trainer and the two things that are timed.

    Attributes:
        name: ``library, model``.
        make: ``make(steps)``: whatever ``train`` and ``search`` take, new and seeded.
        train: trains that many steps as the library does; returns the steps made.
        search: runs a range test of that many steps; returns the steps made.
    """

    name: str
    make: Callable[[int], Any]
    train: Callable[[Any, int], int]
    search: Callable[[Any, int], int]
