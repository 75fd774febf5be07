"""How long ``import lrsearch`` takes in a fresh interpreter, beyond starting the interpreter.

``python -m benchmarks.import_time`` measures and writes ``benchmarks/results/import_time.json``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from benchmarks.environment import environment
from benchmarks.results_file import write_json

ROUNDS = 20
TARGET_MS = 150.0


def measure(rounds: int = ROUNDS) -> dict[str, object]:
    """Median times in milliseconds, bare interpreter and import interleaved."""
    codes = ("pass", "import lrsearch", "from lrsearch import *")
    times: dict[str, list[float]] = {code: [] for code in codes}
    for _ in range(rounds + 1):
        for code in codes:
            times[code].append(_milliseconds(code))
    # The first round fills the file system's cache and is dropped.
    started, imported, everything = (statistics.median(times[code][1:]) for code in codes)
    return {
        "what": "import lrsearch in a fresh interpreter, median of rounds",
        "rounds": rounds,
        "interpreter_ms": round(started, 1),
        "import_ms": round(imported - started, 1),
        "every_public_name_ms": round(everything - started, 1),
        "target_ms": TARGET_MS,
        "environment": environment("lrsearch", "numpy"),
    }


def _milliseconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return 1e3 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.import_time", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    found = measure(parser.parse_args().rounds)
    print(
        f"import lrsearch: {found['import_ms']} ms; with every public name "
        f"{found['every_public_name_ms']} ms (target {TARGET_MS:g} ms)"
    )
    print(write_json("import_time", found))


if __name__ == "__main__":
    main()
