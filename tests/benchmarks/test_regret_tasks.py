"""Every task is a planned run that can be repeated bit for bit."""

from __future__ import annotations

import pathlib
from collections import Counter

import pytest
import torch

from benchmarks.regret import data
from benchmarks.regret.problem import Task, loaders
from benchmarks.regret.tasks import KINDS, TASKS, by_name, finetune
from lrsearch.core.schedule import SHAPES
from tests.benchmarks.first_steps import first_steps

EVERY = (*TASKS, *KINDS)
every_task = pytest.mark.parametrize("task", EVERY, ids=[task.name for task in EVERY])


def test_the_tasks_spread_over_optimizers_schedules_batches_and_lengths() -> None:
    assert len(TASKS) >= 26
    assert len({task.name for task in TASKS}) == len(TASKS)
    optimizers = {"SGD", "heavy ball", "Nesterov", "Adam", "AdamW", "RMSprop", "Adagrad", "Muon"}
    assert {task.family for task in TASKS} == optimizers
    schedules = Counter(task.schedule for task in TASKS)
    assert set(schedules) == set(SHAPES)
    assert min(schedules.values()) >= 3
    assert min(task.train_steps for task in TASKS) == 100
    assert max(task.train_steps for task in TASKS) == 5000
    assert min(task.batch_size for task in TASKS) == 1


def test_at_least_three_tasks_train_on_the_full_batch() -> None:
    full = [task.name for task in TASKS if len(task.build(0).train_loader) == 1]
    assert len(full) >= 3, full


@every_task
def test_the_same_seed_repeats_the_run_bit_for_bit(task: Task) -> None:
    assert first_steps(task, seed=1) == first_steps(task, seed=1)


@every_task
def test_another_seed_gives_another_run_on_the_same_held_out_data(task: Task) -> None:
    assert first_steps(task, seed=1) != first_steps(task, seed=2)
    one, two = task.build(1).val_loader, task.build(2).val_loader
    for (x, y), (other_x, other_y) in zip(one, two, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


@every_task
def test_batches_have_the_size_the_task_announces(task: Task) -> None:
    inputs, targets = next(iter(task.build(0).train_loader))
    assert len(inputs) == len(targets) == task.batch_size


@every_task
def test_every_trained_parameter_belongs_to_the_optimizer_and_gets_a_gradient(task: Task) -> None:
    problem = task.build(0)
    inputs, targets = next(iter(problem.train_loader))
    problem.loss_fn(problem.model(inputs), targets).backward()  # type: ignore[no-untyped-call]
    optimised = {id(p) for group in problem.optimizer.param_groups for p in group["params"]}
    for name, parameter in problem.model.named_parameters():
        if parameter.requires_grad:
            assert id(parameter) in optimised, name
            assert parameter.grad is not None, name
        else:
            assert id(parameter) not in optimised, name


@every_task
def test_building_does_not_depend_on_the_random_state_found(task: Task) -> None:
    torch.manual_seed(123)
    before = first_steps(task, seed=0, count=1)
    torch.manual_seed(456)
    assert first_steps(task, seed=0, count=1) == before


def test_two_fine_tunes_have_groups_with_different_lrs() -> None:
    ratios = {}
    for name in ("finetune-classifier-adamw", "finetune-frozencnn-heavyball"):
        groups = by_name(name).build(0).optimizer.param_groups
        ratios[name] = groups[1]["lr"] / groups[0]["lr"]
    assert ratios["finetune-classifier-adamw"] == pytest.approx(10.0)
    assert ratios["finetune-frozencnn-heavyball"] == pytest.approx(0.1)


def test_the_frozen_layer_is_pretrained_and_does_not_move() -> None:
    task = by_name("finetune-frozencnn-heavyball")
    one, two = task.build(0), task.build(1)
    frozen = [p for p in one.model.parameters() if not p.requires_grad]
    assert len(frozen) == 2
    for p, q in zip(
        frozen, (p for p in two.model.parameters() if not p.requires_grad), strict=True
    ):
        assert torch.equal(p, q)  # from the cache, not from the seed


def test_pretraining_helps_the_fine_tune() -> None:
    problem = by_name("finetune-transformer-adamw").build(0)
    inputs, targets = next(iter(problem.val_loader))
    problem.model.eval()
    with torch.no_grad():
        loss = problem.loss_fn(problem.model(inputs), targets).item()
    assert loss < 3.0  # an untrained one starts near log(96) = 4.6


def test_pretraining_is_repeatable_cached_and_leaves_the_random_state_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "CACHE", tmp_path)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = finetune.pretrained(finetune.pretrain_low_digits)
    assert torch.equal(torch.get_rng_state(), before)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = finetune.pretrained(finetune.pretrain_low_digits)
    assert file.stat().st_mtime_ns == written
    file.unlink()
    fresh = finetune.pretrained(finetune.pretrain_low_digits)
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
        assert torch.equal(value, fresh[name]), name


