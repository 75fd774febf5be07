"""The best lr of every task, from stored sweeps, and how far any other lr falls short of it.

`python -m benchmarks.regret.oracle` brings the stored sweeps up to date, `--list` shows them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import pathlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.regret.fingerprint import fingerprint
from benchmarks.regret.grid import next_unit
from benchmarks.regret.kinds import Kind
from benchmarks.regret.planned_run import trained_loss
from benchmarks.regret.problem import Task
from benchmarks.regret.runs import final_loss
from lrsearch.core.schedule import multipliers

FOLDER = pathlib.Path(__file__).parent / "oracles"
SEEDS = (0, 1, 2)


class StaleOracleError(Exception):
    """The stored sweep is missing, or belongs to an earlier version of its task."""


@dataclass(frozen=True)
class Oracle:
    """The sweep of one task.

    Attributes:
        task: name of the task.
        hash: of everything that decides the runs, see `task_hash`.
        steps: of the planned run.
        seeds: of the runs, in the order of the columns of `losses`.
        initial: held-out loss before training, per seed; of kinds, after a run at rest.
        lrs: rising; a grid 0.2 decade apart, finer next to a cliff.
        losses: final held-out loss, one row per lr, one column per seed; None where the training
            loss ceased to be finite. Rows far from the bottom may hold the first seeds only.
        last_stable_lr: the largest lr at which every seed stayed finite and ended, on average,
            below the initial loss.
        seconds: processor time of the sweep, on one thread.
        date: of the sweep, ISO 8601.
        versions: of Python, torch, NumPy and scikit-learn.
    """

    task: str
    hash: str
    steps: int
    seeds: tuple[int, ...]
    initial: tuple[float, ...]
    lrs: tuple[float, ...]
    losses: tuple[tuple[float | None, ...], ...]
    last_stable_lr: float
    seconds: float
    date: str
    versions: dict[str, str]

    @functools.cached_property
    def initial_loss(self) -> float:
        """L0: mean over seeds of the held-out loss before training."""
        return float(np.mean(self.initial))

    @functools.cached_property
    def mean_losses(self) -> npt.NDArray[np.float64]:
        """Mean over seeds at every lr, each run counted at most as bad as not training."""
        return np.array([np.mean(capped_losses(row, self.initial)) for row in self.losses])

    @functools.cached_property
    def best_lr(self) -> float:
        """The lr of the sweep with the least mean loss."""
        return self.lrs[int(np.argmin(self.mean_losses))]

    @functools.cached_property
    def best_loss(self) -> float:
        """L*: the least mean loss of the sweep."""
        return float(np.min(self.mean_losses))


def capped_losses(row: tuple[float | None, ...], initial: tuple[float, ...]) -> list[float]:
    """min(loss, initial loss) per seed; a run that diverged counts as the initial loss."""
    return [
        start if loss is None else min(loss, start)
        for loss, start in zip(row, initial[: len(row)], strict=True)
    ]


def loss_at(oracle: Oracle, lr: float) -> float:
    """Expected final loss at any lr, at most the initial loss.

    Inside the sweep it is interpolated linearly in log(lr). Beyond the last stable lr it is the
    initial loss. Below the sweep what was gained shrinks in proportion to lr, as it does where a
    run is too short to move far: sweeps reach down until half of the gain is lost.

    Raises:
        ValueError: `lr` is not a positive finite number.
    """
    if not (lr > 0 and math.isfinite(lr)):
        raise ValueError(f"lr={lr!r}: expected a positive finite number")
    lowest = oracle.lrs[0]
    if lr > oracle.last_stable_lr * (1 + 1e-6):
        return oracle.initial_loss
    if lr < lowest:
        gained = oracle.initial_loss - float(oracle.mean_losses[0])
        return oracle.initial_loss - gained * lr / lowest
    return float(np.interp(np.log(lr), np.log(oracle.lrs), oracle.mean_losses))


def regret(oracle: Oracle, lr: float) -> float:
    """(min(L(lr), L0) - L*) / (L0 - L*): the part of the attainable gain that `lr` loses.

    Returns:
        0 at the best lr of the sweep, 1 where the run gains nothing or diverges.

    Example:
        >>> from benchmarks.regret.tasks import by_name
        >>> oracle = load_oracle(by_name("quadratic-sgd"))
        >>> regret(oracle, oracle.best_lr)
        0.0
    """
    gap = oracle.initial_loss - oracle.best_loss
    return (loss_at(oracle, lr) - oracle.best_loss) / gap


def excess(oracle: Oracle, lr: float) -> float:
    """L(lr) / L* - 1, where a run that diverges counts as the initial loss."""
    return loss_at(oracle, lr) / oracle.best_loss - 1.0


def width(oracle: Oracle, tolerance: float) -> float:
    """Decades of lr around the best one whose regret is at most `tolerance`."""
    lrs = np.logspace(np.log10(oracle.lrs[0]), np.log10(oracle.lrs[-1]), 2001)
    good = np.array([regret(oracle, float(lr)) <= tolerance for lr in lrs])
    centre = int(np.argmin(np.abs(np.log(lrs / oracle.best_lr))))
    bad = np.flatnonzero(~good)
    left, right = bad[bad < centre], bad[bad > centre]
    low = lrs[left[-1] + 1] if len(left) else lrs[0]
    high = lrs[right[0] - 1] if len(right) else lrs[-1]
    return max(0.0, float(np.log10(high / low)))


def training_of(task: Task) -> Callable[[Task, float, int], float | None]:
    """The function ``(task, lr, seed) -> held-out loss or None`` that trains the planned run."""
    return trained_loss if isinstance(task, Kind) else final_loss


def task_hash(task: Task, torch_version: str = torch.__version__) -> str:
    """Hash of everything that decides the runs of `task`, as 12 hex digits.

    It covers the source that the task reaches, the training loop, the rule by which a sweep
    ends, the schedule's values, steps, batch size, seeds and torch's major.minor version. It does
    not cover the text of the standard library, which changes from one Python to the next:
    `Oracle.versions` names the Python used.
    """
    shape = [round(float(value), 9) for value in multipliers(task.schedule, task.train_steps)]
    parts: tuple[str, ...] = (
        fingerprint(task.build, training_of(task), next_unit),
        task.name,
        str(shape),
        str(task.batch_size),
        str(SEEDS),
        ".".join(torch_version.split(".")[:2]),
    )
    if isinstance(task, Kind):
        parts += (f"accumulate={task.accumulate} clip={task.clip_grad_norm}",)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def load_oracle(task: Task, folder: pathlib.Path = FOLDER) -> Oracle:
    """The stored sweep of `task`.

    Raises:
        StaleOracleError: there is none, or the task (or torch's version) has changed since.
    """
    path = folder / f"{task.name}.json"
    if not path.exists():
        raise StaleOracleError(f"no oracle for task {task.name!r} at {path}: run `make oracle`.")
    oracle = read_oracle(path)
    expected = task_hash(task)
    if oracle.hash != expected:
        raise StaleOracleError(
            f"the oracle of task {task.name!r} has hash {oracle.hash}, but the task is now "
            f"{expected}: the task, the training loop or torch ({oracle.versions['torch']} then, "
            f"{torch.__version__} now) has changed. Run `make oracle`."
        )
    return oracle


def read_oracle(path: pathlib.Path) -> Oracle:
    """Read a stored sweep, whatever its hash."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    points = raw.pop("points")
    for key in ("seeds", "initial"):
        raw[key] = tuple(raw[key])
    lrs = tuple(point["lr"] for point in points)
    return Oracle(lrs=lrs, losses=tuple(tuple(point["losses"]) for point in points), **raw)


def save_oracle(oracle: Oracle, folder: pathlib.Path = FOLDER) -> pathlib.Path:
    """Write the sweep as JSON with one lr per line; return the path."""
    raw = asdict(oracle)
    lrs, losses = raw.pop("lrs"), raw.pop("losses")
    points = [
        json.dumps({"lr": lr, "losses": list(row)}) for lr, row in zip(lrs, losses, strict=True)
    ]
    head = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in raw.items())
    path = folder / f"{oracle.task}.json"
    folder.mkdir(parents=True, exist_ok=True)
    body = ",\n".join(f"    {point}" for point in points)
    path.write_text(f'{{\n{head},\n  "points": [\n{body}\n  ]\n}}\n', encoding="utf-8")
    return path


if __name__ == "__main__":
    from benchmarks.regret.make_oracle import main

    main()
