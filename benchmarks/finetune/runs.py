"""The planned run of a fine-tuning at one lr, trained by `Trainer` itself."""

from __future__ import annotations

import gc
import math
import time

import torch

from benchmarks.finetune.tasks import FineTuning, make_trainer


def initial_loss(task: FineTuning, seed: int) -> float:
    """Held-out loss before training."""
    return float(make_trainer(task, seed).evaluate()["eval_loss"])


def final_loss(task: FineTuning, lr: float, seed: int) -> float | None:
    """Held-out loss after the planned run at peak lr `lr`, or None where it is not finite."""
    trainer = make_trainer(task, seed, lr, task.steps)
    trainer.train()
    loss = float(trainer.evaluate()["eval_loss"])
    return loss if math.isfinite(loss) else None


def quick_starts() -> None:
    """Spare every `Trainer.train()` a fifth of a second.

    It begins with a garbage collection, which goes through all that has been imported.
    """
    torch.set_num_threads(1)
    gc.freeze()


def planned_seconds(task: FineTuning, seed: int, share: float = 0.3) -> float:
    """Wall time of one planned run with its evaluation, from a piece of it."""
    trainer = make_trainer(task, seed, steps=max(1, round(share * task.steps)))
    began = time.perf_counter()
    trainer.train()
    trained = time.perf_counter()
    trainer.evaluate()
    return (trained - began) / share + time.perf_counter() - trained
