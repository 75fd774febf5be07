"""The fine-tuning benchmark: its tasks, its oracle and its tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import lrsearch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from benchmarks.finetune import corpus, publish, runs, tasks
from benchmarks.finetune.contestants import (
    Logits,
    as_problem,
    as_task,
    find,
    next_token_loss,
)
from benchmarks.finetune.horizons import FOLDER as RECORDED
from benchmarks.finetune.oracle import FOLDER, SEEDS, load_oracle
from benchmarks.finetune.tasks import TASKS, by_name, make_trainer, shortened
from benchmarks.regret.contestants.contestant import Answer
from benchmarks.regret.oracle import read_oracle, regret
from benchmarks.regret.results import Results, record

# peft asks transformers' models for a property that transformers means to rename.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

NAMES = [task.name for task in TASKS]
TEXT = "\n".join(f"def f{n}(x):\n    return x * {n}" for n in range(400))


@pytest.fixture(autouse=True)
def no_pretraining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights and a little tokenizer in place of those that take minutes to make."""
    library = tiny_library(monkeypatch)

    def quickly(recipe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return library if recipe is corpus.tokenised_library else random_weights(recipe.__name__)

    monkeypatch.setattr(tasks, "pretrained", quickly)
    tasks.prose.cache_clear()


def tiny_library(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "standard_library", lambda: TEXT)
        return corpus.tokenised_library()


def random_weights(recipe: str) -> dict[str, Any]:
    from transformers import GPT2LMHeadModel

    assert recipe == "gpt2_weights"
    torch.manual_seed(0)
    state: dict[str, Any] = GPT2LMHeadModel(tasks.gpt2_config()).state_dict()
    return state


def test_the_tokens_of_a_text_are_the_text() -> None:
    tokenizer = tasks.pretrained(corpus.tokenised_library)["tokenizer"]
    ids = corpus.encode("def f7(x):\n    return x", tokenizer).tolist()
    assert corpus._tokenizer(tokenizer).decode(ids) == "def f7(x):\n    return x"
    assert max(ids) < corpus.VOCABULARY


def test_what_is_fine_tuned_on_was_not_pretrained_on() -> None:
    library = corpus.standard_library()
    assert len(library) > 1_000_000
    assert corpus.language_reference()[1000:1200] not in library


def test_held_out_examples_are_not_trained_on() -> None:
    data = tasks.prose()
    train, held_out = (
        {tuple(row) for row in part[0].tolist()} for part in (data.train, data.held_out)
    )
    assert len(data.train[0]) == tasks.EXAMPLES
    assert len(data.held_out[0]) == tasks.HELD_OUT
    # The reference repeats a few of its phrases.
    assert len(train & held_out) <= 0.02 * tasks.HELD_OUT


def test_the_trainer_is_as_transformers_has_it_by_default() -> None:
    from transformers import TrainingArguments

    given = make_trainer(by_name("gpt2-prose"), seed=0).args
    default = TrainingArguments(use_cpu=True, report_to="none")
    for name in (
        "learning_rate",
        "optim",
        "weight_decay",
        "adam_beta1",
        "adam_beta2",
        "max_grad_norm",
        "lr_scheduler_type",
        "warmup_steps",
        "num_train_epochs",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
    ):
        assert getattr(given, name) == getattr(default, name), name
    assert given.learning_rate == tasks.DEFAULT_LR


def test_three_epochs_are_the_steps_of_the_task_and_the_lr_falls_in_a_line() -> None:
    task = by_name("gpt2-prose")
    trainer = make_trainer(task, seed=0)
    assert 3 * len(trainer.get_train_dataloader()) == task.steps
    short = make_trainer(task, seed=0, lr=0.1, steps=4)
    seen: list[float] = []
    optimizer = short.create_optimizer()
    optimizer.register_step_pre_hook(lambda *_: seen.append(optimizer.param_groups[0]["lr"]))
    short.train()
    assert seen == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_a_run_is_deterministic_and_its_seed_matters() -> None:
    task = dataclasses.replace(by_name("gpt2-prose"), steps=3)
    losses = [runs.final_loss(task, 1e-3, seed) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    assert losses[0] != runs.initial_loss(task, 0)


def test_a_run_that_diverges_has_no_loss() -> None:
    task = dataclasses.replace(by_name("gpt2-prose"), steps=3)
    assert runs.final_loss(task, 1e38, 0) is None


def test_an_adapter_trains_little_and_begins_where_the_model_was() -> None:
    task = by_name("gpt2-prose-lora")
    model, full = task.model(0), by_name("gpt2-prose").model(0)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    rows = task.data().held_out[0][:4]
    for one in (model, full):
        one.eval()
    assert torch.equal(model(input_ids=rows).logits, full(input_ids=rows).logits)


@pytest.mark.parametrize("name", NAMES)
def test_other_tools_see_the_trainers_own_loss(name: str) -> None:
    task = by_name(name)
    problem = as_problem(task, seed=3)
    inputs, labels = (part[:8] for part in task.data().held_out)
    trainer = make_trainer(task, seed=3)
    for model in (problem.model, trainer.model):
        model.eval()
    with torch.no_grad():
        ours = trainer.compute_loss(trainer.model, {"input_ids": inputs, "labels": labels})
        theirs = problem.loss_fn(problem.model(inputs), labels)
    assert theirs.item() == pytest.approx(ours.item(), rel=1e-5)
    assert isinstance(problem.model, Logits)
    assert as_task(task).train_steps == task.steps


def test_the_loss_of_the_next_token_leaves_out_the_last_position() -> None:
    logits = torch.zeros(1, 3, 5)
    rows = torch.tensor([[0, 1, 2]])
    logits[0, 0, 1] = logits[0, 1, 2] = 100.0  # right about both that follow
    assert next_token_loss(logits, rows).item() == pytest.approx(0.0, abs=1e-6)
    assert F.cross_entropy(logits[0], rows[0]).item() > 1.0


def test_ours_is_asked_through_the_trainers_front_door() -> None:
    task = dataclasses.replace(by_name("gpt2-prose"), steps=20)
    answer = find(as_task(task), 0, lrsearch.RangeTest(10, min_lr=1e-6, max_lr=1.0))
    assert answer.steps == 10
    assert answer.lr is None or 1e-6 <= answer.lr <= 1.0


def test_a_shortened_task_has_the_schedule_of_its_own_length() -> None:
    assert shortened(by_name("gpt2-prose"), 1 / 4).steps == round(by_name("gpt2-prose").steps / 4)
    assert shortened(by_name("gpt2-prose"), 1e-9).steps == 2


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_the_stored_sweep_is_complete_and_its_best_lies_inside(name: str) -> None:
    oracle = load_oracle(by_name(name))
    assert oracle.seeds == SEEDS
    assert all(len(row) == len(SEEDS) for row in oracle.losses)
    best = oracle.lrs.index(oracle.best_lr)
    assert 3 <= best < len(oracle.lrs) - 3
    assert regret(oracle, oracle.lrs[0]) >= 0.5 * (1 - 1e-9)
    assert oracle.best_loss < 0.98 * oracle.initial_loss
    steps = [math.log10(b / a) for a, b in zip(oracle.lrs, oracle.lrs[1:], strict=False)]
    assert max(steps) < 0.21


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_shortened_runs_are_recorded_for_the_stored_sweep(path: Any) -> None:
    from benchmarks.finetune.replay import recorded

    oracle = read_oracle(FOLDER / path.name)
    records = [one for one in recorded() if one.oracle.task == path.stem]
    assert [one.seed for one in records] == list(SEEDS)
    at_best = oracle.losses[oracle.lrs.index(oracle.best_lr)]
    for one, loss in zip(records, at_best, strict=True):
        assert one.loss(oracle.best_lr, oracle.steps) == pytest.approx(loss)
        assert one.loss(oracle.best_lr, oracle.steps // 16) > one.loss(oracle.best_lr, oracle.steps)


def test_the_tables_show_every_contestant_and_its_regret() -> None:
    from benchmarks.finetune.contestants import CONTESTANTS

    oracle = load_oracle(TASKS[0])
    who = CONTESTANTS[0]
    answers = [Answer(oracle.best_lr, steps=oracle.steps)] * 4 + [Answer(None, message="none")]
    about = {who.name: {"kind": "ours", "title": "mine", "package": "lrsearch", "version": "1"}}
    results = Results(
        {(who.name, oracle.task): record(who, oracle, answers, [1.0] * 5)}, about, {"versions": {}}
    )
    table = publish.answers_table(results, {oracle.task: oracle}).splitlines()
    assert table[2].startswith("| **mine** | 0.200 | 1.000 | 0.80 |")
    assert "1 of 5 without answer" in table[2]
    assert publish.short_table(results).splitlines()[2] == "| **mine** | 0.200 | 1.000 | 0.80 |"
