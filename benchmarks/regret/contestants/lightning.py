"""Lightning's tuner, ``Tuner(trainer).lr_find``, with its defaults: 1e-8 to 1 in 100 steps.

W. Falcon and the Lightning team, https://lightning.ai/docs/pytorch/stable/advanced/
training_tricks.html. It sets every parameter group to the same lr, so its number is read as that
of the first group.
"""

from __future__ import annotations

import logging
import tempfile
from typing import Any

from benchmarks.regret.contestants.contestant import Answer, Contestant, measured
from benchmarks.regret.problem import Problem, Task


def suggest(task: Task, seed: int, steps: int = 100) -> Answer:
    """One range test in a trainer without logger, checkpoints and progress bar.

    Args:
        task: gives model, optimizer, loss and loader.
        seed: of the problem and of all random states.
        steps: updates asked for; 100 is the default.
    """
    import pytorch_lightning
    from pytorch_lightning.tuner import Tuner

    for name in ("pytorch_lightning", "lightning.pytorch", "lightning"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    problem = task.build(seed)
    module = _module(problem)

    def search() -> float | None:
        with tempfile.TemporaryDirectory() as folder:
            trainer = pytorch_lightning.Trainer(
                accelerator="cpu",
                default_root_dir=folder,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            finder = Tuner(trainer).lr_find(
                module, train_dataloaders=problem.train_loader, num_training=steps
            )
            lr: float | None = finder.suggestion()
            return lr

    return measured(problem, seed, search)


def _module(problem: Problem) -> Any:
    """The problem as a LightningModule; its ``lr`` is the attribute that the tuner looks for."""
    import pytorch_lightning

    class Module(pytorch_lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = problem.model
            self.lr = problem.optimizer.param_groups[0]["lr"]

        def training_step(self, batch: Any, _: int) -> Any:
            inputs, targets = batch
            return problem.loss_fn(self.model(inputs), targets)

        def configure_optimizers(self) -> Any:
            return problem.optimizer

    return Module()


LIGHTNING = (
    Contestant(
        name="lightning",
        kind="finder",
        title="Lightning Tuner.lr_find",
        package="pytorch-lightning",
        run=suggest,
        at_steps=suggest,
    ),
)
