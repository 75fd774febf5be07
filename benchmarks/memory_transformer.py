"""Peak memory of a range test on a transformer of a hundred million parameters.

``python -m benchmarks.memory_transformer`` trains it for some steps in one process and runs a
range test of as many in another, and writes ``benchmarks/results/memory_transformer.json``: the
peak resident size of each beyond what the process had before the model was built, and the
range test's peak over that of training plus one copy of the state (weights, buffers, AdamW's
moments). Both processes take 2 to 4 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.environment import environment
from benchmarks.memory import Tool, state_bytes
from benchmarks.overhead_tools import bare_loop, ours
from benchmarks.results_file import write_json
from benchmarks.setting import Setting
from lrsearch.demos.char_lm import CharTransformer, next_character_loss

STEPS = 10
BATCH, LENGTH = 2, 64
CHARACTERS, WIDTH, LAYERS, HEADS = 10_000, 768, 12, 12

TOOLS: dict[str, Tool] = {"training": bare_loop, "range test": ours}


def transformer() -> Setting:
    """The transformer, whose AdamW has made a step and so has its moments."""
    torch.manual_seed(0)
    model = CharTransformer(CHARACTERS, WIDTH, LAYERS, HEADS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    tokens = torch.randint(CHARACTERS, (BATCH * STEPS, LENGTH))
    loader = DataLoader(TensorDataset(tokens, tokens), batch_size=BATCH)
    setting = Setting(model, optimizer, next_character_loss, loader)
    bare_loop(setting, 1)
    optimizer.zero_grad()
    return setting


def measure_here(name: str) -> dict[str, int]:
    """Bytes of the peak and of the state, and the number of parameters, in this process."""
    torch.set_num_threads(1)
    before = peak()
    setting = transformer()
    parameters = sum(parameter.numel() for parameter in setting.model.parameters())
    state = state_bytes(setting)
    TOOLS[name](setting, STEPS)
    return {"peak": peak() - before, "state": state, "parameters": parameters}


def peak() -> int:
    """The largest resident size that this process ever had, in bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def measure() -> dict[str, Any]:
    """Run every tool in a process of its own, one after the other."""
    found = {name: _measured_elsewhere(name) for name in TOOLS}
    training, search = found["training"], found["range test"]
    state = training["state"]
    return {
        "steps": STEPS,
        "parameters": training["parameters"],
        "state_mb": round(state / 1e6, 1),
        "peak_mb": {name: round(sizes["peak"] / 1e6, 1) for name, sizes in found.items()},
        "ratio_to_training_plus_one_copy": round(search["peak"] / (training["peak"] + state), 4),
        "environment": environment("torch", "lrsearch"),
    }


def _measured_elsewhere(name: str) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.memory_transformer", "--here", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    sizes: dict[str, int] = json.loads(done.stdout)
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.memory_transformer", description=__doc__)
    parser.add_argument("--here", choices=list(TOOLS), help="measure one tool in this process")
    parser.add_argument("--dry", action="store_true", help="print, but write nothing")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure_here(options.here)))
        return
    found = measure()
    ratio = found["ratio_to_training_plus_one_copy"]
    print(f"{found['peak_mb']} MB: {ratio:.3f} x (training + one copy)")
    if not options.dry:
        print(write_json("memory_transformer", found))


if __name__ == "__main__":
    main()
