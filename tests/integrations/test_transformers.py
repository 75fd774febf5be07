"""``find_lr_for`` with a Hugging Face Trainer: its answer, and a trainer left as it was."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    DefaultFlowCallback,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    set_seed,
)

from lrsearch import NoLearningRateFound, RangeTest, Result, Status
from lrsearch.integrations.transformers import LearningRateSearchCallback, find_lr_for
from tests.integrations.tiny_trainers import MODELS, lora, losses, make_trainer

QUICK: dict[str, Any] = {"method": RangeTest(12, 1e-5, 1e-1), "progress": False, "throw": False}
RACE: dict[str, Any] = {"method": "race", "progress": False}
# Batches and a run in which more is learned than their noise.
ENOUGH: dict[str, Any] = {"per_device_train_batch_size": 16, "max_steps": 40, "learning_rate": 1e-6}


def search(trainer: Trainer, **options: Any) -> Result:
    return find_lr_for(trainer, **{**QUICK, **options})


def measured(result: Result) -> list[tuple[Any, ...]]:
    """Everything that was measured, so that equal results are equal to the bit."""
    return [
        (curve.lane, curve.lr.tolist(), curve.loss.tolist(), curve.evaluations)
        for curve in result.curves
    ]


def fingerprint(trainer: Trainer) -> dict[str, Any]:
    """Everything on a trainer and below it that a search might touch."""
    model, accelerator = trainer.model, trainer.accelerator
    found: dict[str, Any] = {
        "trainer": {name: id(value) for name, value in vars(trainer).items()},
        "args": dict(vars(trainer.args)),
        "state": copy.deepcopy(vars(trainer.state)),
        "control": dict(vars(trainer.control)),
        "callbacks": list(trainer.callback_handler.callbacks),
        "handler": {name: id(value) for name, value in vars(trainer.callback_handler).items()},
        "accelerator": {
            name: list(value) if isinstance(value, list) else id(value)
            for name, value in vars(accelerator).items()
        },
        "sync": accelerator.sync_gradients,
        "reading": accelerator.gradient_state.in_dataloader,
        "config": copy.deepcopy(vars(model.config)),
        "random": torch.get_rng_state().tolist(),
        "seed": torch.initial_seed(),
    }
    for name, module in model.named_modules():
        found[f"module {name}"] = {
            key: dict(value) if isinstance(value, dict) else value
            for key, value in vars(module).items()
            if key not in ("_parameters", "_buffers")
        }
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        grad = getattr(tensor, "grad", None)
        found[name] = (id(tensor), tensor.tolist(), id(grad), tensor.requires_grad)
    if trainer.optimizer is not None:
        groups = trainer.optimizer.param_groups
        found["groups"] = [{**group, "params": list(map(id, group["params"]))} for group in groups]
        found["moments"] = [
            {name: value.tolist() for name, value in state.items()}
            for state in trainer.optimizer.state.values()
        ]
    return found


class During(TrainerCallback):
    """Calls a function when an update has been made."""

    def __init__(self, step: int, action: Callable[[], Any]) -> None:
        self.step, self.action, self.found = step, action, None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.found = self.action()


# ------------------------------------------------------------------------------ nothing is left


@pytest.mark.parametrize("kind", MODELS)
def test_everything_is_as_before(kind: str, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, kind, gradient_accumulation_steps=2, bf16=kind == "vit")
    before = fingerprint(trainer)
    search(trainer)
    assert fingerprint(trainer) == before
    assert trainer.optimizer is None
    assert trainer.lr_scheduler is None
    assert trainer.model_wrapped is trainer.model


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": "gpt2", "gradient_accumulation_steps": 2, "warmup_steps": 3},
        {"bf16": True, "activation_checkpointing": True},
        {"wrap": lora, "neftune_noise_alpha": 5.0},
        {"train_sampling_strategy": "group_by_length"},
        {"accelerator_config": {"use_seedable_sampler": False}},
        {"optim": "sgd", "lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_training_after_a_search_is_training_without_one(
    options: dict[str, Any], times: int, tmp_path: Path
) -> None:
    untouched = make_trainer(tmp_path, **options)
    untouched.train()
    trainer = make_trainer(tmp_path, **options)
    answers = [measured(search(trainer)) for _ in range(times)]
    trainer.train()
    assert losses(trainer) == losses(untouched)
    assert all(answer == answers[0] for answer in answers)


def test_a_search_between_two_trainings_changes_neither(tmp_path: Path) -> None:
    found = {}
    for searched in (False, True):
        trainer = make_trainer(tmp_path, warmup_steps=2)
        trainer.train()
        if searched:
            before = fingerprint(trainer)
            first, second = search(trainer), search(trainer)
            assert fingerprint(trainer) == before
            assert measured(first) == measured(second)
        trainer.train()
        found[searched] = losses(trainer)
    assert found[True] == found[False]


def test_a_search_inside_a_training_does_not_disturb_it(tmp_path: Path) -> None:
    untouched = make_trainer(tmp_path, gradient_accumulation_steps=2)
    untouched.train()
    trainer = make_trainer(tmp_path, gradient_accumulation_steps=2)
    during = During(7, lambda: (search(trainer, **RACE), search(trainer, **RACE)))
    trainer.add_callback(during)
    trainer.train()
    assert losses(trainer) == losses(untouched)
    first, second = during.found
    assert measured(first) == measured(second)
    assert first.settings["train_steps"] == 13


def test_the_answer_inside_a_training_is_that_of_a_trainer_resumed_there(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 8, "warmup_steps": 4}
    trainer = make_trainer(tmp_path / "a", **options)
    during = During(8, lambda: search(trainer))
    trainer.add_callback(during)
    trainer.train()
    resumed = make_trainer(tmp_path / "b", **options)
    callback = LearningRateSearchCallback(resumed, **QUICK)
    resumed.add_callback(callback)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-8"))
    assert measured(callback.result) == measured(during.found)


def test_the_answer_after_a_training_is_that_of_a_fresh_trainer_in_the_same_state(
    tmp_path: Path,
) -> None:
    trainer = make_trainer(tmp_path, optim="sgd")  # has no moments to hand over
    trainer.train()
    fresh = make_trainer(tmp_path, optim="sgd")
    fresh.model.load_state_dict(trainer.model.state_dict())
    assert measured(search(trainer)) == measured(search(fresh))


class FailsAt(Trainer):
    at, calls, error = 5, 0, RuntimeError

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == self.at:
            raise self.error("on purpose")
        return super().compute_loss(*args, **kwargs)


class InterruptedAt(FailsAt):
    error = KeyboardInterrupt


@pytest.mark.parametrize("cls", [FailsAt, InterruptedAt])
def test_an_error_in_the_loss_reaches_the_caller_after_everything_is_put_back(
    cls: type[FailsAt], tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, cls=cls)
    before = fingerprint(trainer)
    with pytest.raises(cls.error, match="on purpose"):
        search(trainer)
    assert fingerprint(trainer) == before


def test_gradients_that_were_there_are_there_again(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    for parameter in trainer.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = fingerprint(trainer)
    search(trainer)
    assert fingerprint(trainer) == before


def test_the_users_optimizer_and_scheduler_stay_what_they_were(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    optimizer = torch.optim.SGD(
        [
            {"params": list(trainer.model.bert.parameters()), "lr": 0.01},
            {"params": list(trainer.model.classifier.parameters()), "lr": 0.1},
        ],
        momentum=0.9,
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    trainer.optimizer, trainer.lr_scheduler = optimizer, scheduler
    before, kept = fingerprint(trainer), copy.deepcopy(scheduler.state_dict())
    result = search(trainer)
    assert fingerprint(trainer) == before
    assert scheduler.state_dict() == kept
    assert trainer.optimizer is optimizer
    assert result.multipliers == pytest.approx((1.0, 10.0))
    assert result.settings["schedule"] == "cosine"


# -------------------------------------------------------------------------------- the planned run


@pytest.mark.parametrize(
    ("options", "steps", "schedule"),
    [
        ({"max_steps": 20}, 20, "linear"),
        ({"max_steps": -1, "num_train_epochs": 3}, 24, "linear"),
        ({"max_steps": -1, "num_train_epochs": 2, "gradient_accumulation_steps": 3}, 6, "linear"),
        ({"lr_scheduler_type": "cosine"}, 20, "cosine"),
        ({"lr_scheduler_type": "constant"}, 20, "constant"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"}, 20, "constant"),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 5}, 20,
         "constant_with_warmup over 20 updates"),
        ({"warmup_steps": 0.1}, 20, "linear over 20 updates"),
    ],
)  # fmt: skip
def test_the_planned_run_is_read_from_the_arguments(
    options: dict[str, Any], steps: int, schedule: str, tmp_path: Path
) -> None:
    result = search(make_trainer(tmp_path, **options))
    assert result.settings["train_steps"] == steps
    assert result.settings["schedule"] == schedule


@pytest.mark.parametrize("name", ["linear", "cosine_with_restarts", "polynomial", "inverse_sqrt"])
def test_a_race_is_run_at_the_rates_of_the_trainers_schedule(name: str, tmp_path: Path) -> None:
    class Rates(TrainerCallback):
        seen: list[float]

        def __init__(self) -> None:
            self.seen = []

        def on_pre_optimizer_step(self, *args: Any, optimizer: Any, **kwargs: Any) -> None:
            self.seen.append(optimizer.param_groups[0]["lr"])

    from lrsearch import Sweep

    options = {"lr_scheduler_type": name, "warmup_steps": 4}
    rates = Rates()
    trainer = make_trainer(tmp_path, learning_rate=1e-3, **options)
    trainer.add_callback(rates)
    trainer.train()
    result = search(make_trainer(tmp_path, learning_rate=1e-3, **options), method=Sweep([1e-3]))
    assert result.curves[0].lr.tolist() == pytest.approx(rates.seen, rel=1e-9)


def test_a_race_ranks_by_the_evaluation_data_when_there_are_any(tmp_path: Path) -> None:
    assert all(c.evaluations for c in search(make_trainer(tmp_path), **RACE).curves[1:])
    without = search(make_trainer(tmp_path, held_out=0), **RACE)
    assert not any(curve.evaluations for curve in without.curves)


def test_several_evaluation_sets_count_per_example(tmp_path: Path) -> None:
    data = MODELS["bert"][1]
    both = {"a": data(4, 1), "b": data(12, 2)}
    trainer = make_trainer(tmp_path, trainer_options={"eval_dataset": both}, dropout=0.0)
    metrics = trainer.evaluate()
    mean = (4 * metrics["eval_a_loss"] + 12 * metrics["eval_b_loss"]) / 16
    from lrsearch import Sweep

    result = search(trainer, method=Sweep([1e-30]), train_steps=1)
    assert result.curves[0].evaluations[0][1] == pytest.approx(mean, rel=1e-6)


# ------------------------------------------------------------------------------- callbacks, apply


class Noisy(TrainerCallback):
    """Counts every event it hears of."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            self.heard.append(name)
        return super().__getattribute__(name)


