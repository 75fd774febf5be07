"""Optuna at the same cost as the race: TPE with Hyperband, and successive halving.

T. Akiba et al., "Optuna", arXiv 1907.10902. Hyperband: L. Li et al., arXiv 1603.06560;
asynchronous successive halving: L. Li et al., arXiv 1810.05934; TPE: J. Bergstra et al.,
"Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.

A trial trains with the planned schedule laid over ``budget / 3`` planned runs (at most one), so
that a few trials can end within the budget, and reports the held-out loss at the steps where the
pruner decides. Trials are made until the steps of the budget are spent.
"""

from __future__ import annotations

import functools
import time
from typing import Any

from benchmarks.regret.contestants.contestant import Answer, Contestant, described, quiet
from benchmarks.regret.planned_run import PlannedRun
from benchmarks.regret.problem import Task

BUDGETS = (0.3, 1.0, 3.0)  # planned runs
DECADES = 4.0  # width of the space in log10(lr): that of Optuna's own examples, 1e-5 to 1e-1
RUNGS = 3  # how often a trial can be pruned
SHARE = 1 / 3  # of the budget that the longest trial may take


def space(task: Task) -> tuple[float, float]:
    """Four decades around the lr that the task's optimizer comes with, its customary value.

    Optuna's own examples search 1e-5 to 1e-1, four decades around Adam's default; centring them
    on each task's optimizer is kinder to Optuna than that fixed range.
    """
    customary = task.build(0).optimizer.param_groups[0]["lr"]
    return customary * 10 ** (-DECADES / 2), customary * 10 ** (DECADES / 2)


def suggest(task: Task, seed: int, *, budget: float, pruner: str) -> Answer:
    """A study of as many trials as ``budget`` planned runs allow.

    Args:
        task: gives the planned run.
        seed: of the sampler and of every trial's problem.
        budget: steps to spend, in planned runs.
        pruner: "hyperband", with the TPE sampler, or "halving", with random search.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    limit = max(1, round(budget * task.train_steps))
    longest = min(task.train_steps, max(1, round(limit * SHARE)))
    rungs = _rungs(longest, eta=3 if pruner == "hyperband" else 4)
    began = time.perf_counter()
    spent, lr, message = 0, None, ""
    with quiet():
        study = _study(optuna, pruner, rungs[0], longest, f"{task.name}-{seed}", seed)
        low, high = space(task)
        try:
            while spent < limit:
                spent += _trial(optuna, study, task, seed, (low, high), rungs, limit - spent)
            lr = float(study.best_trial.params["lr"])
        except Exception as error:
            message = described(error)
    return Answer(lr, spent, time.perf_counter() - began, message)


def _rungs(longest: int, eta: int) -> tuple[int, ...]:
    """Steps at which a trial reports: where the pruners decide, and its end."""
    first = max(1, longest // eta**RUNGS)
    rungs = dict.fromkeys(min(first * eta**k, longest) for k in range(RUNGS))
    return (*(rung for rung in rungs if rung < longest), longest)


def _study(optuna: Any, pruner: str, first: int, longest: int, name: str, seed: int) -> Any:
    if pruner == "hyperband":
        return optuna.create_study(
            study_name=name,  # Hyperband deals out its brackets by the study's name
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.HyperbandPruner(min_resource=first, max_resource=longest),
        )
    return optuna.create_study(
        study_name=name,
        sampler=optuna.samplers.RandomSampler(seed=seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=first),
    )


def _trial(
    optuna: Any,
    study: Any,
    task: Task,
    seed: int,
    bounds: tuple[float, float],
    rungs: tuple[int, ...],
    left: int,
) -> int:
    """Make one trial; the steps it took, at most ``left``."""
    trial = study.ask()
    lr = trial.suggest_float("lr", *bounds, log=True)
    run = PlannedRun(task, seed, lr, steps=rungs[-1])
    state = optuna.trial.TrialState
    for rung in rungs:
        run.advance(min(rung, left))
        loss = run.held_out()
        if loss is None:
            study.tell(trial, state=state.FAIL)
            return max(run.done, 1)
        if run.done < rung:  # the budget is spent
            study.tell(trial, state=state.PRUNED)
            return run.done
        trial.report(loss, rung)
        if rung == rungs[-1]:
            study.tell(trial, loss)
        elif trial.should_prune():
            study.tell(trial, state=state.PRUNED)
            return run.done
    return run.done


OPTUNA = tuple(
    Contestant(
        name=f"optuna-{pruner}-{budget:g}",
        kind="search",
        title=f"Optuna {words}, budget {budget:g}",
        package="optuna",
        run=functools.partial(suggest, budget=budget, pruner=pruner),
    )
    for pruner, words in (("hyperband", "TPE + Hyperband"), ("halving", "successive halving"))
    for budget in BUDGETS
)
