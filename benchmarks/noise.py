"""How often a method names a learning rate where there is nothing to learn.

``python -m benchmarks.noise`` searches trainings from which nothing can be learned, and some
from which plainly something can, with every method, with and without held-out data::

    python -m benchmarks.noise --seeds 20 --kinds pure-noise clear-regression --methods race-1

Only a full run (without ``--kinds``, ``--methods`` or ``--seeds``) is stored, in
results/noise.json; ``benchmarks.regret.publish`` makes the tables of docs/benchmark.md from it.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import lrsearch
from benchmarks import noise_kinds as numpy_kinds
from benchmarks import noise_kinds_torch as torch_kinds
from benchmarks.environment import environment
from benchmarks.results_file import write_json

Search = Callable[[Any, int, bool], lrsearch.Result]


@dataclass(frozen=True)
class Kind:
    """One kind of training.

    Attributes:
        name: by which the command line and the JSON know it.
        title: what it is, in words.
        search: ``search(method, seed, held_out) -> Result``.
        clear: whether there is plainly something to learn; else an answer is false.
        seeds: how many a full run takes.
    """

    name: str
    title: str
    search: Search
    clear: bool = False
    seeds: int = 30


_numpy, _torch = numpy_kinds.in_numpy, torch_kinds.in_torch
_noise = numpy_kinds.pure_noise

KINDS = (
    Kind("pure-noise", "targets are noise, SGD", _numpy(_noise), seeds=200),
    Kind(
        "noise-adam",
        "targets are noise, Adam",
        _numpy(functools.partial(_noise, adam=True)),
        seeds=200,
    ),
    Kind(
        "random-labels",
        "random labels, drawn anew per batch",
        _numpy(numpy_kinds.random_labels),
        seeds=200,
    ),
    Kind("heavy-noise", "noise with heavy tails", _numpy(functools.partial(_noise, tails=2.5))),
    Kind(
        "few-held-out",
        "noise, 8 held-out examples",
        _numpy(functools.partial(_noise, rows=10008, held_out=8)),
    ),
    Kind("no-gradient", "no gradient (NumPy)", _numpy(numpy_kinds.dead)),
    Kind("walk", "the loss is a random walk, the same in every run", numpy_kinds.walk(False)),
    Kind("fresh-walk", "the loss is another random walk in every run", numpy_kinds.walk(True)),
    Kind("dead-relu", "dead ReLU units", _torch(torch_kinds.dead_relu)),
    Kind("detached", "detached features", _torch(torch_kinds.detached)),
    Kind("ignored-rate", "a wrapper ignores the rate", _torch(torch_kinds.ignored_rate)),
    Kind(
        "frozen-batchnorm",
        "frozen, BatchNorm statistics move",
        _torch(torch_kinds.frozen_batchnorm),
    ),
    Kind(
        "noise-batchnorm", "noise, BatchNorm statistics move", _torch(torch_kinds.noise_batchnorm)
    ),
    Kind("clear-regression", "linear regression, SGD", _numpy(numpy_kinds.regression), True),
    Kind(
        "clear-regression-adam",
        "linear regression, Adam",
        _numpy(functools.partial(numpy_kinds.regression, adam=True)),
        True,
    ),
    Kind(
        "clear-noisy",
        "linear regression, half of it noise",
        _numpy(functools.partial(numpy_kinds.regression, noise=1.0)),
        True,
    ),
    Kind("clear-classes", "softmax on four clouds, SGD", _numpy(numpy_kinds.classes), True),
    Kind(
        "clear-classes-adam",
        "softmax on four clouds, Adam",
        _numpy(functools.partial(numpy_kinds.classes, adam=True)),
        True,
    ),
    Kind("clear-network", "a tanh network on a surface", _numpy(numpy_kinds.surface), True),
)

METHODS: dict[str, Callable[[], Any]] = {
    "range": lrsearch.RangeTest,
    "race-0.3": lambda: lrsearch.Race(budget=0.3),
    "race-1": lambda: lrsearch.Race(budget=1.0),
    "race-3": lambda: lrsearch.Race(budget=3.0),
    "ladder": lrsearch.Ladder,
    "sweep": lambda: lrsearch.Sweep(np.logspace(-4, 0, 9).tolist()),
}

HELD_OUT = {"both": (False, True), "with": (True,), "without": (False,)}


@dataclass(frozen=True)
class Cell:
    """All answers of one method on one kind, over seeds.

    Attributes:
        kind, method, held_out: what was searched, how, and whether with held-out data.
        seeds: how many.
        found: how many answers named a learning rate.
        low, high: 95 % interval of the share found (Wilson).
        statuses: how often each status came.
        lr: median of the answers, or ``None``.
        width: median width of the interval of an answer, in decades, or ``None``.
        steps: mean steps spent.
    """

    kind: str
    method: str
    held_out: bool
    seeds: int
    found: int
    low: float
    high: float
    statuses: dict[str, int]
    lr: float | None
    width: float | None
    steps: float


def wilson(hits: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (E. Wilson, 1927).

    Example:
        >>> low, high = wilson(0, 30)
        >>> low, round(high, 3)
        (0.0, 0.114)
    """
    share, scale = hits / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def width(result: lrsearch.Result) -> float | None:
    """Decades from `low` to `high` of an answer; ``None`` without one."""
    if not result.status.found or not result.low > 0:
        return None
    return math.log10(result.high / result.low)