def test_callbacks_hear_nothing_of_a_search(tmp_path: Path) -> None:
    noisy, stopping = Noisy(), EarlyStoppingCallback(early_stopping_patience=1)
    options = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"}
    trainer = make_trainer(tmp_path, load_best_model_at_end=True, save_steps=2,
                           **{**options, "save_strategy": "steps"})  # fmt: skip
    trainer.add_callback(stopping)
    trainer.add_callback(noisy)
    noisy.heard.clear()
    search(trainer, **RACE)
    assert noisy.heard == []
    assert stopping.early_stopping_patience_counter == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("warmup", [0, 3])
def test_the_callback_trains_as_if_the_rate_had_been_set_by_hand(
    warmup: int, tmp_path: Path
) -> None:
    options = {**ENOUGH, "warmup_steps": warmup}
    trainer = make_trainer(tmp_path, **options)
    callback = LearningRateSearchCallback(trainer, **RACE)
    trainer.add_callback(callback)
    trainer.train()
    assert callback.result is not None
    assert callback.result.lr != 1e-6
    by_hand = make_trainer(tmp_path, **{**options, "learning_rate": callback.result.lr})
    by_hand.train()
    assert losses(trainer) == losses(by_hand)
    logged = [[e.get("learning_rate") for e in t.state.log_history] for t in (trainer, by_hand)]
    assert logged[0] == logged[1]


