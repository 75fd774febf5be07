"""Updates of the search are those of ``trainer.train()``: same losses, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Trainer

from lrsearch import Sweep
from lrsearch.integrations.transformers import find_lr_for
from lrsearch.integrations.transformers.beginning import begin_training
from lrsearch.integrations.transformers.kept import left_as_it_was
from lrsearch.integrations.transformers.trainable import TrainerTrainable, trainer_trainable
from lrsearch.testing import TrainableSuite
from tests.integrations.tiny_trainers import lora, losses, make_trainer

LR = 3e-3


class TwiceTheLoss(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        outputs = model(**inputs)
        return (2.0 * outputs.loss, outputs) if return_outputs else 2.0 * outputs.loss


class SumInOneStep(Trainer):
    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        return 1.5 * super().training_step(model, inputs, num_items_in_batch)


def summed(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    return torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="sum") / 3.0


CASES: dict[str, dict[str, Any]] = {
    "bert": {},
    "vit": {"kind": "vit"},
    "gpt2": {"kind": "gpt2"},
    "accumulation": {"gradient_accumulation_steps": 3},
    "counted labels": {"kind": "gpt2", "gradient_accumulation_steps": 3},
    "clipping": {"max_grad_norm": 0.05},
    "no clipping": {"max_grad_norm": 0.0},
    "bf16": {"bf16": True},
    "sgd": {"optim": "sgd", "weight_decay": 0.1},
    "adafactor": {"optim": "adafactor"},
    "label smoothing": {"label_smoothing_factor": 0.2},
    "activation checkpointing": {"activation_checkpointing": True},
    "own compute_loss": {"cls": TwiceTheLoss, "gradient_accumulation_steps": 2},
    "own training_step": {"cls": SumInOneStep},
    "compute_loss_func": {"trainer_options": {"compute_loss_func": summed}},
    "lora": {"wrap": lora},
    "dropped batch": {"dataloader_drop_last": True},
    "two workers": {"dataloader_num_workers": 2},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_losses_are_those_that_the_trainer_logs(case: dict[str, Any], tmp_path: Path) -> None:
    options = {"dropout": 0.0, "lr_scheduler_type": "constant", "max_steps": 12, **case}
    trained = make_trainer(tmp_path, learning_rate=LR, **options)
    trained.train()
    trainer = make_trainer(tmp_path, learning_rate=1.0, **options)
    with left_as_it_was(trainer):
        begin_training(trainer)
        trainable = TrainerTrainable(trainer, seed=trainer.args.seed)
        found = [trainable.step(LR) for _ in range(12)]
    assert found == losses(trained)


@pytest.mark.parametrize("options", [{}, {"held_out": 7}, {"bf16": True}], ids=str)
def test_the_held_out_loss_is_that_of_evaluate(options: dict[str, Any], tmp_path: Path) -> None:
    trained = make_trainer(tmp_path, dropout=0.0, lr_scheduler_type="constant", **options)
    trained.train()
    trainer = make_trainer(tmp_path, dropout=0.0, lr_scheduler_type="constant", **options)
    with left_as_it_was(trainer):
        begin_training(trainer)
        trainable: Any = trainer_trainable(trainer, seed=trainer.args.seed)
        for _ in range(20):
            trainable.step(1e-3)
        found = trainable.evaluate().loss
    assert found == trained.evaluate()["eval_loss"]


class TestTrainerTrainable(TrainableSuite):
    lr = 1e-2

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self) -> Any:
        trainer = make_trainer(self.folder, "gpt2", gradient_accumulation_steps=2)
        begin_training(trainer)
        return trainer_trainable(trainer)


class Guarded(Trainer):
    """Its loss raises where the outputs are too large, as those that check their arguments do."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        outputs = model(**inputs)
        if not outputs.logits.abs().max() < 1e2:
            raise ValueError("the outputs are too large for this loss")
        return (outputs.loss, outputs) if return_outputs else outputs.loss


def test_a_step_that_raises_where_training_diverged_ends_the_trial_only(tmp_path: Path) -> None:
    result = find_lr_for(
        make_trainer(tmp_path, cls=Guarded, optim="sgd"),
        method=Sweep([LR, 1e4]),
        train_steps=6,
        schedule="constant",
        progress=False,
        throw=False,
    )
    fine, broken, _ = result.curves
    assert len(fine) == 6
    assert not torch.isfinite(torch.tensor(broken.loss[-1]))
