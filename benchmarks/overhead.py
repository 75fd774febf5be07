"""What a range test costs over the bare training loop, ours beside two peers.

``python -m benchmarks.overhead`` runs 100 steps of each tool between fixed bounds that nothing
diverges at, on the same model, data pipeline and optimizer, each paired with a run of the bare
loop, and writes ``benchmarks/results/overhead.json``: medians over rounds of the ratio within a
pair. Processor time is given beside wall time because it hardly depends on what else
the machine does. Everything that a call does is in its time: copying the state, putting it back,
computing the suggestion. What copying costs by itself is added by
:mod:`benchmarks.overhead_snapshot`.
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
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import overhead_snapshot
from benchmarks.environment import environment
from benchmarks.memory import Tool, measure_memory
from benchmarks.overhead_tools import TOOLS
from benchmarks.results_file import write_json
from benchmarks.setting import Setting, quiet
from lrsearch.demos.char_lm import char_lm

STEPS = 100
ROUNDS = 20

Times = tuple[float, float]  # wall and processor seconds per step


def transformer() -> Setting:
    """The character transformer of ``lrsearch demo char-lm``, batches of 16 x 64 characters."""
    demo = char_lm()
    return Setting(demo["model"], demo["optimizer"], demo["loss_fn"], demo["train_loader"])


def small_mlp() -> Setting:
    """64-64-10 with AdamW on random data, batches of 32."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    data = TensorDataset(torch.randn(6400, 64), torch.randint(10, (6400,)))
    loader = DataLoader(data, batch_size=32, shuffle=True)
    return Setting(model, torch.optim.AdamW(model.parameters()), nn.CrossEntropyLoss(), loader)


SETTINGS = {"transformer": transformer, "mlp": small_mlp}


def compare(make: Callable[[], Setting], rounds: int, tools: dict[str, Tool]) -> dict[str, Any]:
    """Milliseconds per step of every tool, and the medians of their ratios to the bare loop.

    A tool and the bare loop run right after one another, in random order, and the tools of a
    round in random order too: what a tool leaves in the caches meets every other as often.
    """
    draw = random.Random(0)
    bare, others = tools["bare loop"], {k: v for k, v in tools.items() if k != "bare loop"}
    pairs: dict[str, list[tuple[Times, Times]]] = {name: [] for name in others}
    for _ in range(rounds + 1):
        for name in draw.sample(list(others), len(others)):
            if draw.random() < 0.5:
                base = _per_step(bare, make())
                pairs[name].append((base, _per_step(others[name], make())))
            else:
                mine = _per_step(others[name], make())
                pairs[name].append((_per_step(bare, make()), mine))
    found: dict[str, Any] = {}
    for index, clock in enumerate(("wall", "processor")):
        # The first round imports and warms up, and is dropped.
        times = {n: [mine[index] for _, mine in both[1:]] for n, both in pairs.items()}
        bases = {n: [base[index] for base, _ in both[1:]] for n, both in pairs.items()}
        times["bare loop"] = [value for values in bases.values() for value in values]
        found[f"{clock}_ms_per_step"] = {
            name: _quartiles([1e3 * value for value in times[name]]) for name in tools
        }
        found[f"{clock}_ratio_to_bare_loop"] = {
            name: _quartiles(
                [mine / base for mine, base in zip(times[name], bases[name], strict=True)]
            )
            for name in others
        }
    return found


def _per_step(tool: Tool, setting: Setting) -> Times:
    """Wall time and processor time of this process per step, in seconds."""
    gc.collect()
    with quiet():
        wall, processor = time.perf_counter(), time.process_time()
        steps = tool(setting, STEPS)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    if steps != STEPS:
        raise RuntimeError(f"the tool made {steps} steps, expected {STEPS}")
    return wall / steps, processor / steps


def _quartiles(values: list[float]) -> dict[str, float]:
    quarter = statistics.quantiles(values, n=4)
    return {
        "median": round(statistics.median(values), 4),
        "quartile_1": round(quarter[0], 4),
        "quartile_3": round(quarter[2], 4),
    }


def _said(name: str, found: dict[str, Any]) -> list[str]:
    """The ratios of one setting as lines of text."""
    processor = found["processor_ratio_to_bare_loop"]
    return [
        f"{name:12} {tool:16} {wall['median']:.3f} x the bare loop in wall time, "
        f"{processor[tool]['median']:.3f} x in processor time"
        for tool, wall in found["wall_ratio_to_bare_loop"].items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--dry", action="store_true", help="print, but write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tools = {name: TOOLS[name] for name in dict.fromkeys(["bare loop", *options.tools])}
    found: dict[str, Any] = {"steps": STEPS, "rounds": options.rounds, "threads": 1}
    for name, make in SETTINGS.items():
        found[name] = compare(make, options.rounds, tools)
        found[name]["parameters"] = sum(p.numel() for p in make().model.parameters())
        print("\n".join(_said(name, found[name])))
    with quiet():
        found["memory"] = measure_memory(tools)
    for tool, extra in found["memory"]["extra_copies_of_the_state"].items():
        print(f"{'memory':12} {tool:16} {extra:.3f} copies of weights, buffers, optimizer state")
    found["snapshot"] = overhead_snapshot.measure(overhead_snapshot.ROUNDS)
    print("\n".join(overhead_snapshot.said(found["snapshot"])))
    found["environment"] = environment("torch", "lrsearch", "torch-lr-finder", "pytorch-lightning")
    if not options.dry:
        print(write_json("overhead", found))


if __name__ == "__main__":
    main()
