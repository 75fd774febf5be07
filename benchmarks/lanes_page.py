"""Fill the tables of ``docs/research/lanes.md`` from ``benchmarks/results/lanes.json``.

``python -m benchmarks.lanes_page``
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.results_file import FOLDER

PAGE = ROOT / "docs" / "research" / "lanes.md"


def main() -> None:
    found = json.loads((FOLDER / "lanes.json").read_text(encoding="utf-8"))
    write_between_markers(PAGE, "setting", setting(found))
    write_between_markers(PAGE, "steps", steps(found["steps"]))
    write_between_markers(PAGE, "ways", parts(found["ways"], "way to the gradients"))
    write_between_markers(PAGE, "updates", parts(found["updates"], "memory layout"))
    write_between_markers(PAGE, "rounds", rounds(found["rounds"]))


def setting(found: dict[str, Any]) -> str:
    about = found["environment"]
    return (
        f"Measured on {about['date']} with torch {about['versions']['torch']} on "
        f"{found['threads']} core of an {about['processor']}; medians of "
        f"{found['repetitions']} repetitions, {found['round_repetitions']} for whole searches."
    )


def steps(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        speedup = row["speedup_over_bare_loop"]
        lines.append(
            [
                row["net"],
                row["optimizer"],
                row["lanes"],
                _number(row["microseconds"]["lanes"]["median"]),
                f"{_number(speedup['wall']['median'])} x",
                f"{_number(speedup['processor']['median'])} x",
                f"{row['target_speedup']:g} x",
                f"{_number(row['speedup_over_trainables']['wall']['median'])} x",
                f"{_number(row['step_over_products']['wall']['median'])} x",
            ]
        )
    header = [
        *("net", "optimizer", "lanes", "us per step", "over bare loops"),
        *("in processor time", "target", "over our trainables in turn", "of the bare products"),
    ]
    return table(header, lines)


def parts(rows: list[dict[str, Any]], title: str) -> str:
    """One row per way, one column per net and number of lanes."""
    header = [f"us, {title}", *(f"{row['net']}, {row['lanes']} lanes" for row in rows)]
    names = rows[0]["microseconds"]
    lines = [
        [name, *(_number(row["microseconds"][name]["median"]) for row in rows)] for name in names
    ]
    return table(header, lines)


def rounds(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        wall = row["speedup"]["wall"]
        lines.append(
            [
                row["task"],
                f"{row['lanes']} x {row['steps']}",
                _number(row["seconds"]["in turn"]["median"]),
                f"{_number(wall['median'])} x",
                f"{_number(row['speedup']['processor']['median'])} x",
                row["decision"].split(": RuntimeError")[0],
            ]
        )
    header = [
        *("task", "lanes x updates", "seconds in turn", "speed-up"),
        *("in processor time", "what the search decided"),
    ]
    return table(header, lines)


def _number(value: float) -> str:
    """Three significant digits without an exponent."""
    digits = f"{value:.3g}"
    return f"{float(digits):g}" if "e" in digits else digits


if __name__ == "__main__":
    main()
