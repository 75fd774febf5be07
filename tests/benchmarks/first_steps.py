"""The beginning of a planned run, to compare it with itself."""

from __future__ import annotations

from benchmarks.regret.planned_run import set_mode
from benchmarks.regret.problem import Task


def first_steps(task: Task, seed: int, count: int = 3) -> list[float]:
    """Losses of its first batches, each followed by an update."""
    problem = task.build(seed)
    set_mode(problem.optimizer, "train")
    losses = []
    for _, (inputs, targets) in zip(range(count), problem.train_loader, strict=False):
        loss = problem.loss_fn(problem.model(inputs), targets)
        problem.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        problem.optimizer.step()
        losses.append(loss.item())
    return losses
