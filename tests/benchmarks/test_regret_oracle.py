"""Regret and excess from a stored sweep, and the stored sweeps themselves."""

from __future__ import annotations

import dataclasses
import math
import pathlib

import pytest

from benchmarks.regret import make_oracle
from benchmarks.regret.oracle import (
    FOLDER,
    Oracle,
    StaleOracleError,
    excess,
    load_oracle,
    loss_at,
    read_oracle,
    regret,
    save_oracle,
    task_hash,
    width,
)
from benchmarks.regret.problem import Task
from benchmarks.regret.tasks import KINDS, TASKS, by_name
from benchmarks.regret.tasks.synthetic import CURVATURES

# L0 = 5, L* = 1 at lr 1e-1; at 1e0 one seed of two diverges
SWEEP = Oracle(
    task="quadratic-sgd",
    hash="0",
    steps=100,
    seeds=(0, 1),
    initial=(4.0, 6.0),
    lrs=(1e-3, 1e-2, 1e-1, 1e0, 1e1),
    losses=((3.0, 5.0), (2.0, 4.0), (1.0, 1.0), (3.0, None), (None, None)),
    last_stable_lr=1e-1,
    seconds=1.0,
    date="2026-01-01",
    versions={"torch": "0.0"},
)
NEVER_FAILS = dataclasses.replace(
    SWEEP, losses=((3.0, 5.0), (2.0, 4.0), (1.0, 1.0), (2.0, 3.0), (9.0, 2.0)), last_stable_lr=1e1
)


def test_regret_is_zero_at_the_best_lr_and_one_where_nothing_is_gained() -> None:
    assert regret(SWEEP, 1e-1) == 0.0
    assert regret(SWEEP, 1e-2) == pytest.approx((3.0 - 1.0) / (5.0 - 1.0))
    assert regret(SWEEP, 1e-15) == pytest.approx(1.0)


def test_between_two_lrs_the_loss_is_linear_in_log_lr() -> None:
    middle = math.sqrt(1e-2 * 1e-1)
    assert loss_at(SWEEP, middle) == pytest.approx(2.0)
    assert regret(SWEEP, middle) == pytest.approx(0.25)
    assert excess(SWEEP, middle) == pytest.approx(1.0)


def test_beyond_the_last_stable_lr_regret_is_one_and_excess_that_of_not_training() -> None:
    for lr in (0.11, 1.0, 3.0, 1e6):
        assert regret(SWEEP, lr) == 1.0
        assert excess(SWEEP, lr) == pytest.approx(4.0)


def test_a_run_that_diverged_or_got_worse_counts_as_not_training() -> None:
    assert SWEEP.mean_losses.tolist() == [4.0, 3.0, 1.0, 4.5, 5.0]
    assert NEVER_FAILS.mean_losses.tolist() == [4.0, 3.0, 1.0, 2.5, 3.0]  # 9 counts as 4


def test_below_the_sweep_the_gain_shrinks_in_proportion_to_lr() -> None:
    assert loss_at(SWEEP, 1e-3) == pytest.approx(4.0)
    assert loss_at(SWEEP, 1e-4) == pytest.approx(5.0 - 0.1)
    assert loss_at(SWEEP, 0.999e-3) == pytest.approx(4.0, abs=0.01)


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan, math.inf])
def test_an_lr_that_is_no_lr_is_refused(lr: float) -> None:
    with pytest.raises(ValueError, match="expected a positive finite number"):
        regret(SWEEP, lr)


def test_width_counts_the_decades_around_the_best_lr() -> None:
    # regret reaches 0.25 half a decade to the left and, without a cliff, 2/3 decade to the right
    assert width(NEVER_FAILS, 0.25) == pytest.approx(0.5 + 2 / 3, abs=0.01)
    assert width(SWEEP, 0.25) == pytest.approx(0.5, abs=0.01)


def test_a_sweep_survives_the_way_to_disk(tmp_path: pathlib.Path) -> None:
    assert read_oracle(save_oracle(SWEEP, tmp_path)) == SWEEP


