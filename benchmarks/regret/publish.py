"""Write tables and picture from stored results: ``python -m benchmarks.regret.publish``."""

from __future__ import annotations

import argparse
import json
import pathlib

from benchmarks import noise_page
from benchmarks.markdown import write_between_markers
from benchmarks.regret import kinds_table, table
from benchmarks.regret.contestants import CONTESTANTS
from benchmarks.regret.make_oracle import stored
from benchmarks.regret.picture import draw
from benchmarks.regret.results import FOLDER, read_results
from benchmarks.regret.summary import summaries
from benchmarks.regret.tasks import KINDS, TASKS, suite

ROOT = pathlib.Path(__file__).parents[2]
PAGES = (ROOT / "docs" / "benchmark.md", ROOT / "README.md")
PICTURE = ROOT / "docs" / "benchmark.png"
OVERHEAD = ROOT / "benchmarks" / "results" / "overhead.json"
NOISE = ROOT / "benchmarks" / "results" / "noise.json"


def main(arguments: list[str] | None = None) -> None:
    """Fill every marker that a page has."""
    parser = argparse.ArgumentParser("benchmarks.regret.publish", description=__doc__)
    parser.add_argument("--results", type=pathlib.Path, default=FOLDER / "full.json")
    parser.add_argument("--pages", nargs="+", type=pathlib.Path, default=list(PAGES))
    parser.add_argument("--picture", type=pathlib.Path, default=PICTURE)
    options = parser.parse_args(arguments)
    results = read_results(options.results)
    families = {task.name: task.family for task in TASKS}
    rows = summaries(results, families, [contestant.name for contestant in CONTESTANTS])
    texts = {
        "benchmark": table.main_table(rows, results),
        "benchmark-short": table.short_table(rows, results),
        "benchmark-families": table.family_table(rows, results),
        "benchmark-steps": table.spread_table(results),
        "benchmark-messages": table.message_table(results),
        "benchmark-about": table.about(rows, results),
    }
    if OVERHEAD.exists():
        texts["overhead"] = table.overhead_table(json.loads(OVERHEAD.read_text(encoding="utf-8")))
    texts |= kinds_texts()
    if NOISE.exists():
        content = json.loads(NOISE.read_text(encoding="utf-8"))
        texts["noise"] = noise_page.kind_table(content)
        texts["noise-methods"] = noise_page.method_table(content)
        texts["noise-about"] = noise_page.about(content)
    for page in options.pages:
        for marker, text in texts.items():
            if f"<!-- {marker}:begin -->" in page.read_text(encoding="utf-8"):
                write_between_markers(page, marker, text)
                print(f"{page.name}: {marker}")
    print(draw(rows, results, [task.name for task in TASKS], options.picture).name)


def kinds_texts() -> dict[str, str]:
    """Texts on the further kinds, by marker, as far as there are results."""
    texts = {}
    for name in ("kinds", "held-back"):
        kinds = [kind for kind in KINDS if suite(kind) == name and stored(kind) is not None]
        texts[f"{name}-tasks"] = kinds_table.task_table(kinds)
        results = read_results(FOLDER / f"{name}.json")
        if results.records:
            texts[name] = kinds_table.regret_table(results, kinds)
    return texts


if __name__ == "__main__":
    main()
