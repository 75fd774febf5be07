"""Run every step, one after the other, and write what it shows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lrsearch.core.serialize import write_atomically
from lrsearch.tutorial import decay, figures, ladder, plateaus, regimes, trial, zoom
from lrsearch.tutorial.page import page
from lrsearch.tutorial.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

__all__ = ["SEED", "Report", "Shown", "run_tutorial", "steps"]

#: The net of steps a to e: the first seed whose second ladder turns up within its range, as the
#: textbook's does. The page in docs has a table of ten seeds.
SEED = 1

_STEPS: tuple[tuple[str, str, ModuleType], ...] = (
    ("a-plateaus", "a. Plateaus: the loss stands still", plateaus),
    ("b-regimes", "b. Regimes: too large, large, right, too small", regimes),
    ("c-ladder", "c. The ladder: many learning rates in one run", ladder),
    ("d-zoom", "d. Zoom: a closer look", zoom),
    ("e-trial", "e. Trial: the suggestion against every other rate", trial),
    ("f-decay", "f. Decay: a constant learning rate against a falling one", decay),
)


@dataclass(frozen=True)
class Shown:
    """What one step measured, ready to be shown.

    Attributes:
        name: short name, with the step's letter: also the name of its figure.
        title: what the step is about.
        text: what was measured, in Markdown.
        table: the numbers.
        figure: the picture, not yet written.
    """

    name: str
    title: str
    text: str
    table: Table
    figure: Figure


@dataclass(frozen=True)
class Report:
    """What the tutorial showed and what it wrote.

    Attributes:
        shown: the steps, a to f.
        files: the figures and the page.
        seconds: wall time.
    """

    shown: tuple[Shown, ...]
    files: tuple[Path, ...]
    seconds: float


def run_tutorial(out: Path, console: Console, seed: int = SEED) -> Report:
    """Run all six steps; show a table of each, and write six figures and a page about them.

    Args:
        out: folder for ``a-plateaus.png`` to ``f-decay.png`` and ``tutorial.md``; made if it is
            missing. A file that is there is replaced only by a whole one.
        console: where the tables go.
        seed: seed of the net in steps a to e; step f has its own.
    """
    from rich.markdown import Markdown

    began = time.perf_counter()
    shown: list[Shown] = []
    files: list[Path] = []
    waiting = console.status("")
    with waiting:
        for step in steps(seed, lambda title: waiting.update(f"{title} ...")):
            path = out / f"{step.name}.png"
            figures.save(step.figure, path)
            console.rule(f"[bold]{step.title}")
            console.print(Markdown(step.text))
            console.print(step.table.rich())
            console.print(f"Figure: {path}", soft_wrap=True, highlight=False)
            shown.append(step)
            files.append(path)
    text = page([(step.name, step.title, step.text, step.table) for step in shown], folder=".")
    files.append(write_atomically(out / "tutorial.md", lambda path: path.write_text(text, "utf-8")))
    seconds = time.perf_counter() - began
    console.rule()
    console.print(
        f"Six figures and tutorial.md are in {out}, after {seconds:.0f} seconds.", soft_wrap=True
    )
    return Report(tuple(shown), tuple(files), seconds)


def steps(seed: int = SEED, announce: Callable[[str], None] | None = None) -> Iterator[Shown]:
    """Run the steps one by one; each is yielded as soon as it is done.

    Args:
        seed: seed of the net in steps a to e.
        announce: called with the title of a step before it runs.
    """
    suggestion, spent = math.nan, 0
    for name, title, step in _STEPS:
        if announce is not None:
            announce(title)
        if step is trial:
            result: Any = trial.compute(suggestion, seed, spent=spent)
        elif step is decay:
            result = decay.compute()
        else:
            result = step.compute(seed)
        if step is ladder:
            spent += result.outcome.cost.steps
        if step is zoom:
            suggestion = result.lr
            spent += result.chosen.outcome.cost.steps
        yield Shown(name, title, step.tell(result), step.table(result), step.draw(result))