def test_an_unknown_task_is_answered_with_the_names() -> None:
    with pytest.raises(KeyError, match=r"no task named 'mnist'; known: quadratic-sgd"):
        by_name("mnist")


def test_the_order_of_the_data_does_not_depend_on_the_global_random_state() -> None:
    pair = (torch.arange(10.0), torch.arange(10.0))
    orders = []
    for state in (1, 2):
        torch.manual_seed(state)
        train, _ = loaders(pair, pair, batch_size=5, seed=0)
        orders.append(torch.cat([x for x, _ in train]))
    assert torch.equal(orders[0], orders[1])
    assert sorted(orders[0].tolist()) == list(range(10))


def test_the_order_of_the_data_changes_from_epoch_to_epoch() -> None:
    pair = (torch.arange(50.0), torch.arange(50.0))
    train, _ = loaders(pair, pair, batch_size=10, seed=0)
    first, second = (torch.cat([x for x, _ in train]) for _ in range(2))
    assert not torch.equal(first, second)


def test_the_incomplete_last_batch_is_dropped_in_training_and_kept_in_validation() -> None:
    pair = (torch.arange(2500.0), torch.arange(2500.0))
    train, val = loaders(pair, pair, batch_size=1000, seed=0)
    assert [len(x) for x, _ in train] == [1000, 1000]
    assert torch.equal(torch.cat([x for x, _ in val]), pair[0])


def test_a_batch_larger_than_the_data_is_refused() -> None:
    pair = (torch.arange(4.0), torch.arange(4.0))
    with pytest.raises(ValueError, match="batch_size=5 is larger than the training set of 4"):
        loaders(pair, pair, batch_size=5, seed=0)


def test_a_split_is_fixed_and_loses_nothing() -> None:
    values = torch.arange(20)
    (train, _), (val, _) = data.split(values, values, held_out=5)
    assert len(val) == 5
    assert sorted([*train.tolist(), *val.tolist()]) == values.tolist()
    assert torch.equal(data.split(values, values, held_out=5)[1][0], val)


def test_flipped_labels_are_a_fixed_fraction() -> None:
    labels = torch.zeros(10_000, dtype=torch.int64)
    flipped = data.flip_labels(labels, 0.2, 10)
    assert (flipped != 0).float().mean().item() == pytest.approx(0.2 * 0.9, abs=0.01)
    assert torch.equal(flipped, data.flip_labels(labels, 0.2, 10))


def test_characters_are_encoded_without_loss_and_strangers_become_question_marks() -> None:
    codes = data.encode("a ~\né\t")
    assert codes.tolist() == [ord("a") - 31, 1, 95, 0, ord("?") - 31, ord("?") - 31]


def test_windows_predict_the_next_character_and_hold_out_the_end() -> None:
    text = torch.arange(50)
    (x, y), (x_val, y_val) = data.windows(text, length=5, held_out=2)
    assert torch.equal(y, x + 1)
    assert torch.equal(y_val, x_val + 1)
    assert len(x) == 7
    assert x_val.min() > x.max()


def test_words_are_padded_with_zero_and_stay_in_the_vocabulary() -> None:
    (words, labels), _ = data.lines_as_words(vocabulary=100, length=6)
    assert words.shape[1] == 6
    assert 0 <= int(words.min()) <= int(words.max()) < 100
    assert set(labels.tolist()) == set(range(len(data.PACKAGES)))
    after_padding = (words[:, :-1] == 0) & (words[:, 1:] != 0)
    assert not after_padding.any()


def test_tables_are_standardised_with_the_training_set_alone() -> None:
    (x, _), (x_val, _) = data.tabular("wine", held_out=89)
    torch.testing.assert_close(x.mean(0), torch.zeros(13), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0), torch.ones(13))
    assert x_val.mean(0).abs().max() > 1e-3
