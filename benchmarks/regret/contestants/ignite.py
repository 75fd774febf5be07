"""PyTorch-Ignite's ``FastaiLRFinder``, by a bare call and with the range that the others have.

The PyTorch-Ignite team, https://docs.pytorch.org/ignite/generated/
ignite.handlers.lr_finder.FastaiLRFinder.html.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from benchmarks.regret.contestants.contestant import Answer, Contestant, measured
from benchmarks.regret.problem import Task


def suggest(task: Task, seed: int, steps: int = 100, *, bare: bool) -> Answer:
    """One range test.

    Args:
        task: gives model, optimizer, loss and loader.
        seed: of the problem and of all random states.
        steps: updates asked for; without effect in the bare call.
        bare: every argument keeps its default: from the optimizer's own lr to 10 in one pass
            over the data, however long. Otherwise from 1e-7 to 10 in ``steps`` updates, with
            the ratios of the parameter groups.
    """
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    logging.getLogger("ignite").setLevel(logging.CRITICAL)
    problem = task.build(seed)
    lrs = [group["lr"] for group in problem.optimizer.param_groups]
    start = [1e-7 * lr / lrs[0] for lr in lrs] if len(lrs) > 1 else 1e-7
    settings: dict[str, Any] = {} if bare else {"num_iter": steps, "start_lr": start}

    def search() -> float:
        trainer = create_supervised_trainer(problem.model, problem.optimizer, problem.loss_fn)
        trainer.logger.setLevel(logging.CRITICAL)
        finder = FastaiLRFinder()
        finder.logger.setLevel(logging.CRITICAL)
        to_save = {"model": problem.model, "optimizer": problem.optimizer}
        with finder.attach(trainer, to_save=to_save, **settings) as with_finder:
            with_finder.run(problem.train_loader)
        lr = finder.lr_suggestion()
        return float(lr[0] if isinstance(lr, list) else lr)

    return measured(problem, seed, search)


IGNITE = (
    Contestant(
        name="ignite",
        kind="finder",
        title="Ignite FastaiLRFinder, from 1e-7, 100 steps",
        package="pytorch-ignite",
        run=functools.partial(suggest, bare=False),
        at_steps=functools.partial(suggest, bare=False),
    ),
    Contestant(
        name="ignite-bare",
        kind="finder",
        title="Ignite FastaiLRFinder, bare call",
        package="pytorch-ignite",
        run=functools.partial(suggest, bare=True),
    ),
)