def measure(kind: Kind, method: str, held_out: bool, seeds: Iterable[int]) -> Cell:
    """Search `kind` by `method` once per seed."""
    results = [kind.search(METHODS[method](), seed, held_out) for seed in seeds]
    found = [result for result in results if result.status.found]
    widths = [w for w in map(width, found) if w is not None and math.isfinite(w)]
    low, high = wilson(len(found), len(results))
    return Cell(
        kind=kind.name,
        method=method,
        held_out=held_out,
        seeds=len(results),
        found=len(found),
        low=round(low, 4),
        high=round(high, 4),
        statuses=dict(sorted(Counter(result.status.name for result in results).items())),
        lr=_median([result.lr for result in found]),
        width=_median(widths),
        steps=round(float(np.mean([result.cost.steps for result in results])), 1),
    )


def _median(values: Sequence[float]) -> float | None:
    return float(f"{np.median(values):.4g}") if len(values) else None


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.noise", description=__doc__)
    names = [kind.name for kind in KINDS]
    parser.add_argument("--seeds", type=int, help="of every kind; by default 200 or 30")
    parser.add_argument("--kinds", nargs="+", choices=names, default=names)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--held-out", choices=list(HELD_OUT), default="both")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    cells = []
    for kind in KINDS:
        for method in options.methods if kind.name in options.kinds else ():
            for held_out in {"both": (False, True), "with": (True,)}.get(
                options.held_out, (False,)
            ):
                cell = measure(kind, method, held_out, range(options.seeds or kind.seeds))
                cells.append(cell)
                print(line(cell), f"{time.perf_counter() - began:6.0f} s", flush=True)
    print("\n".join(totals(cells)))
    if (options.kinds, options.methods, options.seeds) == (names, list(METHODS), None):
        content: dict[str, Any] = {"environment": environment("numpy", "torch", "lrsearch")}
        write_json("noise", content | {"cells": [asdict(cell) for cell in cells]})


def line(cell: Cell) -> str:
    """One cell as a line of text."""
    held_out = "held-out" if cell.held_out else "training"
    said = " ".join(f"{name}:{count}" for name, count in cell.statuses.items())
    answer = "" if cell.lr is None else f"lr {cell.lr:.2g} width {cell.width or math.nan:.2f}"
    return (
        f"{cell.kind:22} {cell.method:9} {held_out} found {cell.found:3d}/{cell.seeds:<3d} "
        f"({cell.low:.0%} to {cell.high:.0%}) steps {cell.steps:6.0f}  {said}  {answer}"
    )


def totals(cells: Sequence[Cell]) -> list[str]:
    """Per method: false answers, clear problems without an answer, and both widths."""
    lines = []
    for method, held_out in dict.fromkeys((cell.method, cell.held_out) for cell in cells):
        some = [c for c in cells if (c.method, c.held_out) == (method, held_out)]
        summary = summarise(some)
        lines.append(
            f"{method:9} {'held-out' if held_out else 'training'}  "
            + "  ".join(f"{name} {value}" for name, value in summary.items())
        )
    return lines


def summarise(cells: Sequence[Cell]) -> dict[str, str]:
    """Shares of false answers and of missing ones, and median widths on either sort."""
    clear_names = {kind.name for kind in KINDS if kind.clear}
    noise = [cell for cell in cells if cell.kind not in clear_names]
    clear = [cell for cell in cells if cell.kind in clear_names]
    summary = {}
    if noise:
        summary["false answers"] = _share(sum(c.found for c in noise), sum(c.seeds for c in noise))
        summary["width on noise"] = _width(noise)
    if clear:
        missing = sum(c.seeds - c.found for c in clear)
        summary["no answer when clear"] = _share(missing, sum(c.seeds for c in clear))
        summary["width when clear"] = _width(clear)
    return summary


def _share(hits: int, total: int) -> str:
    low, high = wilson(hits, total)
    return f"{hits / total:.1%} ({low:.0%} to {high:.0%} of {total})"


def _width(cells: Sequence[Cell]) -> str:
    value = _median([cell.width for cell in cells if cell.width is not None])
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
