"""Fill the tables of ``docs/research/batched.md`` from ``benchmarks/results/batched.json``.

``python -m benchmarks.batched_page``
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.results_file import FOLDER

PAGE = ROOT / "docs" / "research" / "batched.md"


def main() -> None:
    found = json.loads((FOLDER / "batched.json").read_text(encoding="utf-8"))
    write_between_markers(PAGE, "setting", setting(found))
    write_between_markers(PAGE, "steps", steps(found["steps"]))
    write_between_markers(PAGE, "ways", parts(found["ways"], "way to the gradients"))
    write_between_markers(PAGE, "updates", parts(found["updates"], "memory layout"))
    write_between_markers(PAGE, "rounds", rounds(found["rounds"]))
    write_between_markers(PAGE, "tape", against_tape(found["against_tape"]))


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
                row["trials"],
                _number(row["microseconds"]["batched"]["median"]),
                f"{_number(speedup['wall']['median'])} x",
                f"{_number(speedup['processor']['median'])} x",
                f"{row['target_speedup']:g} x",
                f"{_number(row['speedup_over_trainables']['wall']['median'])} x",
                f"{_number(row['step_over_products']['wall']['median'])} x",
            ]
        )
    header = [
        *("net", "optimizer", "trials", "us per step", "over bare loops"),
        *("in processor time", "target", "over our trainables", "of the bare products"),
    ]
    return table(header, lines)


def parts(rows: list[dict[str, Any]], title: str) -> str:
    """One row per way, one column per net and number of trials."""
    header = [f"us, {title}", *(f"{row['net']}, {row['trials']} trials" for row in rows)]
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
                f"{row['trials']} x {row['steps']}",
                _number(row["seconds"]["sequential"]["median"]),
                f"{_number(wall['median'])} x",
                f"{_number(row['speedup']['processor']['median'])} x",
                row["decision"].split(": RuntimeError")[0],
            ]
        )
    header = [
        *("task", "trials x steps", "seconds one by one", "speed-up"),
        *("in processor time", "what the search decided"),
    ]
    return table(header, lines)


def against_tape(rows: list[dict[str, Any]]) -> str:
    header = ["net", "optimizer", "trials", "time of the tape's", "speed-up that is kept"]
    lines = [
        [
            row["net"],
            row["optimizer"],
            row["trials"],
            f"{_number(row['over_tape']['median'])} x",
            f"{round(100 / row['over_tape']['median'])} %",
        ]
        for row in rows
    ]
    return table(header, lines)


def _number(value: float) -> str:
    """Three significant digits without an exponent."""
    digits = f"{value:.3g}"
    return f"{float(digits):g}" if "e" in digits else digits


if __name__ == "__main__":
    main()
