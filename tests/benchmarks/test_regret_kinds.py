"""The further kinds of training: their loops, schedules and results."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.regret import bench, kinds, kinds_table, sweep
from benchmarks.regret.contestants import Answer, by_name, ours
from benchmarks.regret.kinds import Kind
from benchmarks.regret.lines import kind_lines
from benchmarks.regret.oracle import Oracle, task_hash, training_of
from benchmarks.regret.planned_run import PlannedRun, trained_loss
from benchmarks.regret.problem import Problem, loaders
from benchmarks.regret.results import Results, record
from benchmarks.regret.runs import final_loss, held_out_loss
from benchmarks.regret.tasks import KINDS, TASKS, group, suite
from benchmarks.regret.tasks import by_name as task_named
from lrsearch.core.schedule import multipliers

ORACLE = Oracle(
    task="kind-vae-adam",
    hash="abc",
    steps=100,
    seeds=(0, 1),
    initial=(5.0, 5.0),
    lrs=(1e-2, 1e-1, 1e0, 1e1),
    losses=((3.0, 3.0), (1.0, 1.0), (2.0, 2.0), (None, None)),
    last_stable_lr=1e0,
    seconds=1.0,
    date="2026-01-01",
    versions={"torch": "0.0"},
)


def linear(seed: int) -> Problem:
    torch.manual_seed(seed)
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    y = x.sum(1, keepdim=True)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Problem(model, optimizer, nn.MSELoss(), *loaders((x, y), (x, y), 5, seed))


def kind(**changes: Any) -> Kind:
    given: dict[str, Any] = {
        "name": "linear",
        "model": "linear",
        "family": "SGD",
        "train_steps": 3,
        "schedule": "constant",
        "batch_size": 5,
        "build": linear,
    }
    return Kind(**(given | changes))


def weights(run: PlannedRun) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.problem.model.parameters()])


def test_eight_kinds_are_new_and_four_are_held_back() -> None:
    assert [suite(kind) for kind in KINDS] == ["kinds"] * 8 + ["held-back"] * 4
    assert {suite(task) for task in TASKS} == {"full"}
    assert len({group(kind) for kind in KINDS}) == 12
    assert all(40 <= kind.train_steps <= 1000 for kind in KINDS)
    assert not {kind.name for kind in KINDS} & {task.name for task in TASKS}


@pytest.mark.parametrize(
    ("shape", "first", "peak", "last"),
    [
        (kinds.warmup_cosine_tenth, 0.1, 10, 0.1),
        (kinds.warmup_cosine, 0.05, 20, 0.0),
        (kinds.warmup_linear, 0.1, 10, 0.0),
    ],
)
def test_schedules_rise_to_one_and_fall(shape: Any, first: float, peak: int, last: float) -> None:
    values = multipliers(shape, 100)
    assert values[0] == pytest.approx(first)
    assert values[peak] == pytest.approx(1.0)
    assert values[-1] == pytest.approx(last, abs=0.02)
    assert (multipliers(shape, 1) > 0).all()


def test_an_accumulated_update_is_that_of_the_batches_together() -> None:
    accumulated = PlannedRun(kind(accumulate=4), 0, lr=0.1)
    accumulated.advance(1)
    problem = linear(0)
    batches: Iterator[Any] = iter(problem.train_loader)
    x, y = (torch.cat(parts) for parts in zip(*(next(batches) for _ in range(4)), strict=True))
    nn.functional.mse_loss(problem.model(x), y).backward()
    problem.optimizer.step()
    together = torch.cat([p.detach().flatten() for p in problem.model.parameters()])
    torch.testing.assert_close(weights(accumulated), together)


def test_a_clipped_update_is_no_longer_than_the_norm_allows() -> None:
    run = PlannedRun(kind(clip_grad_norm=0.01), 0, lr=0.1)
    before = weights(run)
    run.advance(1)
    assert (weights(run) - before).norm().item() == pytest.approx(0.001, rel=1e-3)


def test_without_any_of_it_the_training_is_that_of_the_other_tasks() -> None:
    assert trained_loss(kind(), 0.1, 0) == final_loss(kind(), 0.1, 0)
    assert training_of(kind()) is trained_loss
    assert training_of(TASKS[0]) is final_loss


def test_a_loss_that_raises_where_it_has_diverged_counts_as_diverged() -> None:
    run = PlannedRun(task_named("kind-vae-adam"), 0, lr=1e6)
    assert not run.advance(200)
    assert run.held_out() is None


def test_a_loss_that_raises_for_other_reasons_is_an_error() -> None:
    def build(seed: int) -> Problem:
        def raises(*_: Tensor) -> Tensor:
            raise ValueError("the user's own")

        return dataclasses.replace(linear(seed), loss_fn=raises)

    with pytest.raises(ValueError, match="the user's own"):
        PlannedRun(kind(build=build), 0, lr=0.1).advance(1)


def test_schedule_free_is_evaluated_on_averaged_weights_and_goes_on() -> None:
    task = task_named("kind-schedulefree-adamw")
    run, other = PlannedRun(task, 0, lr=0.01), PlannedRun(task, 0, lr=0.01)
    for until in (5, 10):
        run.advance(until)
        run.held_out()
    other.advance(10)
    torch.testing.assert_close(weights(run), weights(other))
    other.problem.optimizer.eval()  # type: ignore[attr-defined]
    assert not torch.equal(weights(run), weights(other))


def test_what_running_statistics_gain_is_not_learned() -> None:
    siamese = dataclasses.replace(task_named("kind-siamese-adam"), train_steps=30)
    assert sweep.unlearned_loss(siamese, 0) < 0.8 * held_out_loss(siamese.build(0))
    assert sweep.unlearned_loss(kind(), 0) == pytest.approx(held_out_loss(linear(0)))


@pytest.mark.parametrize("change", [{"accumulate": 2}, {"clip_grad_norm": 1.0}])
def test_the_hash_covers_the_loop_but_not_whether_a_kind_is_held_back(
    change: dict[str, Any],
) -> None:
    assert task_hash(kind(**change)) != task_hash(kind())
    assert task_hash(kind(held_back=True)) == task_hash(kind())


def test_our_methods_are_told_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def find_lr(*_: Any, **options: Any) -> Any:
        asked.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(ours.lrsearch, "find_lr", find_lr)
    with pytest.raises(KeyboardInterrupt):
        ours.find(kind(accumulate=3, clip_grad_norm=0.5), 0, "race")
    assert (asked["accumulate"], asked["clip_grad_norm"]) == (3, 0.5)


def results() -> Results:
    found = Answer(1e-1, 10, 1.0, low=1e-2, high=1.0)
    missed = Answer(1.0, 10, 1.0, "AT_EDGE", low=0.5, high=2.0)
    nothing = Answer(None, 10, 1.0, "NO_SIGNAL")
    answers = {"race-1": (found, missed), "range": (found, nothing)}
    contestants = {name: by_name(name) for name in answers}
    records = {
        (name, ORACLE.task): record(contestants[name], ORACLE, pair, (1.0, 1.0))
        for name, pair in answers.items()
    }
    titles = {name: {"title": one.title} for name, one in contestants.items()}
    return Results(records, titles)


def test_lines_show_regret_interval_and_missing_answers() -> None:
    lines = kind_lines(results(), {task_named(ORACLE.task): ORACLE})
    assert "0.1 (0.000+)  1 (0.250-)" in lines[0]
    assert lines[1].endswith(
        "mean regret 0.125, worst 0.250, best in interval 50% of 2, no answer 0% of 2"
    )
    assert "0.1 (0.000+)  - NO_SIGNAL" in lines[2]
    assert "no answer 50% of 2" in lines[3]


def test_the_table_has_a_row_per_kind_and_sums_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds_table, "load_oracle", lambda kind: ORACLE)
    vae = task_named(ORACLE.task)
    assert isinstance(vae, Kind)
    lines = kinds_table.regret_table(results(), [vae]).splitlines()
    assert lines[0] == "| kind | race, budget 1 | range |"
    assert lines[2] == "| VAE, summed loss | 0.125 (worst 0.25) | 0.500 (worst 1.00) |"
    assert lines[-1] == "| best lr in the interval | 50% | 100% |"
    (row,) = kinds_table.task_table([vae]).splitlines()[2:]
    assert row.startswith("| VAE, summed loss | Adam | 300 | constant | 5 to 1 | 0.1 |")


def test_the_kinds_cannot_be_mixed_with_other_tasks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(bench, "load_oracle", lambda task: ORACLE)
    with pytest.raises(SystemExit, match="full and kinds have results of their own"):
        bench.main(["--tasks", "quadratic-sgd", "kind-vae-adam"])
