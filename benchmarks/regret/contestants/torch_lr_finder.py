"""torch-lr-finder 0.2.2, as its README uses it and by a bare call.

D. Silva, https://github.com/davidtvs/pytorch-lr-finder. The suggestion is the second value of
``plot``, which computes it.
"""

from __future__ import annotations

import functools

from matplotlib.figure import Figure

from benchmarks.regret.contestants.contestant import Answer, Contestant, measured
from benchmarks.regret.problem import Task


def suggest(task: Task, seed: int, steps: int = 100, *, readme: bool) -> Answer:
    """One range test.

    Args:
        task: gives model, optimizer, loss and loader.
        seed: of the problem and of all random states.
        steps: updates asked for; 100 is the default.
        readme: the optimizer begins at 1e-7 and the test ends at 100, as in the README's
            "tweaked version from fastai"; otherwise every argument keeps its default, so that
            the test runs from the optimizer's own lr to 10.
    """
    from torch_lr_finder import LRFinder

    problem = task.build(seed)
    if readme:
        first = problem.optimizer.param_groups[0]["lr"]
        for group in problem.optimizer.param_groups:
            group["lr"] *= 1e-7 / first  # the README sets lrs per group: their ratios are kept

    def search() -> float:
        finder = LRFinder(problem.model, problem.optimizer, problem.loss_fn)
        end = {"end_lr": 100} if readme else {}
        finder.range_test(problem.train_loader, num_iter=steps, **end)
        _, lr = finder.plot(ax=Figure().add_subplot())
        finder.reset()
        return float(lr)

    return measured(problem, seed, search)


TORCH_LR_FINDER = (
    Contestant(
        name="torch-lr-finder",
        kind="finder",
        title="torch-lr-finder, as in its README",
        package="torch-lr-finder",
        run=functools.partial(suggest, readme=True),
        at_steps=functools.partial(suggest, readme=True),
    ),
    Contestant(
        name="torch-lr-finder-bare",
        kind="finder",
        title="torch-lr-finder, bare call",
        package="torch-lr-finder",
        run=functools.partial(suggest, readme=False),
    ),
)