def test_a_missing_oracle_says_what_to_run(tmp_path: pathlib.Path) -> None:
    with pytest.raises(StaleOracleError, match=r"no oracle for task 'quadratic-sgd'.*make oracle"):
        load_oracle(by_name("quadratic-sgd"), tmp_path)


def test_a_changed_task_invalidates_its_oracle(tmp_path: pathlib.Path) -> None:
    task = by_name("quadratic-sgd")
    save_oracle(dataclasses.replace(SWEEP, hash=task_hash(task)), tmp_path)
    assert load_oracle(task, tmp_path).losses == SWEEP.losses
    longer = dataclasses.replace(task, train_steps=task.train_steps + 1)
    with pytest.raises(StaleOracleError, match=r"has hash [0-9a-f]{12}.*make oracle"):
        load_oracle(longer, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": "cosine"},
        {"batch_size": 7},
        {"train_steps": 123},
        {"build": by_name("lms-linear-sgd").build},
    ],
)
def test_the_hash_covers_what_decides_the_runs(change: dict[str, object]) -> None:
    task = by_name("quadratic-sgd")
    assert task_hash(dataclasses.replace(task, **change)) != task_hash(task)  # type: ignore[arg-type]


def test_the_hash_ignores_descriptions_and_torch_patch_releases() -> None:
    task = by_name("quadratic-sgd")
    described = dataclasses.replace(task, note="something else")
    assert task_hash(described) == task_hash(task)
    assert task_hash(task, "2.13.0+cpu") == task_hash(task, "2.13.1+cu130")
    assert task_hash(task, "2.13.0") != task_hash(task, "2.14.0")


SWEPT = (*TASKS, *(kind for kind in KINDS if (FOLDER / f"{kind.name}.json").exists()))
every_task = pytest.mark.parametrize("task", SWEPT, ids=[task.name for task in SWEPT])


def stored(task: Task) -> Oracle:
    return read_oracle(FOLDER / f"{task.name}.json")


def test_every_stored_sweep_belongs_to_a_task() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {task.name for task in SWEPT}


@every_task
def test_the_stored_sweep_is_that_of_the_task_as_it_is_now(task: Task) -> None:
    oracle = stored(task)
    assert oracle.hash == task_hash(task, oracle.versions["torch"]), "run `make oracle`"


@every_task
def test_the_best_lr_lies_three_grid_points_inside(task: Task) -> None:
    oracle = stored(task)
    assert math.log10(oracle.best_lr / oracle.lrs[0]) >= 0.599
    assert math.log10(oracle.lrs[-1] / oracle.best_lr) >= 0.599


@every_task
def test_the_task_is_well_posed(task: Task) -> None:
    oracle = stored(task)
    assert len(oracle.seeds) >= 3
    assert oracle.best_loss >= 0.02 * oracle.initial_loss  # excess over nearly 0 says nothing
    trained_before = task.name == "kind-further-adam"  # gains little, but ten times the noise
    most = 0.97 if trained_before else 0.9
    assert oracle.best_loss <= most * oracle.initial_loss  # there is something to gain
    assert regret(oracle, oracle.lrs[0]) >= 0.45  # the sweep reaches down to where it hurts


def test_the_quadratic_is_best_and_last_stable_where_the_formulas_say() -> None:
    oracle = stored(by_name("quadratic-sgd"))
    low, high = CURVATURES.min().item(), CURVATURES.max().item()
    assert abs(math.log10(oracle.best_lr * (low + high) / 2)) <= 0.05
    assert 0 <= math.log10(2 / high / oracle.last_stable_lr) <= 0.05


def test_some_best_lrs_lie_at_the_edge_of_the_usual_ranges() -> None:
    assert stored(by_name("cancer-linear-raw-sgd")).best_lr < 1e-5
    assert stored(by_name("dimdigits-softmax-sgd")).best_lr > 10


def test_the_listing_has_a_line_per_task(capsys: pytest.CaptureFixture[str]) -> None:
    make_oracle.main(["--list", "quadratic-sgd", "digits-mlp-muon"])
    header, quadratic, muon = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["task", "optimizer", "schedule", "steps"]
    assert quadratic.split()[:3] == ["quadratic-sgd", "SGD", "constant"]
    assert muon.split()[:3] == ["digits-mlp-muon", "Muon", "wsd"]
