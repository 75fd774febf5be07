"""Write what snapshots cost into ``docs/training-loops.md``, from the JSON of the benchmarks.

``python -m benchmarks.overhead_page``, after ``benchmarks.overhead_snapshot`` and
``benchmarks.memory_transformer``.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.results_file import FOLDER

PAGE = ROOT / "docs" / "training-loops.md"


def text(snapshot: dict[str, Any], memory: dict[str, Any]) -> str:
    """The table of times, and a sentence on memory."""
    settings = [
        (name, found)
        for name, found in snapshot.items()
        if isinstance(found, dict) and "tensors" in found
    ]
    rows = [
        [
            f"{name}: {found['tensors']} tensors, {found['megabytes']:.0f} MB",
            f'`"{place}"`',
            *(f"{found[place][part]['ratio']:.2f} x" for part in ("snapshot", "restore")),
        ]
        for name, found in settings
        for place in ("device", "cpu", "disk")
    ]
    peak = memory["peak_mb"]
    where = snapshot["environment"]
    return (
        f"Time over that of cloning the same tensors and copying them back, medians of "
        f"{snapshot['rounds']} pairs on one thread of an {where['processor']}, torch "
        f"{where['versions']['torch']} (`python -m benchmarks.overhead_snapshot`):\n\n"
        f"{table(['state', 'kept', 'snapshot', 'restore'], rows)}\n\n"
        f"A range test on a transformer of {memory['parameters'] / 1e6:.0f} million parameters "
        f"peaks at {peak['range test']:.0f} MB; training it, at {peak['training']:.0f} MB; its "
        f"state with AdamW's moments is {memory['state_mb']:.0f} MB: "
        f"{memory['ratio_to_training_plus_one_copy']:.3f} x (training + one copy) "
        f"(`python -m benchmarks.memory_transformer`)."
    )


def main() -> None:
    found = [
        json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
        for name in ("overhead_snapshot", "memory_transformer")
    ]
    write_between_markers(PAGE, "snapshot", text(*found))


if __name__ == "__main__":
    main()
