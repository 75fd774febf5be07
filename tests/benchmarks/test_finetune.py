"""The fine-tuning benchmark: its tasks, its oracle and its tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
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
from benchmarks.finetune.oracle import FOLDER, MOST, SEEDS, imprecise, load_oracle
from benchmarks.finetune.tasks import TASKS, by_name, make_trainer, shortened
from benchmarks.regret.contestants.contestant import Answer
from benchmarks.regret.oracle import Oracle, regret
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
    from transformers import BertForMaskedLM, GPT2LMHeadModel

    models = {
        "bert_weights": lambda: BertForMaskedLM(tasks.bert_config()),
        "gpt2_weights": lambda: GPT2LMHeadModel(tasks.gpt2_config()),
    }
    torch.manual_seed(0)
    state: dict[str, Any] = models[recipe]().state_dict()
    return state


def test_the_tokens_of_a_text_are_the_text() -> None:
    tokenizer = tasks.pretrained(corpus.tokenised_library)["tokenizer"]
    ids = corpus.encode("def f7(x):\n    return x", tokenizer).tolist()
    assert corpus._tokenizer(tokenizer).decode(ids) == "def f7(x):\n    return x"
    assert max(ids) < corpus.VOCABULARY


def test_what_is_fine_tuned_on_was_not_pretrained_on() -> None:
    library = corpus.standard_library()
    assert len(library) > 1_000_000
    for text in corpus.texts_by_kind().values():
        assert text[1000:1200] not in library


def test_a_character_is_an_id_and_any_white_space_is_one_blank() -> None:
    ids = corpus.characters("a  b\n\t c \u00e9~").tolist()
    assert ids == [ord(one) - 32 + len(corpus.SPECIAL) for one in "a b c ?~"]
    assert max(ids) < corpus.CHARACTERS


def test_a_source_is_taken_apart_into_kinds() -> None:
    source = 'def f(x):\n    """Doc\n    string."""\n    # Why.\n    return x\n'
    assert corpus._kinds(source) == [
        ("docstring", "Doc\n    string."),
        ("comment", "Why."),
        ("code", "def f(x):"),
        ("code", "    return x"),
    ]


def test_the_kinds_are_about_equally_frequent() -> None:
    counts = torch.bincount(tasks.kinds().train[1], minlength=len(corpus.KINDS))
    assert len(counts) == len(corpus.KINDS)
    assert counts.min() > 0.8 * tasks.EXAMPLES / len(corpus.KINDS)


def test_a_passage_has_the_label_of_the_text_that_it_is_from() -> None:
    inputs, labels = tasks.kinds().held_out
    texts = [corpus.characters(text).tolist() for text in corpus.texts_by_kind().values()]
    decoded = [bytes(text) for text in texts]
    for row, label in zip(inputs[:20].tolist(), labels[:20].tolist(), strict=True):
        assert row[0] == corpus.CLS
        assert bytes(row[1:]) in decoded[label]


def test_only_hidden_characters_are_to_be_filled_in() -> None:
    from transformers import BertForMaskedLM

    from benchmarks.finetune.bert import HIDDEN, masked_loss

    seen: list[torch.Tensor] = []
    model = BertForMaskedLM(tasks.bert_config())
    model.bert.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    text = corpus.characters(TEXT)
    loss = masked_loss(model, text, torch.Generator().manual_seed(0))
    share = (seen[0] == corpus.MASK).float().mean().item()
    assert share == pytest.approx(HIDDEN, abs=0.03)
    assert loss.item() == pytest.approx(math.log(corpus.CHARACTERS), abs=0.5)


@pytest.mark.parametrize("name", ["gpt2-prose", "bert-kinds"])
def test_held_out_examples_are_not_trained_on(name: str) -> None:
    data = by_name(name).data()
    train, held_out = (
        {tuple(row) for row in part[0].tolist()} for part in (data.train, data.held_out)
    )
    assert len(data.train[0]) == tasks.EXAMPLES
    assert len(data.held_out[0]) == tasks.HELD_OUT
    # The reference repeats a few of its phrases, and code some of its lines.
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


@pytest.mark.parametrize("name", ["gpt2-prose", "bert-kinds"])
def test_a_run_is_deterministic_and_its_seed_matters(name: str) -> None:
    task = dataclasses.replace(by_name(name), steps=3)
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


def test_only_the_head_of_a_classifier_is_new() -> None:
    first, second = (by_name("bert-kinds").model(seed).state_dict() for seed in (0, 1))
    new = {name for name in first if not torch.equal(first[name], second[name])}
    assert new == {"classifier.weight", "bert.pooler.dense.weight"}


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


def swept(spread: float, seeds: int = 5) -> Oracle:
    """A sweep with its best in the middle; ``spread`` between the seeds there."""
    noise = spread * np.array([-1.0, 1.0] * seeds)[:seeds]
    means = (4.0, 2.0, 1.05, 1.0, 1.05, 3.0, 5.0)
    return Oracle(
        task="gpt2-prose",
        hash="0",
        steps=150,
        seeds=tuple(range(seeds)),
        initial=(5.0,) * seeds,
        lrs=tuple(10.0 ** np.arange(-6.0, 1.0)),
        losses=tuple(tuple(mean + noise) for mean in means),
        last_stable_lr=1e-1,
        seconds=1.0,
        date="2026-01-01",
        versions={},
    )


def test_rates_near_the_bottom_want_seeds_until_the_noise_is_small_beside_the_gain() -> None:
    assert imprecise(swept(0.01)) == []
    assert imprecise(swept(0.5)) == [2, 3, 4]
    assert imprecise(swept(0.5, seeds=MOST)) == []  # enough is enough


def test_a_rate_that_has_fewer_seeds_than_its_neighbours_catches_up_first() -> None:
    sweep = swept(0.5, seeds=10)
    losses = list(sweep.losses)
    losses[4] = losses[4][:5]
    assert imprecise(dataclasses.replace(sweep, losses=tuple(losses))) == [4]


def test_rows_may_hold_the_first_seeds_only() -> None:
    sweep = swept(0.0, seeds=10)
    losses = [row[:5] for row in sweep.losses]
    short = dataclasses.replace(sweep, losses=(*losses[:3], sweep.losses[3], *losses[4:]))
    assert short.mean_losses == pytest.approx(sweep.mean_losses)
    assert regret(short, short.best_lr) == 0.0


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_the_stored_sweep_is_complete_and_its_best_lies_inside(name: str) -> None:
    oracle = load_oracle(by_name(name))
    assert oracle.seeds == tuple(range(len(oracle.seeds)))
    assert all(len(row) >= len(SEEDS) for row in oracle.losses)
    assert imprecise(oracle) == []
    best = oracle.lrs.index(oracle.best_lr)
    assert 3 <= best < len(oracle.lrs) - 3
    assert regret(oracle, oracle.lrs[0]) >= 0.5 * (1 - 1e-9)
    assert oracle.best_loss < 0.98 * oracle.initial_loss
    steps = [math.log10(b / a) for a, b in zip(oracle.lrs, oracle.lrs[1:], strict=False)]
    assert max(steps) < 0.21


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
