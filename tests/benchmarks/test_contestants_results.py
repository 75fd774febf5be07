"""Records, summaries, tables and the picture of the regret benchmark."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib

import numpy as np
import pytest

from benchmarks.regret import bench, picture, publish, table
from benchmarks.regret.contestants import Answer, by_name
from benchmarks.regret.contestants.contestant import Contestant
from benchmarks.regret.oracle import Oracle, load_oracle
from benchmarks.regret.results import (
    Record,
    Results,
    merge,
    read_results,
    record,
    write_results,
)
from benchmarks.regret.summary import seed_spread, step_spread, summaries, summarise
from benchmarks.regret.tasks import TASKS
from benchmarks.regret.tasks import by_name as task_named

# L0 = 5, L* = 1 at lr 1e-1, diverges beyond 1
ORACLE = Oracle(
    task="quadratic-sgd",
    hash="abc",
    steps=200,
    seeds=(0, 1),
    initial=(5.0, 5.0),
    lrs=(1e-2, 1e-1, 1e0, 1e1),
    losses=((3.0, 3.0), (1.0, 1.0), (2.0, 2.0), (None, None)),
    last_stable_lr=1e0,
    seconds=1.0,
    date="2026-01-01",
    versions={"torch": "0.0"},
)
SOMEONE = Contestant("someone", "finder", "Someone | else", "torch", lambda task, seed: Answer(0.1))


def judged(*answers: Answer, oracle: Oracle = ORACLE) -> Record:
    return record(SOMEONE, oracle, answers, [2.0] * len(answers))


def some(task: str, regrets: tuple[float, ...], lr: tuple[float | None, ...]) -> Record:
    base = judged(*(Answer(one) for one in lr))
    return dataclasses.replace(base, task=task, regret=regrets)


def test_regret_and_excess_are_read_from_the_oracle() -> None:
    stored = judged(Answer(0.1, steps=100, seconds=1.0), Answer(1.0, steps=50, seconds=4.0))
    assert stored.regret == (0.0, 0.25)
    assert stored.excess == (0.0, 1.0)
    assert stored.cost == (0.5, 0.25)
    assert stored.wall == (0.5, 2.0)
    assert stored.answered == (True, True)


def test_no_answer_and_a_diverging_lr_both_count_as_losing_everything() -> None:
    stored = judged(Answer(None, message="gave up"), Answer(7.0))
    assert stored.regret == (1.0, 1.0)
    assert stored.excess == (4.0, 4.0)
    assert stored.answered == (False, True)


def test_a_contestant_that_trains_the_run_may_beat_the_oracle() -> None:
    stored = judged(Answer(None, loss=0.8), Answer(None, loss=9.0), Answer(None, loss=None))
    assert stored.regret == (-0.05, 1.0, 1.0)
    assert stored.excess == (pytest.approx(-0.2), 4.0, 4.0)
    assert stored.answered == (True, True, False)


def test_results_survive_writing_and_reading(tmp_path: pathlib.Path) -> None:
    stored = judged(Answer(0.1, 5, 1.0), Answer(None, message="ValueError: no | answer"))
    results = Results(
        {("someone", stored.task): stored},
        {"someone": {"kind": "finder", "title": "Someone"}},
        {"python": "3"},
        {"someone": {"quadratic-sgd": {"50": 0.1, "100": None}}},
    )
    path = tmp_path / "some" / "results.json"
    write_results(results, path, [{"contestant": "someone"}])
    assert read_results(path) == results
    assert json.loads(path.read_text())["summary"] == [{"contestant": "someone"}]
    assert read_results(tmp_path / "missing.json") == Results()


def test_merging_replaces_what_was_measured_again_and_drops_changed_tasks() -> None:
    old = judged(Answer(1.0), Answer(1.0))
    new = judged(Answer(0.1), Answer(0.1))
    other = dataclasses.replace(old, contestant="other")
    stale = dataclasses.replace(old, task="wine-mlp-adam", oracle="of yesterday")
    merged = merge(
        Results({("someone", old.task): old, ("other", old.task): other, ("someone", "w"): stale}),
        Results({("someone", new.task): new}),
        hashes={"quadratic-sgd": "abc", "wine-mlp-adam": "of today"},
    )
    assert merged.records == {("someone", new.task): new, ("other", old.task): other}


def test_a_summary_pools_tasks_and_seeds() -> None:
    records = [
        some("a", (0.0, 0.1), (0.1, 1.0)),
        some("b", (0.2, 1.0), (0.1, None)),
        some("c", (0.0, 0.0), (0.1, 0.1)),
    ]
    summary = summarise(records)
    pooled = [0.0, 0.1, 0.2, 1.0, 0.0, 0.0]
    assert summary.tasks == 3
    assert summary.regret["mean"].value == pytest.approx(np.mean(pooled))
    assert summary.regret["median"].value == pytest.approx(0.05)
    assert summary.regret["p90"].value == pytest.approx(np.quantile(pooled, 0.9))
    assert summary.regret["worst"].value == 1.0
    assert summary.no_answer == pytest.approx(1 / 6)
    # one task over a decade, one at a time without a pair, one without any spread
    assert seed_spread(records) == pytest.approx((math.sqrt(0.5) + 0.0) / 2)


def test_the_interval_of_a_mean_is_that_of_resampled_tasks() -> None:
    regrets = [(0.0, 0.2), (1.0, 0.8), (0.3, 0.3), (0.1, 0.5)]
    records = [some(str(i), pair, (0.1, 0.1)) for i, pair in enumerate(regrets)]
    figure = summarise(records, resamples=4000).regret["mean"]
    means = np.mean(regrets, axis=1)
    # all 4^4 samples of four tasks, instead of drawing them
    exact = np.array([means[list(np.unravel_index(i, (4,) * 4))].mean() for i in range(256)])
    assert figure.low == pytest.approx(np.quantile(exact, 0.025), abs=0.03)
    assert figure.high == pytest.approx(np.quantile(exact, 0.975), abs=0.03)
    alike = summarise([some(str(i), (0.5, 0.5), (0.1, 0.1)) for i in range(5)]).regret["worst"]
    assert (alike.low, alike.value, alike.high) == (0.5, 0.5, 0.5)


def test_records_that_do_not_belong_together_are_refused() -> None:
    one = some("a", (0.0, 0.1), (0.1, 1.0))
    with pytest.raises(ValueError, match="one contestant"):
        summarise([one, dataclasses.replace(one, contestant="other")])
    with pytest.raises(ValueError, match="numbers of seeds"):
        summarise([one, some("b", (0.0,), (0.1,))])


def test_families_have_rows_of_their_own() -> None:
    results = Results(
        {("someone", name): some(name, (regret, regret), (0.1, 0.1)) for name, regret in REGRETS}
    )
    families = {"a": "SGD", "b": "SGD", "c": "Adam"}
    rows = summaries(results, families, ["nobody", "someone"])
    found = {row.family: (row.tasks, row.regret["mean"].value) for row in rows}
    assert found == {
        "all": (3, pytest.approx(0.3)),
        "SGD": (2, pytest.approx(0.15)),
        "Adam": (1, pytest.approx(0.6)),
    }


REGRETS = (("a", 0.1), ("b", 0.2), ("c", 0.6))


def test_the_spread_over_steps_is_the_range_in_decades() -> None:
    lrs: dict[str, dict[str, float | None]] = {
        "a": {"50": 1e-3, "100": 1e-2, "200": 1e-1},
        "b": {"50": 0.1, "100": None, "200": 0.1},
        "c": {"50": None, "100": 1.0, "200": None},
    }
    assert step_spread(lrs) == pytest.approx((2.0 + 0.0) / 2)
    assert step_spread({}) is None


def stored_results() -> Results:
    good, bad = judged(Answer(0.1, 20, 1.0), Answer(0.2)), judged(Answer(None, message="E: a|b"))
    bad = dataclasses.replace(
        bad,
        contestant="other",
        **{
            field: getattr(bad, field) * 2
            for field in ("lr", "loss", "steps", "cost", "wall", "message", "regret", "excess")
        },
    )
    absent = dataclasses.replace(bad, contestant="absent", message=("not installed: x",) * 2)
    about = {"kind": "finder", "package": "torch", "version": "1", "date": "2026-01-02"}
    return Results(
        {(one.contestant, one.task): one for one in (good, bad, absent)},
        {
            "someone": {**about, "kind": "ours", "title": "Someone"},
            "other": {**about, "title": "Other", "date": "2026-01-05"},
            "absent": {**about, "title": "Absent", "package": "x", "version": None},
        },
        {"python": "3.11", "processor": "a machine", "system": "Linux", "versions": {"numpy": "2"}},
        {"someone": {"quadratic-sgd": {"50": 0.1, "100": 1.0, "200": None}}},
    )


def summaries_of(results: Results) -> list[object]:
    return summaries(results, {"quadratic-sgd": "SGD"}, ["other", "someone", "absent"])


def test_the_table_ranks_by_mean_regret_and_names_what_is_not_installed() -> None:
    results = stored_results()
    lines = table.main_table(summaries_of(results), results).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["**Someone**", "Other", "Absent"]
    assert "not installed" in lines[-1]
    assert "100%" in lines[3]
    assert len({line.count("|") for line in lines}) == 1
    short = table.short_table(summaries_of(results), results).splitlines()
    assert len({line.count("|") for line in short}) == 1


def test_messages_versions_and_spread_are_told() -> None:
    results = stored_results()
    messages = table.message_table(results)
    assert "| Other | 2 | E: a/b |" in messages
    assert "| Absent | 2 | not installed: x |" in messages
    about = table.about(summaries_of(results), results)
    assert "2026-01-02 to 2026-01-05" in about
    assert "x not installed" in about
    assert "| Someone | 1.00 | 1.00 | 3 | 2 |" in table.spread_table(results)
    assert "| **Someone** |" in table.family_table(summaries_of(results), results)


def test_everything_is_published_from_the_stored_results(tmp_path: pathlib.Path) -> None:
    results = stored_results()
    oracle = load_oracle(task_named("quadratic-sgd"))
    names = ("range", "lightning", "optuna-halving-1")
    fresh = {
        key: dataclasses.replace(stored, contestant=name, oracle=oracle.hash)
        for (key, stored), name in zip(results.records.items(), names, strict=True)
    }
    about = dict(zip(names, results.contestants.values(), strict=True))
    renamed = Results(
        {(one.contestant, one.task): one for one in fresh.values()}, about, results.environment
    )
    write_results(renamed, tmp_path / "full.json", [])
    page = tmp_path / "page.md"
    page.write_text("before <!-- benchmark:begin -->old<!-- benchmark:end --> after")
    image = tmp_path / "docs" / "picture.png"
    arguments = ["--results", str(tmp_path / "full.json"), "--pages", str(page)]
    publish.main([*arguments, "--picture", str(image)])
    text = page.read_text()
    assert "**Someone**" in text
    assert "old" not in text
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert image.read_bytes().startswith(b"\x89PNG")


def test_tools_with_several_budgets_are_one_line_in_the_picture() -> None:
    assert picture._series("race-0.3") == "race"
    assert picture._series("optuna-hyperband-1") == "optuna-hyperband"
    assert picture._series("torch-lr-finder") == "torch-lr-finder"


def test_labels_of_neighbouring_points_are_moved_apart() -> None:
    points = [(1.0, 0.1, "a"), (1.1, 0.1, "b"), (1.0, 0.11, "c"), (100.0, 0.1, "far")]
    placed = {name: height for _, height, _, name in picture.spread_labels(points, factor=1.5)}
    assert placed == {"a": 0.1, "b": pytest.approx(0.15), "c": pytest.approx(0.225), "far": 0.1}


def test_a_bench_of_one_task_is_merged_into_the_json(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_all", lambda jobs, processes: [bench.do(job) for job in jobs])
    path = tmp_path / "results.json"
    common = ["--tasks", "quadratic-sgd", "--seeds", "0", "1", "--results", str(path)]
    bench.main([*common, "--contestant", "range"])
    bench.main([*common, "--contestant", "default", "sweep", "--per-task"])
    assert "quadratic-sgd" in capsys.readouterr().out
    stored = read_results(path)
    assert {name for name, _ in stored.records} == {"range", "default", "sweep"}
    assert stored.records["sweep", "quadratic-sgd"].regret == (0.0, 0.0)
    assert set(stored.contestants) == {"range", "default", "sweep"}
    summary = json.loads(path.read_text())["summary"]
    assert {row["family"] for row in summary} == {"all", "SGD"}


def test_tasks_and_contestants_are_chosen_by_words() -> None:
    assert {task.name for task in bench.chosen_oracles(["quick"])} == set(bench.QUICK)
    assert len(bench.chosen_oracles(["all"])) == len(TASKS)
    assert bench.chosen_contestants(["range"], None) == (by_name("range"),)
    assert {one.kind for one in bench.chosen_contestants([], "ours")} == {"ours"}
    with pytest.raises(SystemExit, match="finder"):
        bench.chosen_contestants([], "theirs")
    with pytest.raises(KeyError, match="known"):
        bench.chosen_oracles(["no-such-task"])
