"""What taking and restoring a snapshot costs over copying the same tensors plainly.

``python -m benchmarks.overhead_snapshot`` copies the state of two models whose AdamW has its
moments, in turn with the plain way (``clone`` of every tensor; ``copy_`` back), each pair in
random order, and writes ``benchmarks/results/overhead_snapshot.json``: medians over rounds of
the ratio within a pair. Beside weights, buffers and optimizer state a snapshot holds modes,
flags and random states; all of that is in its time.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.environment import environment
from benchmarks.memory import large
from benchmarks.results_file import write_json
from benchmarks.setting import Setting
from lrsearch.demos.char_lm import CharTransformer, next_character_loss
from lrsearch.pytorch.snapshot import restore, take
from lrsearch.pytorch.store import PLACES

ROUNDS = 30


def transformer() -> Setting:
    """Ten million parameters in 101 tensors, whose AdamW has made a step."""
    torch.manual_seed(0)
    model = CharTransformer(characters=256, width=320, layers=8, heads=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    tokens = torch.randint(256, (1, 8))
    next_character_loss(model(tokens), tokens).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    return Setting(model, optimizer, next_character_loss, [])  # type: ignore[arg-type]


SETTINGS: dict[str, Callable[[], Setting]] = {"transformer": transformer, "large matrices": large}


def compare(setting: Setting, rounds: int, draw: random.Random) -> dict[str, Any]:
    """Milliseconds of every way, and the medians of their ratios to the plain copy."""
    tensors = state_of(setting.model, setting.optimizer)
    found: dict[str, Any] = {
        "tensors": len(tensors),
        "megabytes": round(sum(tensor.nbytes for tensor in tensors) / 1e6, 1),
    }
    for place in PLACES:
        pairs: dict[str, list[tuple[float, float]]] = {"snapshot": [], "restore": []}
        for _ in range(rounds + 1):
            ways = [lambda: plain(tensors), lambda: ours(setting, place)]  # noqa: B023
            order = draw.sample([0, 1], 2)
            times = {way: ways[way]() for way in order}
            for index, part in enumerate(pairs):
                pairs[part].append((times[0][index], times[1][index]))
        # The first round warms up, and is dropped.
        found[place] = {part: _summary(both[1:]) for part, both in pairs.items()}
    return found


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Weights, buffers and the tensors of the optimizer."""
    moments = [value for entry in optimizer.state.values() for value in entry.values()]
    return [*model.parameters(), *model.buffers(), *moments]


@torch.no_grad()
def plain(tensors: list[Tensor]) -> tuple[float, float]:
    """Seconds of copying all tensors, and of copying them back."""
    gc.collect()
    began = time.perf_counter()
    copies = [tensor.clone() for tensor in tensors]
    middle = time.perf_counter()
    for tensor, copy in zip(tensors, copies, strict=True):
        tensor.copy_(copy)
    return middle - began, time.perf_counter() - middle


def ours(setting: Setting, place: Any) -> tuple[float, float]:
    """Seconds of taking a snapshot, and of restoring it."""
    gc.collect()
    began = time.perf_counter()
    snapshot = take(setting.model, setting.optimizer, place=place)
    middle = time.perf_counter()
    restore(snapshot)
    return middle - began, time.perf_counter() - middle


def _summary(pairs: list[tuple[float, float]]) -> dict[str, float]:
    ratios = [mine / base for base, mine in pairs]
    quarters = statistics.quantiles(ratios, n=4)
    return {
        "plain_ms": round(1e3 * statistics.median(base for base, _ in pairs), 3),
        "lrsearch_ms": round(1e3 * statistics.median(mine for _, mine in pairs), 3),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartile_1": round(quarters[0], 3),
        "ratio_quartile_3": round(quarters[2], 3),
    }


def measure(rounds: int) -> dict[str, Any]:
    """Compare on every setting; the result as it is written."""
    draw = random.Random(0)
    found: dict[str, Any] = {"rounds": rounds, "threads": torch.get_num_threads()}
    for name, make in SETTINGS.items():
        found[name] = compare(make(), rounds, draw)
    found["environment"] = environment("torch", "lrsearch")
    return found


def said(found: dict[str, Any]) -> list[str]:
    """The ratios as lines of text."""
    return [
        f"{name:15} {place:7} {part:9} {found[name][place][part]['ratio']:.3f} x a plain copy"
        for name in SETTINGS
        for place in PLACES
        for part in ("snapshot", "restore")
    ]


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.overhead_snapshot", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--dry", action="store_true", help="print, but write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.rounds)
    print("\n".join(said(found)))
    if not options.dry:
        print(write_json("overhead_snapshot", found))


if __name__ == "__main__":
    main()
