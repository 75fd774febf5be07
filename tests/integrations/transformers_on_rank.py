"""What the ranks of a distributed Trainer do; see ``test_transformers_distributed``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLANNED = {"train_steps": 150}  # long enough for a race to find what can be learned by heart


def _trainer(rank: int, world: int, **options: Any) -> Any:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="29500",
        OMP_NUM_THREADS="1",
    )
    from tests.integrations.tiny_trainers import make_trainer

    return make_trainer(Path(tempfile.mkdtemp()), "gpt2", gradient_accumulation_steps=2,
                        max_steps=8, rows=40, held_out=0, **options)  # fmt: skip


def _search(trainer: Any, **options: Any) -> Any:
    from lrsearch.integrations.transformers import find_lr_for

    return find_lr_for(trainer, **{"progress": False, "throw": False, **options})


def found(rank: int, world: int) -> Any:
    """The answer, what it was read from, and whether the trainer is as before."""
    from tests.integrations.test_transformers import fingerprint, measured

    trainer = _trainer(rank, world)
    before = fingerprint(trainer)
    first, second = _search(trainer, **PLANNED), _search(trainer, **PLANNED)
    same = fingerprint(trainer) == before and measured(first) == measured(second)
    return first.lr, measured(first), first.settings["lanes"], same


def afterwards(rank: int, world: int, searched: bool) -> list[float]:
    """The losses of a training, searched before or not."""
    from tests.integrations.tiny_trainers import losses

    trainer = _trainer(rank, world)
    if searched:
        _search(trainer)
    trainer.train()
    return losses(trainer) if rank == 0 else [p.sum().item() for p in trainer.model.parameters()]


def inside(rank: int, world: int) -> Any:
    """What the callback finds, and the rate of the training after it."""
    from lrsearch.integrations.transformers import LearningRateSearchCallback

    trainer = _trainer(rank, world)
    callback = LearningRateSearchCallback(trainer, progress=False, **PLANNED)
    trainer.add_callback(callback)
    trainer.train()
    return callback.result.lr, trainer.args.learning_rate


def updates(rank: int, world: int) -> Any:
    """The losses of the search's updates, and those that the trainer logs."""
    from lrsearch import Sweep
    from tests.integrations.tiny_trainers import losses

    options = {"dropout": 0.0, "lr_scheduler_type": "constant", "learning_rate": 1e-3}
    trainer = _trainer(rank, world, **options)
    result = _search(trainer, method=Sweep([1e-3]))
    trainer.train()
    return result.curves[0].loss.tolist(), losses(trainer)


def failing(rank: int, world: int) -> Any:
    """How a search ends on both ranks when the loss fails on one."""
    trainer = _trainer(rank, world)
    loss: Callable[..., Any] = trainer.compute_loss
    calls = []

    def fails(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if rank == 1 and len(calls) == 4:
            raise RuntimeError("on purpose")
        return loss(*args, **kwargs)

    trainer.compute_loss = fails
    try:
        _search(trainer, **PLANNED)
    except Exception as error:
        return type(error).__name__, trainer.optimizer is None
    return None
