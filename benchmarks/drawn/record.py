"""Train the drawn runs: a sweep of each, and shorter versions of it for a race to see.

``python -m benchmarks.drawn.record 100`` brings ``recorded.jsonl``, one line per run, up to 100.
Each takes 20 to 60 seconds of one core. Runs that are ill posed (no learning rate trains, or the
sweep finds no end) are recorded as such.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import math
import multiprocessing
import pathlib
from typing import Any

import torch

from benchmarks.drawn.build import build, task
from benchmarks.drawn.spec import Spec, draw
from benchmarks.regret import horizons
from benchmarks.regret.fingerprint import fingerprint
from benchmarks.regret.oracle import SEEDS
from benchmarks.regret.sweep import sweep_task
from lrsearch.methods.race_design import shortened_epoch

PATH = pathlib.Path(__file__).parent / "recorded.jsonl"
SEED = SEEDS[0]  # of the shorter runs


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.drawn.record", description=__doc__)
    parser.add_argument("count", type=int, help="how many runs to have in all")
    wanted = range(parser.parse_args().count)
    lines = stored()
    due = [n for n in wanted if n not in lines or lines[n]["hash"] != spec_hash(draw(n))]
    print(f"{len(due)} of {len(wanted)} to train", flush=True)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        for done in concurrent.futures.as_completed([pool.submit(_recorded, n) for n in due]):
            line = done.result()
            lines[line["number"]] = line
            text = "".join(
                json.dumps(lines[n], separators=(",", ":")) + "\n" for n in sorted(lines)
            )
            part = PATH.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(PATH)
            print(line["task"], line.get("ill posed", ""), flush=True)


def stored() -> dict[int, dict[str, Any]]:
    """What has been recorded, by number, whether it is up to date or not."""
    if not PATH.exists():
        return {}
    lines = [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]
    return {line["number"]: line for line in lines}


def spec_hash(spec: Spec) -> str:
    """Hash of everything that decides the runs of `spec`, as 12 hex digits."""
    return hashlib.sha256(f"{fingerprint(build)}{spec!r}".encode()).hexdigest()[:12]


def _recorded(number: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    spec = draw(number)
    head = {"number": number, "task": spec.name, "hash": spec_hash(spec)}
    try:
        return {**head, **_trained(number)}
    except RuntimeError as error:
        return {**head, "ill posed": str(error).split(":")[0]}


def _trained(number: int) -> dict[str, Any]:
    whole = task(number)
    oracle = dataclasses.asdict(sweep_task(whole, spec_hash(draw(number))))
    units = [round(5 * math.log10(lr)) for lr in oracle["lrs"]]
    units = list(range(min(units) - horizons.BELOW, max(units) + horizons.ABOVE + 1))
    batches = len(whole.build(SEED).train_loader)
    kept = ("steps", "initial", "last_stable_lr", "lrs", "losses")
    scouts = [horizons.scout(whole, SEED, budget) for budget in horizons.SCOUTS]
    return {
        "oracle": {key: oracle[key] for key in kept},
        "updates_per_epoch": batches,
        "units": units,
        "scouts": dict(scouts),
        "thinned": [horizons.row(each, SEED, units) for each in _shortened(number, batches)],
    }


def _shortened(number: int, batches: int) -> list[Any]:
    """The run with its schedule compressed, and its data cut down as a race does it."""
    whole, found = task(number), []
    for fraction in horizons.FRACTIONS:
        short = horizons.shortened(whole, fraction)
        count = shortened_epoch(batches, short.train_steps, whole.train_steps)
        if count is not None:
            fewer = functools.partial(horizons.with_batches, short.build, count)
            short = dataclasses.replace(short, build=fewer)
        found.append(short)
    return found


if __name__ == "__main__":
    main()