def test_applied_before_training_it_is_the_rate_of_the_training(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, **ENOUGH)
    result = search(trainer, **RACE)
    result.apply(trainer)
    assert trainer.args.learning_rate == result.lr
    assert trainer.optimizer is None
    trainer.train()
    by_hand = make_trainer(tmp_path, **{**ENOUGH, "learning_rate": result.lr})
    by_hand.train()
    assert losses(trainer) == losses(by_hand)


def test_applied_after_training_it_is_the_rate_of_the_next(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, **ENOUGH)
    trainer.train()
    result = search(trainer, **RACE)
    result.apply(trainer)
    (one, two), base = trainer.optimizer.param_groups, trainer.lr_scheduler.base_lrs
    assert one["initial_lr"] == two["initial_lr"] == result.lr
    assert base == [result.lr, result.lr]
    trainer.args.max_steps = 1
    trainer.train()
    assert trainer.state.log_history[0]["learning_rate"] == result.lr


def test_a_result_without_an_answer_is_not_applied(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    result = Result.from_outcome(search(trainer), status=Status.NO_SIGNAL, lr=math.nan)
    with pytest.raises(NoLearningRateFound):
        result.apply(trainer)
    assert trainer.args.learning_rate == 1e-3


def test_a_training_without_an_answer_goes_on_when_told_to(tmp_path: Path) -> None:
    untouched = make_trainer(tmp_path, learning_rate=1e-4)
    untouched.train()
    trainer = make_trainer(tmp_path, learning_rate=1e-4)
    callback = LearningRateSearchCallback(
        trainer, method=RangeTest(10, 1e-12, 1e-11), progress=False, throw=False
    )
    trainer.add_callback(callback)
    trainer.train()
    assert callback.result.status is Status.NO_SIGNAL
    assert losses(trainer) == losses(untouched)


def test_models_made_anew_by_every_training_are_searched_as_train_makes_them(
    tmp_path: Path,
) -> None:
    from tests.integrations.tiny_trainers import arguments, texts

    def make() -> Trainer:
        set_seed(42)
        return Trainer(
            model_init=lambda: MODELS["bert"][0](),
            args=arguments(tmp_path),
            train_dataset=texts(30),
        )

    untouched = make()
    untouched.train()
    trainer = make()
    model = trainer.model
    answer = search(trainer)
    assert trainer.model is model
    trainer.train()
    assert losses(trainer) == losses(untouched)
    assert measured(search(trainer)) == measured(answer)
    assert any(isinstance(c, DefaultFlowCallback) for c in trainer.callback_handler.callbacks)
