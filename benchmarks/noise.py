"""How often a method names a learning rate where there is nothing to learn.

``python -m benchmarks.noise`` searches trainings from which nothing can be learned, and some
from which plainly something can, with every method, with and without held-out data::

    python -m benchmarks.noise --seeds 20 --kinds pure-noise clear-regression --methods race-1

With ``--store`` what was measured replaces what results/noise.json holds of it;
``benchmarks.regret.publish`` makes the tables of docs/benchmark.md from that file.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import math
import multiprocessing
import pathlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

import lrsearch
from benchmarks import noise_kinds as numpy_kinds
from benchmarks import noise_kinds_torch as torch_kinds
from benchmarks.environment import environment
from benchmarks.results_file import FOLDER, read_json, write_json

Job = tuple[str, str, bool, int]  # kind, method, held-out data, seeds
Search = Callable[[Any, int, bool], lrsearch.Result]


@dataclass(frozen=True)
class Kind:
    """One kind of training.

    Attributes:
        name: by which the command line and the JSON know it.
        title: what it is, in words.
        search: ``search(method, seed, held_out) -> Result``.
        best: returns the best rate where there plainly is something to learn; ``None`` where an
            answer is false.
        seeds: how many a full run takes.
    """

    name: str
    title: str
    search: Search
    best: Callable[[], float] | None = None
    seeds: int = 30


_noise = numpy_kinds.pure_noise


def _numpy(name: str, title: str, make: Any, seeds: int = 30) -> Kind:
    return Kind(name, title, numpy_kinds.in_numpy(make), seeds=seeds)


def _torch(name: str, title: str, make: Any) -> Kind:
    return Kind(name, title, torch_kinds.in_torch(make))


def _clear(name: str, title: str, make: Any) -> Kind:
    best = functools.cache(lambda: numpy_kinds.best_rate(make))
    return Kind(name, title, numpy_kinds.in_numpy(make), best)


KINDS = (
    _numpy("pure-noise", "targets are noise, SGD", _noise, 200),
    _numpy("noise-adam", "targets are noise, Adam", partial(_noise, adam=True), 200),
    _numpy("random-labels", "labels drawn anew per batch", numpy_kinds.random_labels, 200),
    _numpy("heavy-noise", "noise with heavy tails", partial(_noise, tails=2.5)),
    _numpy("few-held-out", "noise, 8 held out", partial(_noise, rows=10008, held_out=8)),
    _numpy("no-gradient", "no gradient", numpy_kinds.dead),
    Kind("walk", "the loss is a random walk, always the same", numpy_kinds.walk(False)),
    Kind("fresh-walk", "the loss is a random walk, never the same", numpy_kinds.walk(True)),
    _torch("dead-relu", "dead ReLU units", torch_kinds.dead_relu),
    _torch("detached", "detached features", torch_kinds.detached),
    _torch("ignored-rate", "a wrapper ignores the rate", torch_kinds.ignored_rate),
    _torch("frozen-batchnorm", "frozen weights, BatchNorm", torch_kinds.frozen_batchnorm),
    _torch("noise-batchnorm", "noise beside BatchNorm", torch_kinds.noise_batchnorm),
    _clear("clear-regression", "linear regression, SGD", numpy_kinds.regression),
    _clear(
        "clear-regression-adam",
        "linear regression, Adam",
        partial(numpy_kinds.regression, adam=True),
    ),
    _clear(
        "clear-noisy",
        "linear regression, half of it noise",
        partial(numpy_kinds.regression, noise=1.0),
    ),
    _clear("clear-classes", "softmax on four clouds, SGD", numpy_kinds.classes),
    _clear(
        "clear-classes-adam",
        "softmax on four clouds, Adam",
        partial(numpy_kinds.classes, adam=True),
    ),
    _clear("clear-network", "a tanh network on a surface", numpy_kinds.surface),
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
        holds: how many intervals hold the best rate, where there is one.
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
    holds: int | None
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
    best = None if kind.best is None else kind.best()
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
        holds=None if best is None else sum(r.low <= best <= r.high for r in found),
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
    parser.add_argument("--processes", type=int, default=1, help="one thread each")
    parser.add_argument("--store", action="store_true", help="merge into results/noise.json")
    options = parser.parse_args(arguments)
    jobs = [
        (kind.name, method, held_out, options.seeds or kind.seeds)
        for kind in KINDS
        if kind.name in options.kinds
        for method in options.methods
        for held_out in HELD_OUT[options.held_out]
    ]
    began, cells = time.perf_counter(), []
    for cell in _all(jobs, options.processes):
        cells.append(cell)
        print(line(cell), f"{time.perf_counter() - began:6.0f} s", flush=True)
    print("\n".join(totals(cells)))
    if options.store:
        store(cells)


def _all(jobs: Sequence[Job], processes: int) -> Iterator[Cell]:
    if processes == 1:
        yield from map(_measured, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        yield from pool.map(_measured, jobs)


def _measured(job: Job) -> Cell:
    name, method, held_out, seeds = job
    (kind,) = (kind for kind in KINDS if kind.name == name)
    return measure(kind, method, held_out, range(seeds))


def store(cells: Sequence[Cell], folder: pathlib.Path = FOLDER) -> None:
    """Put cells in the place of stored ones of the same kind, method and data."""
    exists = (folder / "noise.json").exists()
    old = [Cell(**cell) for cell in read_json("noise", folder)["cells"]] if exists else []
    merged = {(cell.kind, cell.method, cell.held_out): cell for cell in (*old, *cells)}
    content: dict[str, Any] = {"environment": environment("numpy", "torch", "lrsearch")}
    write_json("noise", content | {"cells": [asdict(cell) for cell in merged.values()]}, folder)


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
    clear_names = {kind.name for kind in KINDS if kind.best is not None}
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
        held = sum(cell.holds or 0 for cell in clear)
        summary["holds the best"] = _share(held, sum(cell.found for cell in clear))
    return summary


def _share(hits: int, total: int) -> str:
    if not total:
        return "-"
    low, high = wilson(hits, total)
    return f"{hits / total:.1%} ({low:.0%} to {high:.0%} of {total})"


def _width(cells: Sequence[Cell]) -> str:
    value = _median([cell.width for cell in cells if cell.width is not None])
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
